package cdc

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// editors insert rows with ids from 1 on, one commit each, until stop; it gives
// the last id. Whatever is done to their table meanwhile, each INSERT succeeds.
func editors(t *testing.T, db *pgtest.DB) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	conn := db.Connect()
	done := make(chan int, 1)
	go func() {
		id := 0
		for ctx.Err() == nil {
			id++
			if _, err := conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO articles (id, title, tags) VALUES (%d, 'row %d', '{tech}')`, id, id)); err != nil {
				t.Errorf("an editor cannot save: %v", err)
				break
			}
		}
		done <- id
	}()
	var last int
	return func() int {
		if cancel(); last == 0 {
			last = <-done
		}
		return last
	}
}

// TestSchemaChangesUnderLoadLoseNothing changes everything about a table that
// leaves the mapped columns there, while editors write to it.
func TestSchemaChangesUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	for _, setUp := range []bool{false, true} {
		t.Run(fmt.Sprintf("as set up %t", setUp), func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), newMemJournal()
			db.Exec(`CREATE TABLE other (id int PRIMARY KEY, title text, tags text[])`)
			cfg := articles(db)
			cfg.Tables = append(cfg.Tables, Table{Name: "other", Tags: Tags{Column: "tags"}, Data: []string{"id", "title"}})
			if setUp {
				cfg.Publication = narrow(t, db, cfg)
			}
			l := listen(t, cfg, j).ready()
			db.Exec(`INSERT INTO other SELECT n, 'o' FROM generate_series(1, 3) n`)
			stop := editors(t, db)
			defer stop()
			for _, ddl := range []string{
				`ALTER TABLE articles ADD COLUMN extra jsonb NOT NULL DEFAULT '[1]'`,
				`ALTER TABLE articles DROP COLUMN url`,
				`ALTER TABLE articles RENAME COLUMN summary TO teaser`,
				`ALTER TABLE articles ALTER COLUMN teaser TYPE int USING 0`,
				`ALTER TABLE articles ALTER COLUMN id TYPE numeric`,
				`ALTER TABLE articles ALTER COLUMN title TYPE varchar(100)`,
				`CREATE INDEX ON articles (title); CLUSTER articles USING articles_pkey`,
				`ALTER PUBLICATION ` + cfg.Publication + ` SET (publish = 'insert, update, delete')`,
				`ALTER TABLE other ADD COLUMN more text; UPDATE other SET title = 'p' WHERE id = 1; DELETE FROM other WHERE id = 2`,
				`ALTER PUBLICATION ` + cfg.Publication + ` SET (publish = 'insert, update, delete, truncate')`,
				`TRUNCATE other`,
				`ALTER TABLE articles RENAME TO stories; ALTER TABLE stories RENAME TO articles`,
			} {
				if setUp && strings.Contains(ddl, "TYPE numeric") || setUp && strings.Contains(ddl, "TYPE varchar") {
					continue // PostgreSQL refuses to alter the type of a listed column
				}
				db.Exec(ddl)
				// Some commits on the new shape, before it changes again.
				many := len(arrived(j, "public.articles"))
				j.until(t, func() bool { return len(of(j.messages, "public.articles")) >= many+5 })
			}
			last := stop()
			j.until(t, func() bool { return len(of(j.messages, "public.articles")) >= last })
			for i, m := range arrived(j, "public.articles") {
				if want := fmt.Sprintf(`{"id":%d}`, i+1); string(m.Key) != want || field(t, m, "title") != fmt.Sprintf("row %d", i+1) {
					t.Fatalf("message %d is %s of %s with %s", i, m.Action, m.Key, m.Data)
				}
			}
			const want = "publish {\"id\":1} general-\npublish {\"id\":2} general-\npublish {\"id\":3} general-\n" +
				"correct {\"id\":1} general-\nretract {\"id\":2} general-\nretract {\"id\":1} general-\nretract {\"id\":3} general-"
			if s := story(arrived(j, "public.other")); s != want {
				t.Errorf("of the other table readers learn\n%s\nwant\n%s", s, want)
			}
			if n := counter(t, l.metrics.connects); n != 1 {
				t.Errorf("%v streams, want the first one still", n)
			}
		})
	}
}

// of gives the messages about a table.
func of(messages []journal.Message, source string) (list []journal.Message) {
	for _, m := range messages {
		if m.Source == source {
			list = append(list, m)
		}
	}
	return list
}

func arrived(j *memJournal, source string) []journal.Message {
	j.mu.Lock()
	defer j.mu.Unlock()
	return of(j.messages, source)
}

// TestMappedColumnThatIsGoneStopsIntake and nothing else: what was committed
// before arrives, and mended it goes on with the first row behind the change.
func TestMappedColumnThatIsGoneStopsIntake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ddl  string
		mend func(db *pgtest.DB, cfg *Config)
	}{
		"dropped":             {`ALTER TABLE articles DROP COLUMN title`, func(_ *pgtest.DB, cfg *Config) { cfg.Tables[0].Data = []string{"id"} }},
		"renamed":             {`ALTER TABLE articles RENAME COLUMN title TO headline`, func(_ *pgtest.DB, cfg *Config) { cfg.Tables[0].Data[1] = "headline" }},
		"made anew without":   {`DROP TABLE articles; CREATE TABLE articles (id bigint PRIMARY KEY, tags text[])`, func(_ *pgtest.DB, cfg *Config) { cfg.Tables[0].Data = []string{"id"} }},
		"off the column list": {`ALTER PUBLICATION $NAME SET TABLE articles (id, tags)`, func(_ *pgtest.DB, cfg *Config) { cfg.Tables[0].Data = []string{"id"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listed := strings.Contains(c.ddl, "PUBLICATION")
			options := []pgtest.Option{pgtest.WithPublication("FOR ALL TABLES")}
			if listed {
				options[0] = pgtest.WithPublication("FOR TABLE articles")
			}
			db, j := pgtest.New(t, options...), newMemJournal()
			if listed && pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) < 150000 {
				t.Skip("PostgreSQL 14 has no column lists")
			}
			cfg := articles(db)
			l := listen(t, cfg, j).ready()
			db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'before')`)
			db.Exec(strings.ReplaceAll(c.ddl, "$NAME", db.Name))
			db.Exec(`INSERT INTO articles (id) VALUES (2)`)
			db.Exec(`INSERT INTO articles (id) VALUES (3)`)
			err := l.fails(ErrMapping)
			const want = "column title of public.articles, which postgres.tables[0].data[1] names, is no longer in the replication stream"
			if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "newswire resync") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one sentence with %q", err, want)
			}
			j.wait(t, 1) // nothing of what came behind
			c.mend(db, &cfg)
			listen(t, cfg, j).ready()
			if s := story(j.wait(t, 3)[1:]); s != "publish {\"id\":2} general-\npublish {\"id\":3} general-" {
				t.Errorf("once mended, readers learn\n%s", s)
			}
		})
	}
}

