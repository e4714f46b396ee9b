package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
)

// NewStandby gives a standby of a server from NewCluster, which is stopped for
// a moment and copied as it stands. The settings go over those of tests. With a
// primary_conninfo among them the standby has no slots of its own, as if
// pg_basebackup had made it; without, it follows nobody, stays where it is, and
// has the slots as they were.
func NewStandby(t testing.TB, primary *cluster.Cluster, over map[string]string) *cluster.Cluster {
	t.Helper()
	stop(t, primary)
	g, err := newGround()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := g.remove(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	data := filepath.Join(g.dir, "pg", "data")
	if err := copyData(primary.DataDir(), data); err != nil {
		t.Fatalf("pgtest: copy server: %v", err)
	}
	if over["primary_conninfo"] != "" {
		if err := dropFiles(filepath.Join(data, "pg_replslot")); err != nil {
			t.Fatalf("pgtest: drop the copy's slots: %v", err)
		}
	}
	restart(t, primary)
	c, err := startServer(g, over)
	if err != nil {
		t.Fatalf("pgtest: start standby: %v", err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

// copyData makes of a server's data those of a standby.
func copyData(from, to string) error {
	if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return signalStandby(to)
}

// dropFiles removes what is in a directory.
func dropFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// signalStandby lets the data's server start as a standby.
func signalStandby(data string) error {
	path := filepath.Join(data, "standby.signal")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	info, err := os.Stat(data)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return os.Chown(path, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// Promote makes a primary of a standby.
func Promote(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN("postgres", cluster.Superuser))
	if err != nil {
		t.Fatalf("pgtest: connect to standby: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SELECT pg_promote(true, 60)"); err != nil {
		t.Fatalf("pgtest: promote standby: %v", err)
	}
}

// NewTimeline takes a server from NewCluster to its next timeline, as if a
// standby that has all of its log had taken over, slots included.
func NewTimeline(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	stop(t, c)
	if err := signalStandby(c.DataDir()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	restart(t, c)
	Promote(t, c)
}

// MoveTo lets the database's methods reach it on another server, which has it
// from this one.
func (db *DB) MoveTo(c *cluster.Cluster) {
	db.connMu.Lock()
	defer db.connMu.Unlock()
	if db.conn != nil {
		_ = db.conn.Close(context.Background())
		db.conn = nil
	}
	db.server = c
	db.DSN, db.SuperDSN = c.DSN(db.Name, db.Role), c.DSN(db.Name, cluster.Superuser)
}

func stop(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Stop(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pgtest: %v", err)
	}
}

func restart(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}
