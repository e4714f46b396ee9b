package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"newswire/cdc/doctor"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/config"
	"newswire/cmd/newswire/internal/harness"
)

// examined is a configuration whose admin address nobody serves.
func examined(db *pgtest.DB, brokers string) string {
	return `postgres:
  dsn: "` + db.DSN + `"
  slot: ` + db.Name + `
  publication: ` + db.Name + `
  tables: [{name: public.articles, tags: {column: tags}, data: [id, title]}]
journal: {dir: journal}
gateway: {admin: "127.0.0.1:1"}
offline: {brokers: ["` + brokers + `"]}
`
}

func TestDoctorEndsWithOneWhenSomethingIsFatal(t *testing.T) {
	db := pgtest.New(t)
	code, stdout, stderr := call(t, examined(db, "embedded"), nil, "doctor")
	if code != exitDone || stderr != "" || !strings.Contains(stdout, "\n0 fatal, ") && !strings.HasPrefix(stdout, "0 fatal, ") {
		t.Errorf("in order: code %d, %s\n%s", code, stderr, stdout)
	}
	db.Exec("ALTER TABLE articles DROP CONSTRAINT articles_pkey")
	code, stdout, stderr = call(t, examined(db, "embedded"), nil, "doctor")
	const finding = "fatal  replica-identity        public.articles: the publication carries its changes, but the table has no replica identity, so every UPDATE and DELETE on it fails\n" +
		"                               remedy: give the table a primary key, or run `newswire setup --apply`, or take the table out of publication "
	if code != exitFailed || !strings.HasPrefix(stdout, finding) || stderr != "newswire: fatal findings: 1; newswire cannot serve so, or editors cannot save\n" {
		t.Errorf("no replica identity: code %d, %s\n%s", code, stderr, stdout)
	}
}

func TestDoctorTellsPrograms(t *testing.T) {
	db := pgtest.New(t, pgtest.WithoutSlot())
	code, stdout, _ := call(t, examined(db, "127.0.0.1:1"), nil, "doctor", "--json")
	var report struct {
		Fatal, Warn, OK int
		Findings        []doctor.Finding
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFailed || report.Fatal != 1 {
		t.Fatalf("code %d, %v\n%s", code, err, stdout)
	}
	found := make(map[string]doctor.Finding)
	for _, f := range report.Findings {
		found[f.Check] = f
	}
	want := doctor.Finding{Check: "slot", Level: doctor.Fatal, Object: db.Name, Message: "the replication slot does not exist", Remedy: "run `newswire setup --apply`", Page: "README.md#slot"}
	if found["slot"] != want {
		t.Errorf("slot: %+v", found["slot"])
	}
	if f := found["kafka"]; f.Level != doctor.Warn || !strings.HasPrefix(f.Message, "Kafka at 127.0.0.1:1 does not answer (") {
		t.Errorf("kafka: %+v", f)
	}
	if f := found["journal-dir"]; f.Level != doctor.OK || f.Object != "journal" || f.Message != "the directory is made at the first start" {
		t.Errorf("journal-dir: %+v", f)
	}
}

func TestDoctorTriesTheQueryForTags(t *testing.T) {
	db := pgtest.New(t, pgtest.WithSchema(`CREATE TABLE articles (id int PRIMARY KEY, title text);
		CREATE TABLE labels (id serial PRIMARY KEY, article int NOT NULL, label text NOT NULL, CONSTRAINT once UNIQUE (article, label))`),
		pgtest.WithPublication("FOR TABLE articles, labels"))
	text := strings.Replace(examined(db, "embedded"), "{column: tags}", `{query: "SELECT label FROM labels WHERE article = $1", links: [{table: labels, key: [article]}]}`, 1)
	finding := func(step, message, remedy string) {
		t.Helper()
		_, stdout, stderr := call(t, text, nil, "doctor", "--json")
		var report doctor.Report
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("%s: %v: %s%s", step, err, stdout, stderr)
		}
		for _, f := range report.Findings {
			if f.Check == "tags-query" && f.Object == "public.articles" && strings.Contains(f.Message, message) && strings.Contains(f.Remedy, remedy) && (f.Level == doctor.Fatal) == (remedy != "") {
				return
			}
		}
		t.Errorf("%s: no finding with %q and %q in\n%s", step, message, remedy, stdout)
	}
	finding("blind deletes", "a DELETE on public.labels does not tell article", `run ALTER TABLE "public"."labels" REPLICA IDENTITY USING INDEX once`)
	db.Exec(`ALTER TABLE labels REPLICA IDENTITY USING INDEX once`)
	finding("in order", "the role can ask the query for the tags", "")
	db.Exec(`REVOKE SELECT ON labels FROM ` + db.Role)
	finding("no right", "permission denied for table labels", "run `newswire setup --apply`")
	db.Exec(`GRANT SELECT ON labels TO ` + db.Role + `; ALTER TABLE labels RENAME TO tags`)
	finding("renamed", `relation "labels" does not exist`, "correct it")
}

