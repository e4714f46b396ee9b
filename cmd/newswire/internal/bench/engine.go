package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// engine is `newswire serve` of this very program, on a directory of its own.
type engine struct {
	dir, slot, admin string // fixed by newEngine

	process *exec.Cmd // nil while none runs
	printed bytes.Buffer
}

// usage is what a run of an engine took.
type usage struct {
	wall, cpu time.Duration
	resident  int64 // bytes, at most
}

// newEngine makes an engine with its slot, and lets it run once: it has then
// filled its row states, which is no part of draining.
func newEngine(ctx context.Context, g *ground, n int) (*engine, error) {
	e := &engine{dir: filepath.Join(g.dir, fmt.Sprintf("engine-%d", n)), slot: fmt.Sprintf("newswire_%d", n)}
	var ports [2]string
	for i := range ports {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		ports[i] = address
	}
	e.admin = ports[0]
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`postgres:
  dsn: %q
  slot: %s
  publication: %s
  tables:
    - {name: public.articles, tags: {column: tags}, data: [id, title, summary, url, published_at], published: {column: status, equals: published}}
journal: {dir: journal}
gateway: {listen: "127.0.0.1:0", admin: %q, auth: {hs256_secret_file: secret}}
offline: {brokers: [embedded], embedded_listen: %q}
log: {level: warn}
`, g.dsn(), e.slot, publication, e.admin, ports[1])
	err := errors.Join(
		os.WriteFile(filepath.Join(e.dir, "newswire.yaml"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(e.dir, "secret"), []byte(strings.Repeat("s", 32)), 0o600),
		g.exec(ctx, "SELECT pg_create_logical_replication_slot('"+e.slot+"', 'pgoutput')"))
	if err != nil {
		return nil, err
	}
	if err := e.start(); err != nil {
		return nil, err
	}
	return e, errors.Join(e.ready(ctx), e.stop())
}

// freeAddress gives a loopback address that nobody listens on.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func (e *engine) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	e.process = exec.Command(self, "serve")
	e.process.Dir = e.dir
	e.process.Stdout, e.process.Stderr = &e.printed, &e.printed
	return e.process.Start()
}

// stop ends it as an operator does.
func (e *engine) stop() error {
	err := errors.Join(e.process.Process.Signal(syscall.SIGTERM), e.process.Wait())
	if err != nil {
		return fmt.Errorf("stop the engine: %w: %s", err, e.printed.Bytes())
	}
	return nil
}

// look is how often it is looked whether something has come about: a
// hundredth of what is measured, or less.
const look = 20 * time.Millisecond

// await asks until done says so.
func (e *engine) await(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), e.process.Process.Kill())
		}
	}
}

func (e *engine) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := e.await(ctx, func() (bool, error) {
		answer, err := http.Get("http://" + e.admin + "/readyz")
		if err != nil {
			return false, nil // it does not listen yet
		}
		return answer.StatusCode == http.StatusOK, answer.Body.Close()
	})
	if err != nil {
		return fmt.Errorf("wait for the engine: %w: %s", err, e.printed.Bytes())
	}
	return nil
}

// drain runs the engine until it has confirmed end to its slot. A profile, where
// a file is named for it, is taken for as long as said.
func (e *engine) drain(ctx context.Context, g *ground, end, profile string, long time.Duration) (u usage, err error) {
	began := time.Now()
	if err := e.start(); err != nil {
		return u, err
	}
	profiled := make(chan error, 1)
	if profile == "" {
		profiled <- nil
	} else {
		go func() { profiled <- e.profile(ctx, profile, long) }()
	}
	err = e.await(ctx, func() (done bool, err error) {
		err = g.sql.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2", end, e.slot).Scan(&done)
		return done, err
	})
	u.wall = time.Since(began)
	u.cpu, u.resident = processCPU(e.process.Process.Pid), mostResident(e.process.Process.Pid)
	return u, errors.Join(err, <-profiled, e.stop())
}

// profile takes a CPU profile of what the engine does next.
func (e *engine) profile(ctx context.Context, file string, long time.Duration) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	answer, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", e.admin, long.Seconds()))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, answer.Body)
	return errors.Join(err, out.Close())
}

// processCPU is the processor time that a process has used up to now; 0 where
// the system does not tell.
func processCPU(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	const behindName, tick = 11, 10 * time.Millisecond // fields before utime; USER_HZ is 100 on every Linux
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	var user, system time.Duration
	_, _ = fmt.Sscan(fields[behindName], &user)
	_, _ = fmt.Sscan(fields[behindName+1], &system)
	return (user + system) * tick
}

// mostResident is the most memory that a process has held; 0 where the system
// does not tell.
func mostResident(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int64
	_, _ = fmt.Sscan(after, &kilobytes)
	return kilobytes << 10
}
