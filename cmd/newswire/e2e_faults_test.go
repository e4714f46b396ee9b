package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
)

// fault is a wrong configuration and what must be said about it.
type fault struct {
	name     string
	old, new string   // edit of the configuration file
	env      []string // over the configuration
	code     int
	says     []string // parts of the one sentence: the object, and the remedy
}

// checkFaults serves each wrong configuration: one sentence, the right exit
// code, nothing else.
func checkFaults(t *testing.T, e *harness.Engine, faults []fault) {
	t.Helper()
	path := filepath.Join(e.Dir, "newswire.yaml")
	right, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if f.old != "" && !strings.Contains(string(right), f.old) {
			t.Errorf("%s: the configuration has no %q", f.name, f.old)
		}
		wrong := strings.Replace(string(right), f.old, f.new, 1)
		if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		checkFault(t, f, harness.Run(t, e.Dir, f.env, "serve"))
	}
	if err := os.WriteFile(path, right, 0o600); err != nil {
		t.Fatal(err)
	}
}

func checkFault(t *testing.T, f fault, r harness.Result) {
	t.Helper()
	var sentences []string
	for line := range strings.Lines(r.Stderr) {
		if !strings.HasPrefix(line, "time=") { // what was logged until the fault showed
			sentences = append(sentences, line)
		}
	}
	if r.Code != f.code || r.Stdout != "" || len(sentences) != 1 || !strings.HasPrefix(sentences[0], "newswire: ") {
		t.Errorf("%s: code %d, want %d; want one sentence on stderr:\n%s%s", f.name, r.Code, f.code, r.Stdout, r.Stderr)
	}
	for _, part := range f.says {
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("%s: %q is not in\n%s", f.name, part, r.Stderr)
		}
	}
	if strings.Contains(r.Stderr, "goroutine") || strings.Contains(r.Stderr, "panic") {
		t.Errorf("%s: a stack trace:\n%s", f.name, r.Stderr)
	}
}

func TestWrongConfigurationIsOneSentence(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Configure(t, harness.Options{DB: db})
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().String()
	unnamed := db.Server().DSN("no_such_database", db.Role)
	stranger := db.Server().DSN(db.Name, "no_such_role")
	checkFaults(t, e, []fault{
		{"unknown key", "  slot:", "  slto: newswire\n  slot:", nil, exitUsage, []string{"newswire.yaml line 3", "unknown key postgres.slto", "did you mean postgres.slot?"}},
		{"unknown variable", "", "", []string{"NEWSWIRE_GATEWAY_LISTN=:1"}, exitUsage, []string{"NEWSWIRE_GATEWAY_LISTN", "NEWSWIRE_GATEWAY_LISTEN"}},
		{"no slot named", `  slot: "` + db.Slot + `"` + "\n", "", nil, exitUsage, []string{"postgres.slot", "newswire setup"}},
		{"no secret", "hs256_secret_file: secret", "hs256_secret_file: nowhere", nil, exitUsage, []string{"gateway.auth.hs256_secret_file", "nowhere"}},
		{"secret is a directory", "hs256_secret_file: secret", "hs256_secret_file: .", nil, exitUsage, []string{"gateway.auth.hs256_secret_file"}},
		{"no such slot", `slot: "` + db.Slot, `slot: "elsewhere`, nil, exitFailed, []string{`replication slot "elsewhere" does not exist`, "newswire setup --apply"}},
		{"no such publication", `publication: "` + db.Publication, `publication: "elsewhere`, nil, exitFailed, []string{`publication "elsewhere" does not exist`, "newswire setup --apply"}},
		{"no such table", "public.articles", "public.stories", nil, exitFailed, []string{"table public.stories does not exist", "postgres.tables[0].name"}},
		{"no such tags column", "column: tags", "column: topics", nil, exitFailed, []string{"public.articles", "topics", "postgres.tables[0].tags"}},
		{"no such database", "", "", []string{"NEWSWIRE_POSTGRES_DSN=" + unnamed}, exitFailed, []string{`"no_such_database" does not exist`, "postgres.dsn"}},
		{"no such role", "", "", []string{"NEWSWIRE_POSTGRES_DSN=" + stranger}, exitFailed, []string{`"no_such_role"`, "postgres.dsn"}},
		{"gateway's port taken", "", "", []string{"NEWSWIRE_GATEWAY_LISTEN=" + port}, exitFailed, []string{"gateway.listen", port, "address already in use", "choose another"}},
		{"admin's port taken", "", "", []string{"NEWSWIRE_GATEWAY_ADMIN=" + port}, exitFailed, []string{"gateway.admin", port, "address already in use", "choose another"}},
		{"Kafka's port taken", "", "", []string{"NEWSWIRE_OFFLINE_EMBEDDED_LISTEN=" + port}, exitFailed, []string{"offline.embedded_listen", port, "in use", "free one"}},
		{"journal is a file", "", "", []string{"NEWSWIRE_JOURNAL_DIR=" + filepath.Join(e.Dir, "secret")}, exitFailed, []string{"journal.dir"}},
	})
}

// TestUnfitServerIsOneSentence has servers that refuse us, one way each.
func TestUnfitServerIsOneSentence(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, map[string]string{"wal_level": "replica"})
	db := pgtest.New(t, pgtest.On(server), pgtest.WithoutSlot())
	e := harness.Configure(t, harness.Options{DB: db, Slot: "newswire"})
	r := e.Run("serve")
	lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
	if r.Code != exitFailed || len(lines) != 2 || // no slot can be made at this level
		!strings.Contains(lines[0], "wal_level is replica") || !strings.Contains(lines[0], "ALTER SYSTEM SET wal_level = 'logical'") ||
		!strings.Contains(lines[1], `slot "newswire" does not exist`) {
		t.Errorf("wal_level=replica: code %d\n%s", r.Code, r.Stderr)
	}

	db.Exec("ALTER ROLE " + db.Role + " PASSWORD 'right'")
	rules := "local all " + cluster.Superuser + " trust\nlocal all all scram-sha-256\nlocal replication all scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(server.DataDir(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(db.DSN, db.Role+"@", db.Role+":hunter2@", 1)
	checkFaults(t, e, []fault{{"wrong password", "", "", []string{"NEWSWIRE_POSTGRES_DSN=" + wrong}, exitFailed,
		[]string{`refuses user "` + db.Role + `"`, "postgres.dsn", "pg_hba.conf"}}})
}

func TestDemoWithoutPostgreSQLIsOneSentence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := harness.Run(t, dir, nil, "demo", "--dir", filepath.Join(dir, "demo"), "--pg-bin", "/nonexistent",
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0", "--devices", "127.0.0.1:0", "--compensate-admin", "127.0.0.1:0")
	if r.Code == exitDone || !strings.HasPrefix(r.Stderr, "newswire: ") || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, "/nonexistent") {
		t.Errorf("code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
