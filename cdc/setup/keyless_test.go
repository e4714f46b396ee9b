package setup_test

import (
	"strings"
	"testing"

	"newswire/cdc"
	"newswire/cdc/pgtest"
	"newswire/cdc/setup"
)

// TestATableWithoutAKeyTakesNothingFromOthers maps one beside a table that has
// a key: in one publication the changes of both could not be published.
func TestATableWithoutAKeyTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	const tables = pgtest.Articles + `; CREATE TABLE nopk (id int, title text, published_at timestamptz)`
	keyless := cdc.Table{Name: "nopk", Tags: cdc.Tags{Columns: []string{"title"}}}
	for name, c := range map[string]struct {
		before string
		only   bool // the table without a key is the only one
		waits  bool
		want   []string // in the refusal; none: setup does it
	}{
		"beside one with a key": {
			want: []string{"public.nopk has no usable replica identity", "of public.articles corrections", "primary key", "take it out of postgres.tables"},
		},
		"with a key that may be deferred": {
			before: "ALTER TABLE nopk ADD PRIMARY KEY (id) DEFERRABLE",
			want:   []string{"public.nopk has no usable replica identity"},
		},
		"beside one with a key, with a replica identity": {before: "ALTER TABLE nopk REPLICA IDENTITY FULL"},
		"alone":                    {only: true},
		"alone, and its rows wait": {only: true, waits: true, want: []string{"table public.nopk has no primary key", "the time in published_at"}},
		"alone, and its rows wait for a key that may be deferred": {
			before: "ALTER TABLE nopk ADD PRIMARY KEY (id) DEFERRABLE", only: true, waits: true,
			want: []string{"table public.nopk has no primary key", "the time in published_at"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t, pgtest.WithSchema(tables), pgtest.WithPublication(""))
			conn, cfg := clean(t, db), config(db)
			if c.before != "" {
				db.Exec(c.before)
			}
			mapped := keyless
			if c.waits {
				mapped.Published = &cdc.Published{Column: "published_at", Reached: true}
			}
			cfg.Tables = append(cfg.Tables[:1:1], mapped)
			if c.only {
				cfg.Tables = cfg.Tables[1:]
			}
			p, err := setup.Prepare(t.Context(), conn, wanted(t, cfg), setup.Options{})
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				apply(t, conn, p)
				if err := cdc.Preflight(t.Context(), cfg); err != nil {
					t.Errorf("Preflight = %v", err)
				}
				return
			}
			for _, part := range c.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("Prepare = %v, want %q in it", err, part)
				}
			}
			// A publication that an earlier version made so is refused as well.
			db.Exec("CREATE ROLE " + cfg.Slot + " LOGIN REPLICATION; CREATE PUBLICATION " + cfg.Publication + " FOR ALL TABLES WITH (publish = 'insert, truncate'); " +
				"COMMENT ON PUBLICATION " + cfg.Publication + " IS '" + setup.Mark + "'; GRANT SELECT ON articles, nopk TO " + cfg.Slot)
			db.CreateSlot(cfg.Slot)
			err = cdc.Preflight(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), "public.nopk has no") {
				t.Errorf("Preflight = %v, want a word about public.nopk", err)
			}
		})
	}
}
