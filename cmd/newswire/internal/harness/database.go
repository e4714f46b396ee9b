package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// Witness tells what was committed, and in which order. It reads the log with a
// slot and a decoder of its own, so it shares nothing with the engine but
// PostgreSQL.
type Witness struct {
	db       *pgtest.DB
	slot     string
	previous journal.LSN
	commits  []commit
}

// commit is one transaction of the log.
type commit struct {
	behind, end journal.LSN // its commit record lies between
	keys        []int64     // of the articles it inserted, in order
}

// NewWitness watches what is committed from now on. Its slot goes with the
// database.
func NewWitness(db *pgtest.DB) *Witness {
	w := &Witness{db: db, slot: db.Name + "_witness"}
	_ = pgtest.Value[string](db, "SELECT slot_name FROM pg_create_logical_replication_slot($1, 'test_decoding')", w.slot)
	return w
}

var inserted = regexp.MustCompile(`^table public\.articles: INSERT: id\[bigint\]:(\d+) `)

// Articles gives the articles inserted since the witness came, in commit order,
// as the table holds them now.
func (w *Witness) Articles(t testing.TB) []Article {
	t.Helper()
	lines := pgtest.Values[string](w.db, `SELECT lsn::text || ' ' || data FROM
		pg_logical_slot_get_changes($1, NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1')`, w.slot)
	var keys []int64
	for _, line := range lines {
		position, what, _ := strings.Cut(line, " ")
		if m := inserted.FindStringSubmatch(what); m != nil {
			key, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				t.Fatalf("witness: %q: %v", line, err)
			}
			keys = append(keys, key)
		}
		if what == "COMMIT" {
			end, err := journal.ParseLSN(position)
			if err != nil {
				t.Fatalf("witness: %q: %v", line, err)
			}
			w.commits = append(w.commits, commit{w.previous, end, keys})
			w.previous, keys = end, nil
		}
	}
	rows := w.rows(t)
	var articles []Article
	for _, c := range w.commits {
		for _, key := range c.keys {
			a, ok := rows[key]
			if !ok {
				t.Fatalf("witness: article %d was inserted and is not in the table", key)
			}
			a.Behind, a.End = c.behind, c.end
			articles = append(articles, a)
		}
	}
	return articles
}

// rows reads the table: the mapped columns as PostgreSQL prints them.
func (w *Witness) rows(t testing.TB) map[int64]Article {
	t.Helper()
	rows := make(map[int64]Article)
	for _, text := range pgtest.Values[string](w.db, `SELECT jsonb_build_object('key', id, 'tags', tags, 'data',
		jsonb_build_object('id', id, 'title', title, 'summary', summary, 'url', url, 'published_at', published_at))::text FROM articles`) {
		var a Article
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("witness: %v: %s", err, text)
		}
		rows[a.Key] = a
	}
	return rows
}

// Load is many clients who save articles at the same time, each in a
// transaction of its own.
type Load struct {
	Clients int
	Commits int // by all clients together
	Rate    int // commits a second; 0: as fast as it goes
	Tag     string
	Breaks  bool // the server goes away meanwhile, and the load ends with it
}

// StartLoad lets the clients begin; done waits until they have finished, which
// they must. pgbench drives them where there is one.
func StartLoad(t testing.TB, db *pgtest.DB, l Load) (done func()) {
	t.Helper()
	bin, err := cluster.FindBinaries(os.Getenv(pgtest.BinDirVariable))
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	pgbench := filepath.Join(bin, "pgbench")
	run := func() error { return l.pgbench(t, pgbench, db) }
	if _, err := os.Stat(pgbench); err != nil {
		run = func() error { return l.connections(t.Context(), db) }
	}
	var g errgroup.Group
	g.Go(run)
	wait := sync.OnceValue(g.Wait)
	t.Cleanup(func() { _ = wait() })
	return func() {
		t.Helper()
		if err := wait(); err != nil && !l.Breaks {
			t.Fatalf("load: %v", err)
		}
	}
}

const loadSQL = `INSERT INTO articles (title, summary, url, tags) VALUES ('An article “by” client ' || %s, repeat('ä', 40), NULL, ARRAY['%s'])`

func (l Load) pgbench(t testing.TB, path string, db *pgtest.DB) error {
	script := filepath.Join(t.TempDir(), "load.sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, loadSQL+";\n", ":client_id", l.Tag), 0o600); err != nil {
		return err
	}
	args := []string{"--no-vacuum", "--client", strconv.Itoa(l.Clients), "--jobs", "2",
		"--transactions", strconv.Itoa(l.Commits / l.Clients), "--file", script}
	if l.Rate > 0 {
		args = append(args, "--rate", strconv.Itoa(l.Rate))
	}
	env := []string{"PGHOST=" + db.Server().SocketDir(), "PGUSER=" + cluster.Superuser}
	var out transcript
	cmd := command(path, "", env, append(args, db.Name)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	c, err := launch(cmd)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-t.Context().Done(): // the test is over without it
		c.kill()
	}
	if c.err != nil {
		return fmt.Errorf("pgbench: %w\n%s", c.err, out.String())
	}
	return nil
}

// connections is the load where there is no pgbench; Rate is left to the
// server.
func (l Load) connections(ctx context.Context, db *pgtest.DB) error {
	g, ctx := errgroup.WithContext(ctx)
	for n := range l.Clients {
		g.Go(func() error {
			conn, err := pgx.Connect(ctx, db.SuperDSN)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for range l.Commits / l.Clients {
				if _, err := conn.Exec(ctx, fmt.Sprintf(loadSQL, strconv.Itoa(n), l.Tag)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// confirmedIn is Held of a journal that must be readable.
func confirmedIn(t testing.TB, dir string) journal.LSN {
	t.Helper()
	held, err := Held(dir)
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	return held
}

// Held opens the journal of an engine that does not run and gives the position
// up to which it holds everything.
func Held(dir string) (journal.LSN, error) {
	j, err := journal.Open(journal.Config{Dir: dir}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		return 0, err
	}
	return j.Confirmed(), j.Close()
}

// psql runs SQL with the psql of the machine, as an editor would.
func Psql(t testing.TB, db *pgtest.DB, sql string) {
	t.Helper()
	bin, err := cluster.FindBinaries(os.Getenv(pgtest.BinDirVariable))
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	cmd := exec.Command(filepath.Join(bin, "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1",
		"--host", db.Server().SocketDir(), "--username", cluster.Superuser, "--dbname", db.Name, "--command", sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
}
