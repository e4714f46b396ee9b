// Package pgtest is the ground that tests stand on: a real PostgreSQL, one
// server for each test process, and for each test a database, publication, slot
// and role of its own, so that tests run in parallel.
//
// It promises that a test leaves nothing behind: a slot that is still read from
// when the test ends, or a goroutine that outlives the last one, fails the run.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"newswire/cdc/cluster"
)

// BinDirVariable names the environment variable with the directory of the
// PostgreSQL programs to test against; without it, the newest ones are taken.
const BinDirVariable = "NEWSWIRE_TEST_PG_BIN"

// patience bounds every step of this package itself.
const patience = 2 * time.Minute

// shared is the server of this test process.
var shared struct {
	mu      sync.Mutex // guards the rest
	managed bool       // Main runs, so that somebody stops what is started
	server  *cluster.Cluster
	ground  *ground
	err     error // of the one attempt to start it
}

// settings make a server that forgets with the machine, quickly, and has room
// for many tests at once.
func settings() map[string]string {
	return map[string]string{
		"fsync":                 "off",
		"synchronous_commit":    "on", // a commit has reached the WAL when it returns, as in production
		"full_page_writes":      "off",
		"shared_buffers":        "64MB",
		"max_connections":       "200",
		"max_wal_senders":       "60",
		"max_replication_slots": "60",
		"autovacuum":            "off",
	}
}

// Main runs a package's tests and stops the server that they shared. Use it so:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// A goroutine left over once everything has stopped turns success into failure,
// unless one of the options ignores it.
func Main(m *testing.M, ignore ...goleak.Option) int {
	shared.mu.Lock()
	shared.managed = true
	shared.mu.Unlock()
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a failed test may well leave goroutines: they would hide what it said
	}
	if err := goleak.Find(ignore...); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: after the last test:", err)
		return 1
	}
	return 0
}

// stopShared ends the shared server, if a test has started it.
func stopShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.managed = false
	if shared.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(shared.server.Stop(ctx), shared.ground.remove())
}

// sharedServer gives the server of this process, started by the first that asks.
func sharedServer(t testing.TB) *cluster.Cluster {
	t.Helper()
	requirePrograms(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.managed {
		t.Fatal("pgtest: nobody would stop the server: write func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }")
	}
	if shared.server == nil && shared.err == nil {
		shared.ground, shared.err = newGround()
		if shared.err == nil {
			shared.server, shared.err = startServer(shared.ground, nil)
		}
	}
	if shared.err != nil {
		t.Fatalf("pgtest: %v", shared.err)
	}
	return shared.server
}

// NewCluster gives a server of the test's own, for what a shared one may not
// suffer: crashes, restarts, other settings. The settings go over the usual
// ones of tests (fsync is off among them). New takes it by the option On.
func NewCluster(t testing.TB, over map[string]string) *cluster.Cluster {
	t.Helper()
	requirePrograms(t)
	g, err := newGround()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := g.remove(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	c, err := startServer(g, over)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return c
}

func startServer(g *ground, over map[string]string) (*cluster.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	all := settings()
	maps.Copy(all, over)
	return cluster.Start(ctx, cluster.Config{
		Dir:      filepath.Join(g.dir, "pg"),
		BinDir:   os.Getenv(BinDirVariable),
		Settings: all,
	}, slog.New(slog.DiscardHandler))
}

// requirePrograms skips the test loudly where there is no PostgreSQL, and fails
// it where CI promises one.
func requirePrograms(t testing.TB) {
	t.Helper()
	_, err := cluster.FindBinaries(os.Getenv(BinDirVariable))
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("pgtest: %v", err)
	default:
		t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
	}
}
