package cdc

import (
	"fmt"
	"strings"
	"testing"

	"newswire/fanout/journal"
)

// Sections are news themselves, and say what the articles in them are tagged.
func TestTruncatedNewsThatTagsOtherNewsKeepsItsOrder(t *testing.T) {
	t.Parallel()
	const rows = 2*spoolMessages + 10
	db, j := newCMS(t), watch(t)
	db.Exec(`CREATE TABLE sections (article bigint PRIMARY KEY, name text)`)
	cfg := cmsConfig(db)
	cfg.Tables[0].Tags = Tags{Query: "SELECT name FROM sections WHERE article = $1", Links: []Link{{Table: "sections", Key: []string{"article"}}}}
	cfg.Tables = append(cfg.Tables, Table{Name: "sections", Data: []string{"name"}, Tags: Tags{Column: "name"}})
	listen(t, cfg, j).ready()
	db.Exec(fmt.Sprintf(`INSERT INTO articles (id, title) SELECT n, 'row ' || n FROM generate_series(1, %d) n; INSERT INTO sections VALUES (1, 'tech')`, rows))
	j.wait(t, rows+1)
	db.Exec(`UPDATE sections SET name = 'ai'`) // of both, each with an ordinal
	j.wait(t, rows+3)
	db.Exec(`TRUNCATE sections`)
	got := j.wait(t, rows+5)[rows+3:]
	wantMessages(t, got, want{journal.Retract, `{"article":1}`, "ai", ""}, want{journal.Correct, `{"id":1}`, "general", "ai"})
}

func TestColumnsThatNobodyNamesMayGoWhileLinksChange(t *testing.T) {
	t.Parallel()
	db, j := newCMS(t), newMemJournal()
	cfg := cmsConfig(db)
	cfg.Tables[0].Data = nil // all there are
	listen(t, cfg, j).ready()
	s := script{db: db, j: j}
	s.step(t, `INSERT INTO articles (id, title) VALUES (1, 'a')`, want{journal.Publish, `{"id":1}`, "general", ""})
	s.step(t, `INSERT INTO articles_tags VALUES (1, 1)`, want{journal.Correct, `{"id":1}`, "tech", "general"})
	db.Exec(`ALTER TABLE articles DROP COLUMN body`)
	s.step(t, `INSERT INTO articles_tags VALUES (1, 2)`, want{journal.Correct, `{"id":1}`, "ai,tech", ""})
}

func TestLargeAnswersAreStoredInParts(t *testing.T) {
	t.Parallel()
	const rows, size = 600, 50_000
	db, j := newCMS(t), watch(t)
	db.Exec(`CREATE TABLE flashes (id int PRIMARY KEY, title text); ALTER TABLE articles ALTER body SET STORAGE EXTERNAL`)
	cfg := cmsConfig(db)
	cfg.Tables = append(cfg.Tables, Table{Name: "flashes", Data: []string{"title"}, Tags: Tags{Column: "title"}})
	listen(t, cfg, j).ready()
	db.Exec(fmt.Sprintf(`INSERT INTO articles (id, title, body) SELECT n, 'row', repeat('x', %d) FROM generate_series(1, %d) n`, size, rows))
	j.wait(t, rows)
	check := func(statement string, from int) {
		t.Helper()
		j.mu.Lock()
		j.parts = nil
		j.mu.Unlock()
		db.Exec(statement)
		for i, m := range j.wait(t, from+rows)[from:] {
			if string(m.Key) != fmt.Sprintf(`{"id":%d}`, i+1) || len(m.Data) < size || !strings.Contains(string(m.Data), "xxx") {
				t.Fatalf("message %d has key %s and %d bytes of data", i, m.Key, len(m.Data))
			}
		}
		j.bounded(t, rows*size/spoolBytes-1)
	}
	check(`INSERT INTO articles_tags SELECT n, 1 FROM generate_series(1, 600) n`, rows)
	check(`UPDATE articles SET title = 'other'`, 2*rows) // their bodies are not in the stream
	// Others come in between, and wait for no answer.
	db.Exec(fmt.Sprintf(`DO $$ BEGIN FOR n IN 1..%d LOOP
		UPDATE articles SET title = 'last' WHERE id = n; INSERT INTO flashes VALUES (n, 'f'); END LOOP; END $$`, rows))
	for i, m := range j.wait(t, 5*rows)[3*rows:] {
		if want := []string{"public.articles", "public.flashes"}[i%2]; m.Source != want || m.ID.Ordinal != uint32(i) {
			t.Fatalf("message %d is of %s and has ordinal %d", i, m.Source, m.ID.Ordinal)
		}
	}
	j.bounded(t, 2*(rows*size/spoolBytes-1))
}