func TestDoctorNamesTheKeyOfAColumn(t *testing.T) {
	d, err := doctorConfig(config.Config{Postgres: config.Postgres{DSN: "postgres://newswire@db/cms", Slot: "n", Publication: "n", Tables: []config.Table{{
		Name: "cms.articles", Data: []string{"id", "title"}, Tags: config.Tags{Columns: []string{"section", "title"}},
		Published: &config.Published{Column: "status", Equals: "published"},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, c := range d.Tables[0].Columns {
		keys = append(keys, c.Name+" "+c.Key)
	}
	const at = " postgres.tables[0]."
	want := "id" + at + "data[0], title" + at + "data[1], section" + at + "tags.columns[0], status" + at + "published.column"
	if got := strings.Join(keys, ", "); got != want || d.Tables[0].News == nil {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestDoctorKnowsWhatAQueryNeeds(t *testing.T) {
	db := pgtest.New(t, pgtest.WithPublication(""), pgtest.WithSchema(`CREATE TABLE articles (id int PRIMARY KEY, title text, at timestamptz);
		CREATE TABLE tags (id int PRIMARY KEY, name text);
		CREATE TABLE articles_tags (article_id int REFERENCES articles, tag_id int REFERENCES tags, note text, PRIMARY KEY (article_id, tag_id))`))
	db.Exec("REVOKE SELECT ON articles, tags, articles_tags FROM " + db.Role)
	configuration := `postgres:
  dsn: "` + db.DSN + `"
  slot: ` + db.Name + `
  publication: ` + db.Name + `
  tables:
    - name: articles
      tags: {query: "SELECT t.name FROM articles_tags l JOIN tags t ON t.id = l.tag_id WHERE l.article_id = $1", links: [{table: articles_tags, key: [article_id]}]}
      data: [id, title]
      published: {column: at, reached: true}
journal: {dir: journal}
gateway: {admin: "127.0.0.1:1"}
offline: {brokers: [embedded]}
`
	code, stdout, stderr := call(t, configuration, nil, "setup", "--apply", "--admin-dsn", db.SuperDSN)
	if code != exitDone {
		t.Fatalf("setup: code %d, %s\n%s", code, stderr, stdout)
	}
	doctored := func(want int) map[string][]doctor.Finding {
		t.Helper()
		code, stdout, stderr := call(t, configuration, nil, "doctor", "--json")
		var report struct{ Findings []doctor.Finding }
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != want {
			t.Fatalf("code %d, %v, %s\n%s", code, err, stderr, stdout)
		}
		found := make(map[string][]doctor.Finding)
		for _, f := range report.Findings {
			found[f.Check] = append(found[f.Check], f)
		}
		return found
	}
	found := doctored(exitDone)
	for _, check := range []string{"publication-excess", "select-excess", "publication-tables", "publication-columns", "publication-filter", "serve"} {
		for _, f := range found[check] {
			if f.Level != doctor.OK {
				t.Errorf("%+v", f)
			}
		}
	}
	if n := len(found["publication-tables"]); n != 2 {
		t.Errorf("%d tables are looked for in the publication, want the link table too: %v", n, found["publication-tables"])
	}
	// What no check of doctor's own knows, serve's does.
	if code, _, stderr := call(t, configuration, nil, "setup", "--whole", "--apply", "--admin-dsn", db.SuperDSN); code != exitDone {
		t.Fatal(stderr) // PostgreSQL refuses to alter the type of a listed column
	}
	db.Exec("ALTER TABLE articles ALTER at TYPE text")
	if f := doctored(exitFailed)["serve"]; len(f) != 1 || f[0].Level != doctor.Fatal || !strings.Contains(f[0].Remedy, "postgres.tables[0].published") {
		t.Errorf("a time that is none: %+v", f)
	}
	db.Exec("ALTER TABLE articles ALTER at TYPE timestamptz USING NULL; REVOKE SELECT (name) ON tags FROM " + db.Role)
	found = doctored(exitFailed)
	if f := found["tags-query"]; len(f) != 1 || f[0].Level != doctor.Fatal || !strings.Contains(f[0].Message, "postgres.tables[0].tags.query") {
		t.Errorf("a query that the role may not ask: %+v", f)
	}
}

func TestDoctorComparesTheJournalWithTheSlot(t *testing.T) {
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	harness.Eventually(t, "doctor to find the engine in order", func() (bool, any) {
		r := harness.Run(t, e.Dir, nil, "doctor")
		return r.Code == exitDone && strings.Contains(r.Stdout, "ok     journal-position        journal: the journal goes on where the slot stands\n") &&
			strings.Contains(r.Stdout, "the engine reads the slot, by PostgreSQL process "), r
	})
	e.Stop()
	// Somebody else reads the slot, and what they read is missing in the journal.
	db.Exec("INSERT INTO articles (title) VALUES ('taken away')")
	_ = pgtest.Value[int](db, "SELECT count(*) FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)", db.Slot, db.Publication)
	r := harness.Run(t, e.Dir, nil, "doctor")
	if r.Code != exitFailed || !strings.Contains(r.Stdout, "what lies between was confirmed by another reader, or the slot was made anew\n") {
		t.Errorf("code %d, %s%s", r.Code, r.Stderr, r.Stdout)
	}
	if _, err := os.Stat(filepath.Join(e.Dir, "journal", "MANIFEST")); err != nil {
		t.Error(err)
	}
}
