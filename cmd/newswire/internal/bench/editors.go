package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"newswire/cdc/cluster"
)

// Editors says how much editors save, and how often each half is measured.
type Editors struct {
	Clients int           // that save at the same time
	Rate    int           // transactions per second of all of them; 0: as many as they can
	For     time.Duration // of one measurement
	Runs    int           // of each of the two
	PGBin   string        // directory of PostgreSQL's programs, pgbench among them; "" finds them
	Stdout  io.Writer
}

// Half of the editors' transactions insert an article, half change one.
var scripts = map[string]string{
	"insert.sql": `INSERT INTO articles (title, summary, url, tags) VALUES ('A headline', repeat('x', 200), 'https://news.example.com/a', '{tech,sport}');`,
	"update.sql": `\set id random(1, 1000)
UPDATE articles SET summary = repeat(chr(97 + :id % 26), 200) WHERE id = :id;`,
}

// Run lets pgbench save articles, in turn without and with the engine behind
// the slot, and prints the ratios of the commits' latencies. The slot stands in
// both halves; before each measurement with it, the engine has caught up.
func (e Editors) Run(ctx context.Context, log *slog.Logger) (err error) {
	if e.Clients < 1 || e.Rate < 0 || e.For < time.Second || e.Runs < 1 {
		return errors.New("editors benchmark: want a client or more, no negative rate, a second or more, and at least one run")
	}
	bin, err := cluster.FindBinaries(e.PGBin)
	if err != nil {
		return err
	}
	g, err := newGround(ctx, e.PGBin, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text+"\n"), 0o600); err != nil {
			return err
		}
	}
	err = g.exec(ctx, "INSERT INTO articles (title, summary, url, tags) SELECT 'A headline', repeat('x', 200), 'https://news.example.com/a', '{tech}' FROM generate_series(1, 1000)")
	if err != nil {
		return err
	}
	reader, err := newEngine(ctx, g, 0)
	if err != nil {
		return err
	}
	if _, err := e.save(ctx, g, bin, time.Second); err != nil { // warms caches
		return err
	}
	var without, with []latencies
	for n := range e.Runs {
		alone, err := e.save(ctx, g, bin, e.For)
		if err != nil {
			return err
		}
		beside, err := e.beside(ctx, g, bin, reader)
		if err != nil {
			return err
		}
		without, with = append(without, alone), append(with, beside)
		fmt.Fprintf(e.Stdout, "run %d  without engine  %s\nrun %d  with engine     %s\n", n+1, alone, n+1, beside)
	}
	by := func(list []latencies, of func(latencies) time.Duration) (times []time.Duration) {
		for _, l := range list {
			times = append(times, of(l))
		}
		return times
	}
	ratio := func(of func(latencies) time.Duration) float64 {
		return median(by(with, of)).Seconds() / median(by(without, of)).Seconds()
	}
	fmt.Fprintf(e.Stdout, "%d clients, with the engine : without it: median %.2f, p95 %.2f\n", e.Clients,
		ratio(func(l latencies) time.Duration { return l.median }), ratio(func(l latencies) time.Duration { return l.p95 }))
	return nil
}

// beside measures while the engine reads along.
func (e Editors) beside(ctx context.Context, g *ground, bin string, reader *engine) (l latencies, err error) {
	if err := reader.start(); err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, reader.stop()) }()
	if err := reader.ready(ctx); err != nil {
		return l, err
	}
	var end string
	if err := g.sql.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&end); err != nil {
		return l, err
	}
	err = reader.await(ctx, func() (done bool, err error) {
		err = g.sql.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2", end, reader.slot).Scan(&done)
		return done, err
	})
	if err != nil {
		return l, err
	}
	return e.save(ctx, g, bin, e.For)
}

// latencies of the commits of one measurement.
type latencies struct {
	commits     int
	over        time.Duration
	median, p95 time.Duration
}

func (l latencies) String() string {
	return fmt.Sprintf("%6.0f commits/s, median %.2f ms, p95 %.2f ms", float64(l.commits)/l.over.Seconds(),
		l.median.Seconds()*1000, l.p95.Seconds()*1000)
}

// save runs pgbench, which writes a line for each transaction.
func (e Editors) save(ctx context.Context, g *ground, bin string, over time.Duration) (l latencies, err error) {
	dir, err := os.MkdirTemp(g.dir, "editors-")
	if err != nil {
		return l, err
	}
	args := []string{
		"--no-vacuum", "--client", strconv.Itoa(e.Clients), "--jobs", strconv.Itoa(min(e.Clients, 2)),
		"--time", strconv.Itoa(int(over.Seconds())), "--log", "--log-prefix", filepath.Join(dir, "log"),
		"--file", filepath.Join(g.dir, "insert.sql"), "--file", filepath.Join(g.dir, "update.sql"),
	}
	if e.Rate > 0 {
		args = append(args, "--rate", strconv.Itoa(e.Rate))
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "pgbench"), append(args, g.dsn())...).CombinedOutput()
	if err != nil {
		return l, fmt.Errorf("run pgbench: %w: %s", err, out)
	}
	times, err := readLog(dir)
	if err != nil {
		return l, err
	}
	slices.Sort(times)
	return latencies{len(times), over, times[len(times)/2], times[len(times)*95/100]}, nil
}

// readLog gives each transaction's time, the third field of its line.
func readLog(dir string) (times []time.Duration, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "log.*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 3 {
				continue
			}
			micros, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				continue // skipped, or failed
			}
			times = append(times, time.Duration(micros)*time.Microsecond)
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if len(times) == 0 {
		return nil, errors.New("pgbench has logged no transaction")
	}
	return times, nil
}
