package site_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/gateway/browser"
	"newswire/gateway/browser/browsertest"
)

// js is a value as a JavaScript literal.
func js(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// openPage loads the page as the gateway serves it, but for the readers' sockets.
func openPage(t *testing.T, editorDSN string) *browsertest.Tab {
	t.Helper()
	s, _ := newSite(t, editorDSN)
	mux := http.NewServeMux()
	mux.Handle("/", s)
	mux.HandleFunc("GET /newswire.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(browser.Script)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	tab := browsertest.Open(t)
	tab.Load(server.URL)
	return tab
}

func TestTheFormWritesSQLThatSavesWhatWasTyped(t *testing.T) {
	t.Parallel()
	db, dsn := cms(t)
	tab := openPage(t, dsn)
	type article struct {
		Title, Summary string
		Tags           []string
		Status         string
	}
	articles := []article{
		{`It's "quoted" \ $1 $$ -- ; DROP TABLE articles`, `a 'summary'`, []string{"tech", `o'tag`, `back\slash`, `{br`, `"q"`}, "published"},
		{"Zürich 新聞 🗞", "two\nlines", nil, "draft"},
		{"''", "", []string{"*", "NULL"}, "published"},
	}
	for i, a := range articles {
		tab.Do(fmt.Sprintf(`for (const [name, value] of Object.entries(%s)) {
			const field = document.getElementById(name);
			field.value = value;
			field.dispatchEvent(new Event("input"));
		}
		document.querySelector("#editor [type=submit]").click()`, js(t, map[string]string{
			"title": a.Title, "summary": a.Summary, "tags": strings.Join(a.Tags, " , "), "status": a.Status,
		})))
		said := browsertest.Eval[string](tab, resultOnceSaved)
		if !strings.Contains(said, "INSERT 0 1") {
			t.Fatalf("saving %q says %q", a.Title, said)
		}
		where := fmt.Sprintf(" FROM articles WHERE id = %d", i+1)
		got := article{
			pgtest.Value[string](db, "SELECT title"+where),
			pgtest.Value[string](db, "SELECT coalesce(summary, '')"+where),
			pgtest.Values[string](db, "SELECT unnest(tags)"+where),
			pgtest.Value[string](db, "SELECT status"+where),
		}
		if got.Title != a.Title || got.Summary != a.Summary || !slices.Equal(got.Tags, a.Tags) || got.Status != a.Status {
			t.Errorf("typed %+v, saved %+v", a, got)
		}
	}
}

// resultOnceSaved is a promise of the result line, once the request has come back.
const resultOnceSaved = `new Promise((resolve) => {
	const look = () => {
		if (document.querySelector("#editor [type=submit]").disabled) return setTimeout(look, 5);
		resolve(document.getElementById("result").textContent);
	};
	look();
})`

func TestTheSQLCanBeWrittenByHandAndItsErrorIsShown(t *testing.T) {
	t.Parallel()
	db, dsn := cms(t)
	tab := openPage(t, dsn)
	run := func(sql string) string {
		tab.Do(`document.getElementById("sql").value = ` + js(t, sql) + `; document.querySelector("#editor [type=submit]").click()`)
		return browsertest.Eval[string](tab, resultOnceSaved)
	}
	if said := run("DROP TABLE articles"); !strings.Contains(said, "must be owner of table articles") || !strings.Contains(said, "42501") {
		t.Errorf("a refused statement says %q", said)
	}
	if said := run("BEGIN; INSERT INTO articles (title) VALUES ('by hand'); COMMIT"); !strings.Contains(said, "BEGIN, INSERT 0 1, COMMIT") {
		t.Errorf("a transaction says %q", said)
	}
	if got := pgtest.Values[string](db, "SELECT title FROM articles"); !slices.Equal(got, []string{"by hand"}) {
		t.Errorf("the table holds %q", got)
	}
}

func TestThePageFitsItsWindow(t *testing.T) {
	t.Parallel()
	tab := openPage(t, noDatabase)
	for _, width := range []int64{1200, 400} {
		tab.Resize(width, 900)
		if got := browsertest.Eval[int64](tab, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("in a window of %d the page is %d wide", width, got)
		}
	}
	names := browsertest.Eval[[]string](tab, `[...document.querySelectorAll("input, textarea, select, button")].filter((e) =>
		!e.labels?.length && !e.getAttribute("aria-label") && !e.textContent.trim()).map((e) => e.outerHTML)`)
	if len(names) > 0 {
		t.Errorf("controls without a name: %q", names)
	}
}
