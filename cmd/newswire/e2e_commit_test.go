package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestTransactionsArriveWholeOrNotAtAll commits and rolls back, interleaved on
// several connections, in every way in which rows get into a table.
func TestTransactionsArriveWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db})
	reader := e.Dial("u1", gatewaytest.Options{Follow: []string{"*"}})
	reader.Welcome()

	one, two := db.Connect(), db.Connect()
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(one, "BEGIN")
	exec(one, "INSERT INTO articles (title, tags) SELECT 'large ' || n, ARRAY['large', 'n' || n % 7] FROM generate_series(1, 2000) n")
	exec(two, "BEGIN")
	exec(two, "INSERT INTO articles (title, tags) VALUES ('never', '{tech}')")
	harness.Psql(t, db, "INSERT INTO articles (title, tags) VALUES ('begun later, committed first', '{tech}')")
	exec(two, "ROLLBACK")
	exec(one, "COMMIT")
	exec(two, "BEGIN; INSERT INTO articles (title) VALUES ('kept'); SAVEPOINT s; INSERT INTO articles (title) VALUES ('lost'); ROLLBACK TO s; COMMIT")
	copied := [][]any{{"copied", "https://example.com/1", []string{"tech"}}, {"copied too", nil, nil}, {"and this", nil, []string{}}}
	if _, err := one.CopyFrom(t.Context(), pgx.Identifier{"articles"}, []string{"title", "url", "tags"}, pgx.CopyFromRows(copied)); err != nil {
		t.Fatal(err)
	}
	exec(one, `INSERT INTO articles (title, summary, tags) VALUES ('odd "text" \ and ü 🗞', E'two\nlines\t', '{tech,"a b",NULL,"",tech}')`)
	const wanted = 1 + 2000 + 1 + 3 + 1
	reader.WaitMessages(wanted)
	e.AwaitSettled()
	reader.Sync()
	articles := witness.Articles(t)
	if len(articles) != wanted {
		t.Fatalf("the witness saw %d articles, want %d", len(articles), wanted)
	}
	for n := range articles { // as CONTRACT.md says what becomes of a row's tags
		switch a := &articles[n]; {
		case len(a.Tags) == 0:
			a.Tags = []string{"general"}
		case len(a.Tags) == 5:
			a.Tags = []string{"tech", "a b"}
		}
	}
	verify(t, harness.History{
		Articles: articles, Once: true,
		Readers: []harness.Reader{{
			Name: "u1", Wants: harness.Follows("*"), Connections: harness.Connections(reader), Acked: harness.Acked(reader),
		}},
	})
}

// TestChangesOfARowReachWhoeverHadIt corrects, moves and deletes an article:
// the followers of its tags before and after are told, and others are not.
func TestChangesOfARowReachWhoeverHadIt(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	tech := e.Dial("tech", gatewaytest.Options{Follow: []string{"tech"}})
	sport := e.Dial("sport", gatewaytest.Options{Follow: []string{"sport"}})
	tech.Welcome()
	sport.Welcome()
	key := article(db, "first", "tech")
	db.Exec("UPDATE articles SET title = 'second' WHERE id = $1", key)
	db.Exec("UPDATE articles SET status = 'seen' WHERE id = $1", key) // not a column that readers get
	db.Exec("UPDATE articles SET tags = '{sport}' WHERE id = $1", key)
	db.Exec("DELETE FROM articles WHERE id = $1", key)
	article(db, "last", "tech", "sport")
	want := func(r *gatewaytest.Reader, actions ...string) {
		t.Helper()
		var got []string
		for _, f := range r.WaitMessages(len(actions)) {
			got = append(got, f.Action)
			if wanted := fmt.Sprintf(`{"id":%d}`, key); f.Data["title"] != "last" && string(f.Key) != wanted {
				t.Errorf("%s of key %s, want %s", f.Action, f.Key, wanted)
			}
			if _, has := f.Data["title"]; f.Action == "retract" && (has || f.Data["id"] != float64(key)) {
				t.Errorf("retract with the data %v, want the key alone", f.Data)
			}
		}
		if !slices.Equal(got, actions) {
			t.Errorf("got %q, want %q", got, actions)
		}
	}
	want(tech, "publish", "correct", "correct", "publish")
	want(sport, "correct", "retract", "publish")
	e.AwaitSettled()
}
