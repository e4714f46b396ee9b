package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"newswire/cdc/cluster"
)

// Drain says how large a backlog Drain makes and how often it is drained.
type Drain struct {
	Commits int    // of one row each
	Rows    int    // of one commit behind them
	Runs    int    // of each of the two
	PGBin   string // directory of PostgreSQL's programs; "" finds them
	Discard bool   // pg_recvlogical throws away what it gets, and keeps nothing
	Profile string // file for the engine's CPU profile of the last run; "" for none
	Stdout  io.Writer
}

// Run makes a backlog and lets pg_recvlogical, which writes what it gets to a
// file as it comes, and the engine, durable journal and routing included, drain
// it in turn, each from a slot of its own. It prints each run's time and the
// ratio of the medians.
func (d Drain) Run(ctx context.Context, log *slog.Logger) (err error) {
	if d.Commits < 0 || d.Rows < 0 || d.Commits+d.Rows == 0 || d.Runs < 1 {
		return errors.New("drain benchmark: want some commits or rows, and at least one run")
	}
	g, err := newGround(ctx, d.PGBin, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	engines := make([]*engine, d.Runs)
	for n := range engines {
		if engines[n], err = newEngine(ctx, g, n); err != nil {
			return err
		}
		if err := g.exec(ctx, "SELECT pg_create_logical_replication_slot('"+yardstick(n)+"', 'pgoutput')"); err != nil {
			return err
		}
	}
	end, err := d.load(ctx, g)
	if err != nil {
		return err
	}
	var bare, ours []time.Duration
	for n, e := range engines {
		took, err := d.recvlogical(ctx, g, yardstick(n), end)
		if err != nil {
			return err
		}
		bare = append(bare, took)
		fmt.Fprintf(d.Stdout, "run %d  pg_recvlogical  %6.2f s\n", n+1, took.Seconds())
		profile := ""
		if n == d.Runs-1 {
			profile = d.Profile
		}
		used, err := e.drain(ctx, g, end, profile, max(5*time.Second, lastOf(ours)))
		if err != nil {
			return err
		}
		ours = append(ours, used.wall)
		fmt.Fprintf(d.Stdout, "run %d  newswire        %6.2f s   CPU %.2f s, resident at most %d MB\n", n+1, used.wall.Seconds(), used.cpu.Seconds(), used.resident>>20)
	}
	fmt.Fprintf(d.Stdout, "newswire took %.2f times as long as pg_recvlogical (medians of %d)\n", float64(median(ours))/float64(median(bare)), d.Runs)
	return nil
}

// lastOf is 0 for an empty list.
func lastOf(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[len(times)-1]
}

func yardstick(n int) string { return fmt.Sprintf("yardstick_%d", n) }

// load writes the backlog and gives the position behind its last commit.
func (d Drain) load(ctx context.Context, g *ground) (end string, err error) {
	const article = `INSERT INTO articles (title, summary, url, tags)
		SELECT 'article ' || n, repeat(md5(n::text), 7), 'https://news.example.com/' || n, ARRAY['tech', 'section-' || n % 20] FROM `
	err = g.exec(ctx, "SET synchronous_commit = off",
		fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP %s (VALUES (i)) AS t (n); COMMIT; END LOOP; END $$`, d.Commits, article),
		fmt.Sprintf(`%s generate_series(1, %d) AS t (n)`, article, d.Rows))
	if err != nil {
		return "", err
	}
	if err := g.sql.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		return "", fmt.Errorf("read the log's end: %w", err)
	}
	if err := g.exec(ctx, "CHECKPOINT"); err != nil {
		return "", err
	}
	fmt.Fprintf(d.Stdout, "backlog: %d commits of one row, one of %d rows\n", d.Commits, d.Rows)
	return end, nil
}

// recvlogical drains a slot with PostgreSQL's own program.
func (d Drain) recvlogical(ctx context.Context, g *ground, slot, end string) (time.Duration, error) {
	bin, err := cluster.FindBinaries(d.PGBin)
	if err != nil {
		return 0, err
	}
	file := os.DevNull
	if !d.Discard {
		file = filepath.Join(g.dir, slot)
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "pg_recvlogical"), "-d", g.dsn(), "--slot", slot, "--start", "--no-loop", "-f", file,
		"--endpos", end, "-o", "proto_version=1", "-o", "publication_names="+publication).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("run pg_recvlogical: %w: %s", err, out)
	}
	return time.Since(began), nil
}
