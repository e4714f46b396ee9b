package cdc

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
)

// TestChangesThatAreNotPublishedAreTold takes them off the publication: at the
// start there is a warning, and where rows wait no start at all.
func TestChangesThatAreNotPublishedAreTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec("ALTER PUBLICATION " + db.Publication + " SET (publish = 'insert, delete')")
	if err := Preflight(t.Context(), articles(db)); err != nil {
		t.Errorf("Preflight = %v", err)
	}
	err := Preflight(t.Context(), embargoed(db))
	if err == nil || !hasLine(err.Error(), []string{"does not publish updates, truncates", "public.articles", "the time in published_at", "ALTER PUBLICATION"}) {
		t.Errorf("Preflight of rows that wait = %v", err)
	}

	var logged bytes.Buffer
	l := &Listener{cfg: articles(db), journal: newMemJournal(), log: slog.New(slog.NewTextHandler(&logged, nil))}
	c := &catalog{cfg: l.cfg}
	defer c.close()
	look := func() string {
		logged.Reset()
		l.inspect(t.Context(), c)
		return logged.String()
	}
	if got := look(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, `unpublished="updates, truncates"`) {
		t.Errorf("the first look logs %q", got)
	}
	if got := look(); got != "" {
		t.Errorf("the second look logs %q, want nothing new", got)
	}
	db.Exec("ALTER PUBLICATION " + db.Publication + " SET (publish = 'insert, update, delete, truncate')")
	if got := look(); got != "" {
		t.Errorf("with all changes published it logs %q", got)
	}
}
