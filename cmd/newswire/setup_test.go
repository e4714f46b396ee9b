package main

import (
	"os"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestSetupPrintsAppliesAndTearsDown(t *testing.T) {
	db := pgtest.New(t, pgtest.WithPublication(""))
	role := "cli_" + db.Name // not there yet, as on a user's server
	configuration := `postgres:
  dsn: "` + db.Server().DSN(db.Name, role) + `"
  slot: ` + role + `
  publication: ` + role + `
  tables: [{name: public.articles, tags: {column: tags}, data: [id, title]}]
`
	made := func() int {
		return pgtest.Value[int](db, `SELECT (SELECT count(*) FROM pg_roles WHERE rolname = $1)
			+ (SELECT count(*) FROM pg_publication WHERE pubname = $1)
			+ (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)`, role)
	}
	code, stdout, stderr := call(t, configuration, nil, "setup")
	want := `role "` + role + `" does not exist (SQLSTATE 28000); correct user, password or database there, or name one who may make the role with --admin-dsn`
	if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "newswire: connect with postgres.dsn: ") || !strings.Contains(stderr, want) {
		t.Errorf("setup without the role: code %d, %q, %s", code, stdout, stderr)
	}
	code, stdout, stderr = call(t, configuration, nil, "setup", "--admin-dsn", db.SuperDSN)
	if code != exitDone || !strings.Contains(stdout, "CREATE ROLE") || !strings.Contains(stdout, "pg_create_logical_replication_slot") || made() != 0 {
		t.Errorf("setup: code %d, made %d, %s\n%s", code, made(), stderr, stdout)
	}
	code, stdout, stderr = call(t, configuration, nil, "setup", "--apply", "--admin-dsn", db.SuperDSN)
	if code != exitDone || !strings.Contains(stdout, "done: CREATE PUBLICATION") || made() != 3 {
		t.Errorf("setup --apply: code %d, made %d of 3, %s\n%s", code, made(), stderr, stdout)
	}
	code, stdout, stderr = call(t, configuration, nil, "setup", "--apply") // as the role: nothing is left to do
	if code != exitDone || strings.Contains(stdout, "done:") || !strings.Contains(stdout, "left alone: ") {
		t.Errorf("setup --apply again: code %d, %s\n%s", code, stderr, stdout)
	}
	code, stdout, stderr = call(t, configuration, nil, "teardown", "--apply", "--admin-dsn", db.SuperDSN)
	if code != exitDone || made() != 0 {
		t.Errorf("teardown --apply: code %d, left %d, %s\n%s", code, made(), stderr, stdout)
	}
}

func TestSetupNamesTheLoginThatMayNot(t *testing.T) {
	db := pgtest.New(t, pgtest.WithPublication(""))
	configuration := `postgres:
  dsn: "` + db.DSN + `"
  slot: cli_` + db.Name + `
  publication: cli_` + db.Name + `
  tables: [{name: public.articles, tags: {column: tags}, data: [id, title]}]
`
	code, _, stderr := call(t, configuration, nil, "setup", "--apply")
	if code != exitFailed || !strings.HasSuffix(stderr, "; name one who may do it, such as a superuser, with --admin-dsn\n") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("code %d, %s", code, stderr)
	}
}

func TestSetupNamesAServerThatIsNotThere(t *testing.T) {
	code, _, stderr := call(t, strings.Replace(least, "newswire@db/", "newswire:hunter2@127.0.0.1:1/", 1), nil, "setup")
	if code != exitFailed || !strings.HasPrefix(stderr, "newswire: connect with postgres.dsn: ") || strings.Contains(stderr, "hunter2") ||
		!strings.HasSuffix(stderr, "; check the address and that PostgreSQL runs\n") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("code %d, %s", code, stderr)
	}
	code, _, stderr = call(t, least, nil, "setup", "--admin-dsn", "postgres://u:hunter2/3@db/cms")
	const want = "newswire: --admin-dsn is not a connection string: the URL cannot be read; percent-encode special characters in the password\n"
	if code != exitUsage || stderr != want {
		t.Errorf("code %d, %s", code, stderr)
	}
}
