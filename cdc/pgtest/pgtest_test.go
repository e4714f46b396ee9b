package pgtest_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	seen := make(map[string]bool)
	for range 2 {
		db := pgtest.New(t)
		db.Exec("INSERT INTO articles (title, tags) VALUES ($1, $2)", "first", []string{"tech"})
		if n := pgtest.Value[int](db, "SELECT count(*) FROM articles"); n != 1 {
			t.Errorf("%s has %d articles, want its own 1", db.Name, n)
		}
		if seen[db.Slot] || seen[db.Name] {
			t.Errorf("%s was given twice", db.Name)
		}
		seen[db.Slot], seen[db.Name] = true, true
	}
}

func TestInParallel(t *testing.T) {
	for range 4 {
		t.Run("one", func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			stream(t, db, true)
		})
	}
}

// stream reads from the database's slot as the role the product runs as.
func stream(t *testing.T, db *pgtest.DB, stop bool) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), db.DSN+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	if stop {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	err = pglogrepl.StartReplication(t.Context(), conn, db.Slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + db.Publication + "'"},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheRoleReadsTheSlotAndTheTablesButWritesNothing(t *testing.T) {
	db := pgtest.New(t)
	stream(t, db, true)
	conn, err := pgconn.Connect(t.Context(), db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "SELECT * FROM articles").ReadAll(); err != nil {
		t.Errorf("SELECT as the role: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "DELETE FROM articles").ReadAll(); err == nil {
		t.Error("DELETE as the role was permitted")
	}
}

// recorder takes a test's failures instead of failing it.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) { r.errors = append(r.errors, format) }
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }

func TestALeakedWalsenderFailsTheTest(t *testing.T) {
	r := &recorder{TB: t}
	db := pgtest.New(r)
	stream(t, db, false)
	for _, f := range r.cleanups {
		f()
	}
	if len(r.errors) != 1 || !strings.Contains(r.errors[0], "leaked walsender") {
		t.Errorf("reported %q, want a leaked walsender", r.errors)
	}
	other := pgtest.New(t)
	if n := pgtest.Value[int](other, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", db.Slot); n != 0 {
		t.Error("the slot is still there")
	}
}

func TestADatabaseOutlivesACrashOfItsServer(t *testing.T) {
	c := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(c))
	db.Exec("INSERT INTO articles (title) VALUES ('kept')")
	before := db.ConfirmedFlush()
	if err := c.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Value[string](db, "SELECT title FROM articles"); got != "kept" {
		t.Errorf("after the crash: %q, want kept", got)
	}
	if after := db.ConfirmedFlush(); after != before || db.CurrentLSN() <= after {
		t.Errorf("confirmed %s before the crash and %s after, end of WAL %s", before, after, db.CurrentLSN())
	}
}

func TestOptionsLeaveThingsToTheTest(t *testing.T) {
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""))
	for _, query := range []string{
		"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
		"SELECT count(*) FROM pg_publication",
		"SELECT count(*) FROM pg_replication_slots WHERE database = current_database()",
	} {
		if n := pgtest.Value[int](db, query); n != 0 {
			t.Errorf("%s = %d, want 0", query, n)
		}
	}
}
