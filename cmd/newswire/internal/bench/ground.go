// Package bench measures the built program beside a yardstick: both in one run,
// on one machine, alternating, so that what is told is a ratio. It starts a
// throw-away PostgreSQL of its own and leaves nothing behind.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
)

// What the benchmarks call things in their PostgreSQL.
const (
	database    = "postgres"
	publication = "newswire"
)

// ground is what a benchmark stands on.
type ground struct {
	dir string // of the whole run; removed at its end
	pg  *cluster.Cluster
	sql *pgx.Conn
}

// newGround starts a PostgreSQL on a new directory and makes a news table with
// its publication.
func newGround(ctx context.Context, bin string, log *slog.Logger) (g *ground, err error) {
	g = new(ground)
	if g.dir, err = os.MkdirTemp("", "newswire-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	// The server's user must get through to its own directory below.
	if err := os.Chmod(g.dir, 0o711); err != nil {
		return nil, err
	}
	g.pg, err = cluster.Start(ctx, cluster.Config{Dir: g.dir + "/postgres", BinDir: bin, Settings: map[string]string{
		"shared_buffers":     "256MB",
		"max_wal_size":       "8GB", // no checkpoint in the middle of a measurement
		"checkpoint_timeout": "1h",
	}}, log)
	if err != nil {
		return nil, err
	}
	if g.sql, err = pgx.Connect(ctx, g.dsn()); err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return g, g.exec(ctx, `CREATE TABLE articles (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL, summary text NOT NULL, url text NOT NULL,
			tags text[] NOT NULL, status text NOT NULL DEFAULT 'published', published_at timestamptz NOT NULL DEFAULT now())`,
		"CREATE PUBLICATION "+publication+" FOR TABLE articles")
}

func (g *ground) dsn() string { return g.pg.DSN(database, cluster.Superuser) }

func (g *ground) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := g.sql.Exec(ctx, sql); err != nil {
			return fmt.Errorf("run %.40q: %w", sql, err)
		}
	}
	return nil
}

func (g *ground) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if g.sql != nil {
		err = g.sql.Close(ctx)
	}
	if g.pg != nil {
		err = errors.Join(err, g.pg.Stop(ctx))
	}
	return errors.Join(err, os.RemoveAll(g.dir))
}

// median of a list that is not empty.
func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
