package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	socketName    = ".s.PGSQL.5432"
	maxSocketPath = 103 // sun_path takes 107 bytes on Linux and 103 on macOS and the BSDs

	startPatience = 60 * time.Second      // recovery after a crash included
	predecessor   = 5 * time.Second       // for the server of a parent just killed to end
	pollInterval  = 20 * time.Millisecond // between two looks at a starting server
)

// makeSocketDir puts the socket beside the data if its path is short enough for
// a socket, else into a private directory in the temporary one.
func (c *Cluster) makeSocketDir() error {
	inside := filepath.Join(c.dir, "socket")
	if fits(inside) {
		c.socketDir = inside
		return c.ensureSocketDir()
	}
	for _, temporary := range []string{os.TempDir(), "/tmp"} {
		if !fits(filepath.Join(temporary, "newswire-0123456789")) {
			continue
		}
		dir, err := os.MkdirTemp(temporary, "newswire-")
		if err != nil {
			continue
		}
		c.socketDir, c.ownSocket = dir, true
		return c.account.own(dir)
	}
	return fmt.Errorf("a socket's path may have %d bytes, and neither %s nor the temporary directory is short enough: choose a shorter directory, or set TMPDIR to one", maxSocketPath, inside)
}

func fits(dir string) bool { return len(filepath.Join(dir, socketName)) <= maxSocketPath }

// ensureSocketDir makes the directory again that Stop may have removed.
func (c *Cluster) ensureSocketDir() error {
	if err := os.Mkdir(c.socketDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return c.account.own(c.socketDir)
}

func (c *Cluster) removeSocketDir() error {
	if !c.ownSocket {
		return nil
	}
	return os.RemoveAll(c.socketDir)
}

// create runs initdb if there is no data directory. It works beside and is
// renamed when complete, so that an interrupted one is never taken for whole.
func (c *Cluster) create(ctx context.Context) error {
	entries, err := os.ReadDir(c.DataDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return c.checkVersion()
	}
	unfinished := c.DataDir() + ".new"
	err = c.initdb(ctx, unfinished, "--locale=C.UTF-8")
	if err != nil && strings.Contains(err.Error(), "invalid locale name") {
		err = c.initdb(ctx, unfinished, "--no-locale") // a C library without C.UTF-8: text is UTF-8 all the same
	}
	if err != nil {
		return err
	}
	return os.Rename(unfinished, c.DataDir()) // over an empty directory too
}

func (c *Cluster) initdb(ctx context.Context, dir, locale string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	args := []string{"-D", dir, "-U", Superuser, "--auth=trust", "--encoding=UTF8", locale}
	if c.settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	var out bytes.Buffer
	cmd := c.command("initdb", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := launch(cmd)
	if err != nil {
		return c.explain("initdb", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		err := p.signal(syscall.SIGINT) // on which initdb removes what it has written
		<-p.done
		return errors.Join(ctx.Err(), err)
	}
	if p.err != nil {
		return fmt.Errorf("run initdb: %w: %s", p.err, strings.TrimSpace(out.String()))
	}
	return nil
}

// checkVersion compares the data directory with the programs before they do:
// their own message does not say what helps.
func (c *Cluster) checkVersion() error {
	made, err := os.ReadFile(filepath.Join(c.DataDir(), "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("%s is not empty and no PostgreSQL data directory: choose another directory", c.DataDir())
	}
	out, err := c.command("postgres", "--version").Output() // "postgres (PostgreSQL) 15.18 (Debian …)"
	if err != nil {
		return c.explain("postgres", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return fmt.Errorf("read the version of %s/postgres: it printed %q", c.bin, out)
	}
	version := strings.TrimSpace(string(made))
	if fields[2] == version || strings.HasPrefix(fields[2], version+".") || isPrerelease(fields[2], version) {
		return nil
	}
	return fmt.Errorf("%w: it is of version %s and the programs in %s are of version %s: use those of version %s, or remove %s to start anew",
		ErrVersion, version, c.bin, fields[2], version, c.dir)
}

// isPrerelease takes 19beta1, 19rc2 and 19devel as version 19.
func isPrerelease(program, version string) bool {
	rest, ok := strings.CutPrefix(program, version)
	return ok && rest != "" && (rest[0] < '0' || rest[0] > '9')
}

// start launches the server and waits for it; changeMu is held, or nobody else
// has the cluster yet. When it fails, no server is left.
func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience,
		fmt.Errorf("not ready within %s: see %s", startPatience, c.LogFile()))
	defer cancel()
	c.awaitPredecessor(ctx)

	log, err := os.OpenFile(c.LogFile(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own descriptor of it
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := c.command("postgres", c.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	server, err := launch(cmd)
	if err != nil {
		return c.explain("postgres", err)
	}
	c.serverMu.Lock()
	c.server = server
	c.serverMu.Unlock()

	if err := c.await(ctx, server, log, begin); err != nil {
		return errors.Join(err, c.crash())
	}
	c.log.Debug("PostgreSQL runs", "data", c.DataDir(), "socket", c.socketDir, "pid", server.os.Pid)
	return nil
}

// awaitPredecessor gives the server of a parent that was just killed the moment
// that it needs to end. If it stays, PostgreSQL itself refuses the directory.
func (c *Cluster) awaitPredecessor(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, predecessor)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		pid, ok := c.lockHolder()
		if !ok || !alive(pid) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lockHolder is the process that postmaster.pid names.
func (c *Cluster) lockHolder() (int, bool) {
	content, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	return pid, err == nil && pid > 0
}

// await returns when the server takes connections and has shown that it is ours.
func (c *Cluster) await(ctx context.Context, server *process, log io.ReaderAt, begin int64) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var err error
	for {
		// Whoever holds the lock file is the one that answers on the socket: a
		// server of an earlier Start answers there too, and is not ours.
		if pid, ok := c.lockHolder(); ok && pid == server.os.Pid {
			var conn *pgx.Conn
			if conn, err = pgx.Connect(ctx, c.DSN("postgres", Superuser)); err == nil {
				err = c.identify(ctx, conn)
				return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
			}
		}
		select {
		case <-server.done:
			return c.explainExit(server, log, begin)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// identify makes sure that what answers on the socket is our server.
func (c *Cluster) identify(ctx context.Context, conn *pgx.Conn) error {
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return fmt.Errorf("ask the server for its data directory: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("resolve the server's data directory: %w", err)
	}
	if real != c.DataDir() {
		return fmt.Errorf("the server on %s has its data in %s: %w", c.socketDir, dir, ErrRunning)
	}
	return nil
}

// explainExit tells from what the server has printed since begin why it ended.
func (c *Cluster) explainExit(server *process, log io.ReaderAt, begin int64) error {
	const enough = 16 << 10
	printed := make([]byte, enough)
	n, _ := log.ReadAt(printed, begin) // what cannot be read is missing in the message, and the exit is still told
	text := string(printed[:n])
	if strings.Contains(text, `lock file "postmaster.pid" already exists`) {
		pid, _ := c.lockHolder()
		return fmt.Errorf("%w (PID %d): stop that one first, with %s/pg_ctl -D %s stop", ErrRunning, pid, c.bin, c.DataDir())
	}
	var faults []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "FATAL:") || strings.Contains(line, "PANIC:") || strings.Contains(line, "HINT:") || strings.Contains(line, "ERROR:") {
			faults = append(faults, strings.TrimSpace(line))
		}
	}
	return fmt.Errorf("the server ended before it was ready (%v): %s; see %s", server.err, strings.Join(faults, " "), c.LogFile())
}
