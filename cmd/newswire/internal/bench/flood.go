//go:build linux

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"newswire/cmd/newswire/internal/bench/crowd"
	"newswire/cmd/newswire/internal/bench/siege"
)

// Flood says whom a siege may not hold up, and for how long it is measured.
type Flood struct {
	Readers int
	Rate    int           // commits of one article a second
	For     time.Duration // of one measurement
	Runs    int           // of each
	PGBin   string        // directory of PostgreSQL's programs; "" finds them
	Stdout  io.Writer
}

// floodGate is how many times as long readers may wait while others flood.
const floodGate = 1.5

// gather is how long a siege has to draw up: 5,000 connections, and the first
// of them thrown out.
const gather = 7 * time.Second

// Run measures how long readers wait for an article from the sending of its
// commit on, in turn without a siege and with one of each kind.
func (f Flood) Run(ctx context.Context, log *slog.Logger) (err error) {
	if f.Readers < 1 || f.Rate < 1 || f.For < time.Second || f.Runs < 1 {
		return errors.New("flood benchmark: want a reader, a commit a second, a second and a run, or more of each")
	}
	if err := enoughDescriptors(f.Readers + 6000); err != nil {
		return err
	}
	g, err := newGround(ctx, f.PGBin, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	e, err := newEngine(ctx, g, 0)
	if err != nil {
		return err
	}
	if err := e.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := e.ready(ctx); err != nil {
		return err
	}
	kinds := append([]string{""}, siege.Kinds...)
	taken := make(map[string][]delays)
	for run := range f.Runs {
		for _, kind := range kinds {
			d, counts, err := f.measure(ctx, g, e, kind, run)
			if err != nil {
				return err
			}
			taken[kind] = append(taken[kind], d)
			if kind == "" {
				fmt.Fprintf(f.Stdout, "run %d  %-6s %s\n", run+1, "-", d)
			} else {
				fmt.Fprintf(f.Stdout, "run %d  %-6s %s   %d connections (%d refused), %d frames or bytes, %d open at the end\n",
					run+1, kind, d, counts.Connections, counts.Refused, counts.Frames, counts.Open)
			}
		}
	}
	for _, kind := range siege.Kinds {
		for _, part := range []float64{0.5, 0.99} {
			ratio(f.Stdout, fmt.Sprintf("p%g under %s", 100*part, kind), parts(taken[kind], part), parts(taken[""], part), floodGate)
		}
	}
	return nil
}

// parts gives a quantile of each run.
func parts(runs []delays, part float64) (all []time.Duration) {
	for _, d := range runs {
		all = append(all, d.at(part))
	}
	return all
}

// measure lets readers of their own wait for articles, while a siege of a kind
// lasts; "" is none.
func (f Flood) measure(ctx context.Context, g *ground, e *engine, kind string, run int) (d delays, counts siege.Counts, err error) {
	address, err := e.gateway()
	if err != nil {
		return nil, counts, err
	}
	m := measurement{fmt.Sprintf("run-%d-%s", run, kind), 1}
	c, err := crowd.New(crowd.Config{
		Address: address,
		Ack:     true,
		Hello:   m.hello,
		Tail: func(payload []byte) (int, int64, bool) {
			n, at, _, ok := readTitle(payload)
			return n, at, ok
		},
	})
	if err != nil {
		return nil, counts, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Connect(f.Readers, 0); err != nil {
		return nil, counts, err
	}
	if kind != "" {
		end, err := besiege(kind, address.String())
		if err != nil {
			return nil, counts, err
		}
		defer func() {
			var ended error
			counts, ended = end()
			err = errors.Join(err, ended)
		}()
		if err := c.For(gather); err != nil {
			return nil, counts, err
		}
	}
	l := Latency{Rate: f.Rate, For: f.For}
	c.Record(0, l.each(1))
	saved := make(chan error, 1)
	go func() { saved <- l.save(ctx, g, m) }()
	err = c.Until(func() bool { return c.Delivered >= f.Readers*l.each(1) || ctx.Err() != nil })
	err = errors.Join(err, <-saved, ctx.Err())
	if err == nil && c.Lost > 0 {
		err = fmt.Errorf("%d readers were thrown out", c.Lost)
	}
	return c.Delays(), counts, err
}

// besiege starts a siege in a process of its own; end ends it.
func besiege(kind, address string) (end func() (siege.Counts, error), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "bench", "siege", kind, address)
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a siege: %w", err)
	}
	return func() (counts siege.Counts, err error) {
		err = errors.Join(in.Close(), json.NewDecoder(out).Decode(&counts))
		return counts, errors.Join(err, cmd.Wait())
	}, nil
}

// Siege is the process that besiege starts.
func Siege(ctx context.Context, kind, address string, commands io.Reader, out io.Writer) error {
	talker := func(n int) []byte { return hello(fmt.Sprint("besieger", n), "nothing", "") }
	return siege.Run(ctx, kind, address, talker, commands, out)
}
