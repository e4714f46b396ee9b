//go:build linux

// Package yard has the servers that the fan-out benchmark compares: the engine,
// and two yardsticks that send the same bytes to the same sockets and do nothing
// else. Each runs in a process of its own, told what to do over its standard
// input, and measures its own processor time and memory.
package yard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
)

// Kinds of servers.
const (
	Bare     = "bare"     // a loop of write(2) over the sockets
	Gorilla  = "gorilla"  // two goroutines and a channel for each connection, prepared messages
	Newswire = "newswire" // the engine, with subscriptions, journal and ledger
)

// Secret signs the readers' tokens.
var Secret = []byte(strings.Repeat("s", 32))

// server sends messages to all its readers.
type server interface {
	address() string
	// publish sends message n, which set out at the given time, on its way to all.
	publish(n int, at time.Time) error
	// owed tells how many messages some reader has not acknowledged.
	owed() (int, error)
	close() error
}

// Order is what a server is told, one JSON object a line.
type Order struct {
	Publish *Publish `json:",omitempty"`
	Measure *Measure `json:",omitempty"`
	Profile string   `json:",omitempty"` // file for the processor profile of what comes until the next Measure
}

// Publish asks for messages First to First+Count-1.
type Publish struct {
	First, Count int
	Every        time.Duration // 0: as fast as they can be sent
}

// Measure asks what has been used up to now.
type Measure struct {
	Collect bool // garbage first, and give back what is free
}

// Answer is what a server says, one JSON object a line: one when it listens,
// then one for each order.
type Answer struct {
	Error   string `json:",omitempty"`
	Address string `json:",omitempty"`
	Used    *Used  `json:",omitempty"`
}

// Used is what a server has taken.
type Used struct {
	CPU      time.Duration // user and system, since its start
	Resident int64         // bytes, now
	Owed     int           // messages that some reader has not acknowledged
}

// Serve runs a server of the given kind until its input ends. dir is where it
// may keep things; listen is where it listens.
func Serve(ctx context.Context, kind, dir, listen string, in io.Reader, out io.Writer) (err error) {
	var s server
	switch kind {
	case Bare:
		s, err = newBare(listen)
	case Gorilla:
		s, err = newGorilla(listen)
	case Newswire:
		s, err = newEngine(ctx, dir, listen)
	default:
		err = fmt.Errorf("there is no server %q: want %s, %s or %s", kind, Bare, Gorilla, Newswire)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	say := json.NewEncoder(out)
	if err := say.Encode(Answer{Address: s.address()}); err != nil {
		return err
	}
	for orders := json.NewDecoder(in); ; {
		var o Order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := obey(ctx, s, o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := say.Encode(a); err != nil {
			return err
		}
	}
}

func obey(ctx context.Context, s server, o Order) (a Answer, err error) {
	switch {
	case o.Publish != nil:
		return a, o.Publish.run(ctx, s)
	case o.Measure != nil:
		pprof.StopCPUProfile() // nothing happens where none is taken
		a.Used, err = o.Measure.run(s)
		return a, err
	default:
		f, err := os.Create(o.Profile)
		if err != nil {
			return a, err
		}
		return a, pprof.StartCPUProfile(f) // the process's end closes it
	}
}

func (p *Publish) run(ctx context.Context, s server) error {
	began := time.Now()
	for i := range p.Count {
		wait := time.NewTimer(time.Until(began.Add(time.Duration(i) * p.Every)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.publish(p.First+i, time.Now()); err != nil {
			return fmt.Errorf("publish message %d: %w", p.First+i, err)
		}
	}
	return nil
}

func (m *Measure) run(s server) (*Used, error) {
	if m.Collect {
		runtime.GC() // what finalizers let go is freed by the second one, which FreeOSMemory does
		debug.FreeOSMemory()
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return nil, fmt.Errorf("getrusage: %w", err)
	}
	resident, err := resident()
	if err != nil {
		return nil, err
	}
	owed, err := s.owed()
	return &Used{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Resident: resident, Owed: owed}, err
}

// resident is this process's memory in bytes, as the kernel counts it.
func resident() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, fmt.Errorf("read /proc/self/statm: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
