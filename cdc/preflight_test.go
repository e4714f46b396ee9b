package cdc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
)

func TestPreflightPassesWhatWorks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if err := Preflight(t.Context(), articles(db)); err != nil {
		t.Errorf("Preflight = %v", err)
	}
}

func TestPreflightNamesEachFaultWithItsRemedy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage string // SQL, with $db for the database's name
		change func(*Config)
		want   []string // in one of the sentences, all of them
	}{
		"no table":        {`DROP TABLE articles`, nil, []string{"table public.articles does not exist", "postgres.tables[0].name"}},
		"a view":          {`ALTER TABLE articles RENAME TO a; CREATE VIEW articles AS SELECT * FROM a`, nil, []string{"is no table"}},
		"unlogged":        {`ALTER TABLE articles SET UNLOGGED`, nil, []string{"unlogged", "SET LOGGED"}},
		"no column":       {`ALTER TABLE articles DROP COLUMN title`, nil, []string{"has no column title", "postgres.tables[0].data[1]"}},
		"generated":       {`ALTER TABLE articles DROP title; ALTER TABLE articles ADD title text GENERATED ALWAYS AS ('x') STORED`, nil, []string{"title", "generated"}},
		"no publication":  {`DROP PUBLICATION $db`, nil, []string{"publication", "does not exist", "newswire setup --apply"}},
		"no inserts":      {`ALTER PUBLICATION $db SET (publish = 'delete')`, nil, []string{"does not publish inserts", "newswire setup --apply"}},
		"table left out":  {`DROP PUBLICATION $db; CREATE PUBLICATION $db`, nil, []string{"does not carry table public.articles", "newswire setup --apply"}},
		"column left out": {`DROP PUBLICATION $db; CREATE PUBLICATION $db FOR TABLE articles (id, tags)`, nil, []string{"does not carry column title", "column list"}},
		"no identity":     {`ALTER TABLE articles DROP CONSTRAINT articles_pkey`, nil, []string{"every UPDATE and DELETE of the editors fail on public.articles", "primary key"}},
		"no slot":         {`SELECT pg_drop_replication_slot('$db')`, nil, []string{"replication slot", "does not exist", "newswire setup --apply"}},
		"foreign plugin": {`SELECT pg_drop_replication_slot('$db'); SELECT pg_create_logical_replication_slot('$db', 'test_decoding')`, nil,
			[]string{"test_decoding", "not pgoutput"}},
		"no replication": {`ALTER ROLE $db NOREPLICATION`, nil, []string{"may not replicate", "newswire setup --apply"}},
		"no database":    {``, func(c *Config) { c.DSN = strings.Replace(c.DSN, "t_", "nosuch_", 1) }, []string{"does not exist", "postgres.dsn"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			if name == "column left out" && pgtest.Value[int](db, `SELECT current_setting('server_version_num')::int`) < 150000 {
				t.Skip("PostgreSQL 14 has no column lists")
			}
			for statement := range strings.SplitSeq(c.damage, "; ") {
				if statement != "" {
					db.Exec(strings.ReplaceAll(statement, "$db", db.Name))
				}
			}
			cfg := articles(db)
			if c.change != nil {
				c.change(&cfg)
			}
			err := Preflight(t.Context(), cfg)
			if err == nil || errors.Is(err, ErrUnreachable) {
				t.Fatalf("Preflight = %v", err)
			}
			if !hasLine(err.Error(), c.want) {
				t.Errorf("Preflight = %v\nwant a line with %q", err, c.want)
			}
		})
	}
}

func hasLine(text string, parts []string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		found := true
		for _, p := range parts {
			found = found && strings.Contains(line, p)
		}
		if found {
			return true
		}
	}
	return false
}

func TestPreflightOfAServerForPhysicalReplicationOnly(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, map[string]string{"wal_level": "replica"})
	db := pgtest.New(t, pgtest.On(server), pgtest.WithoutSlot())
	cfg := articles(db)
	cfg.Slot = "newswire"
	err := Preflight(t.Context(), cfg)
	if err == nil || !hasLine(err.Error(), []string{"wal_level is replica", "ALTER SYSTEM SET wal_level = 'logical'", "restart"}) {
		t.Errorf("Preflight = %v", err)
	}
}

func TestPreflightTellsUnreachableFromRefused(t *testing.T) {
	t.Parallel()
	cfg := Config{Slot: "s", Publication: "p", Tables: []Table{{Name: "a", Tags: Tags{Column: "t"}}}}
	cfg.DSN = "host=" + filepath.Join(t.TempDir(), "nobody") + " user=u password=s3cret dbname=d"
	err := Preflight(t.Context(), cfg)
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Preflight without a server = %v", err)
	}
	cfg.DSN = "host=127.0.0.1 port=1 user=u dbname=d" // with TLS, and again without
	err = Preflight(t.Context(), cfg)
	const met, remedy = "127.0.0.1:1 (127.0.0.1): dial error: ", "; start it, open the way to it, or correct postgres.dsn"
	if !errors.Is(err, ErrUnreachable) || strings.Count(err.Error(), met) != 1 || !strings.HasSuffix(err.Error(), remedy) {
		t.Errorf("Preflight where nobody listens = %v", err)
	}

	server := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(server))
	rules := "local all " + cluster.Superuser + " trust\nlocal all all scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(server.DataDir(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	db.Exec(`ALTER ROLE ` + db.Role + ` PASSWORD 'right'; SELECT pg_reload_conf()`)
	cfg.DSN = strings.Replace(db.DSN, "@", ":s3cret@", 1)
	eventually(t, "the server asks for passwords", func() bool {
		err = Preflight(t.Context(), cfg)
		return err != nil && strings.Contains(err.Error(), "password")
	})
	if err == nil || errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Preflight with a wrong password = %v", err)
	}
}
