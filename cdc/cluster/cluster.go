// Package cluster runs a throw-away PostgreSQL server from the programs on this
// machine: for `newswire demo`, and as the ground that tests stand on.
//
// It promises that nobody else can reach the server (no TCP, a socket in a
// private directory), that the server it gives is the one on its own data
// directory and no other, and, on Linux, that the server does not outlive this
// process however that ends. A Cluster is a handle on an operating-system
// process, so it starts and stops like one.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// Superuser is the database role that owns the cluster.
const Superuser = "postgres"

// ErrRunning reports a data directory on which another server runs.
var ErrRunning = errors.New("another PostgreSQL server runs on this data directory")

// ErrVersion reports a data directory made by another major version.
var ErrVersion = errors.New("data directory of another PostgreSQL version")

// Config says where the cluster lives and how it is set.
type Config struct {
	Dir      string            // data, log and socket; the cluster's alone. Made when missing, given to the OS user postgres when we are root
	BinDir   string            // where PostgreSQL's programs lie; empty: FindBinaries looks for them
	Settings map[string]string // server settings over the defaults; fsync=off also makes initdb not wait for the disk
}

// Cluster is one PostgreSQL server on a directory of its own. Its methods may
// be called from several goroutines.
type Cluster struct {
	dir, bin  string            // fixed by Start
	socketDir string            // fixed by Start
	ownSocket bool              // fixed by Start: socketDir lies outside dir and goes with Stop
	account   account           // fixed by Start
	settings  map[string]string // fixed by Start
	log       *slog.Logger

	changeMu sync.Mutex // one start or stop at a time

	serverMu sync.Mutex // guards server
	server   *process   // the latest run; never nil once Start has returned
}

// Start makes the cluster where there is none, starts its server and returns
// once that takes connections and is known to be the one on cfg.Dir. A data
// directory from an earlier run is taken as it stands, after recovery if it was
// not shut down. If ctx ends first, no server is left behind.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Cluster, error) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" || runtime.GOOS == "js" {
		return nil, fmt.Errorf("start PostgreSQL: %s has no Unix signals and sockets as they are needed here", runtime.GOOS)
	}
	c, err := prepare(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("prepare PostgreSQL in %s: %w", cfg.Dir, err)
	}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("create PostgreSQL in %s: %w", c.dir, err), c.removeSocketDir())
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL in %s: %w", c.dir, err), c.removeSocketDir())
	}
	return c, nil
}

// prepare finds programs and user and makes the directories.
func prepare(cfg Config, log *slog.Logger) (*Cluster, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no directory given")
	}
	bin, err := FindBinaries(cfg.BinDir)
	if err != nil {
		return nil, err
	}
	who, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(who.own(dir), os.Chmod(dir, 0o700)); err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: bin, account: who, settings: defaults(), log: log}
	maps.Copy(c.settings, cfg.Settings)
	if err := c.makeSocketDir(); err != nil {
		return nil, err
	}
	// These two are the promise of this package and not the caller's to change.
	c.settings["listen_addresses"] = ""
	c.settings["unix_socket_directories"] = quoteName(c.socketDir)
	return c, nil
}

// defaults are what change capture needs.
func defaults() map[string]string {
	return map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "20",
		"max_replication_slots": "20",
		"timezone":              "UTC",
		"log_timezone":          "UTC",
	}
}

// quoteName quotes one entry of a setting that takes a list of names.
func quoteName(name string) string {
	quoted := []byte{'"'}
	for _, b := range []byte(name) {
		if b == '"' {
			quoted = append(quoted, '"')
		}
		quoted = append(quoted, b)
	}
	return string(append(quoted, '"'))
}

// arguments gives the settings as postgres takes them, in a fixed order.
func (c *Cluster) arguments() []string {
	args := []string{"-D", c.DataDir()}
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		args = append(args, "-c", name+"="+c.settings[name])
	}
	return args
}

// DataDir is the server's data directory.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "data") }

// SocketDir is where the server's socket lies: the host of a DSN.
func (c *Cluster) SocketDir() string { return c.socketDir }

// LogFile holds what the server and initdb print.
func (c *Cluster) LogFile() string { return filepath.Join(c.dir, "postgres.log") }

// DSN is the address of a database as the user, as pgx and psql take it.
func (c *Cluster) DSN(db, user string) string {
	dsn := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Path:     "/" + db,
		RawQuery: url.Values{"host": {c.socketDir}, "sslmode": {"disable"}}.Encode(),
	}
	return dsn.String()
}

// Done is closed when the server that now runs has ended, for whatever reason.
func (c *Cluster) Done() <-chan struct{} { return c.current().done }

// Running reports whether the server's process lives.
func (c *Cluster) Running() bool { return c.current().running() }

func (c *Cluster) current() *process {
	c.serverMu.Lock()
	defer c.serverMu.Unlock()
	return c.server
}

// Stop shuts the server down as `pg_ctl stop --mode fast` does and returns when
// it has gone. A walsender whose client has stopped reading can hold that up:
// when ctx ends first, the server is ended as Crash does and the error says so.
// A stopped server is none to stop.
func (c *Cluster) Stop(ctx context.Context) error {
	c.changeMu.Lock()
	defer c.changeMu.Unlock()
	return errors.Join(c.stop(ctx), c.removeSocketDir())
}

// stop needs changeMu.
func (c *Cluster) stop(ctx context.Context) error {
	server := c.current()
	if err := server.signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-server.done:
		return nil
	case <-ctx.Done():
		err := fmt.Errorf("stop PostgreSQL in %s: it was ended without a checkpoint: %w", c.dir, ctx.Err())
		return errors.Join(err, c.crash())
	}
}

// Crash ends the server as a fault would: at once, without a checkpoint, so
// that its next start recovers from WAL. It returns when the server has gone.
func (c *Cluster) Crash() error {
	c.changeMu.Lock()
	defer c.changeMu.Unlock()
	return c.crash()
}

// crash needs changeMu, or a cluster that nobody else has yet.
func (c *Cluster) crash() error {
	server := c.current()
	if err := server.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	<-server.done
	return nil
}

// Restart stops the server if it runs and starts it again on the same data,
// socket and settings: also after Stop and Crash.
func (c *Cluster) Restart(ctx context.Context) error {
	c.changeMu.Lock()
	defer c.changeMu.Unlock()
	if err := c.stop(ctx); err != nil {
		return err
	}
	if err := c.ensureSocketDir(); err != nil {
		return fmt.Errorf("restart PostgreSQL in %s: %w", c.dir, err)
	}
	if err := c.start(ctx); err != nil {
		return fmt.Errorf("restart PostgreSQL in %s: %w", c.dir, err)
	}
	return nil
}