// TestTableMadeAnewGoesOn under the same name, and its rows are news.
func TestTableMadeAnewGoesOn(t *testing.T) {
	t.Parallel()
	db, j := pgtest.New(t), newMemJournal()
	listen(t, articles(db), j).ready()
	db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'a')`)
	db.Exec(`DROP TABLE articles; CREATE TABLE articles (tags text[], title text, id bigint PRIMARY KEY, note text)`)
	db.Exec(`INSERT INTO articles (id, title) VALUES (2, 'b'); UPDATE articles SET note = 'x'; UPDATE articles SET title = 'c'`)
	const want = "publish {\"id\":1} general-\npublish {\"id\":2} general-\ncorrect {\"id\":2} general-"
	if s := story(j.wait(t, 3)); s != want {
		t.Errorf("readers learn\n%s\nwant\n%s", s, want)
	}
}

// TestColumnThatCameBackStillStopsAtTheRowsWithoutIt: the log has those as they
// were saved, so the two ways on that the error names are the ways on.
func TestColumnThatCameBackStillStopsAtTheRowsWithoutIt(t *testing.T) {
	t.Parallel()
	for name, goOn := range map[string]func(t *testing.T, cfg Config, j *memJournal){
		"without the column, and with it later": func(t *testing.T, cfg Config, j *memJournal) {
			without := cfg
			without.Tables = []Table{cfg.Tables[0]}
			without.Tables[0].Data = []string{"id"}
			l := listen(t, without, j).ready()
			j.wait(t, 2)
			l.halt()
		},
		"resync": func(t *testing.T, cfg Config, j *memJournal) { mend(t, cfg, j) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, j := pgtest.New(t), newMemJournal()
			cfg := articles(db)
			l := listen(t, cfg, j).ready()
			db.Exec(`INSERT INTO articles (id, title) VALUES (1, 'before')`)
			j.wait(t, 1)
			db.Exec(`ALTER TABLE articles RENAME COLUMN title TO headline; INSERT INTO articles (id) VALUES (2); ALTER TABLE articles RENAME COLUMN headline TO title`)
			for range 2 {
				err := l.fails(ErrMapping)
				for _, part := range []string{"without the column", "newswire resync"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
				free(t, db)
				l = listen(t, cfg, j)
			}
			l.fails(ErrMapping)
			free(t, db)
			goOn(t, cfg, j)
			free(t, db)
			listen(t, cfg, j).ready()
			db.Exec(`INSERT INTO articles (id, title) VALUES (3, 'behind')`)
			if s := story(j.wait(t, 3)[1:]); s != "publish {\"id\":2} general-\npublish {\"id\":3} general-" {
				t.Errorf("readers learn\n%s", s)
			}
		})
	}
}
