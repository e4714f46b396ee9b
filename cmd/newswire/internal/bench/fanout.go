//go:build linux

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"newswire/cmd/newswire/internal/bench/crowd"
	"newswire/cmd/newswire/internal/bench/yard"
)

// Fanout says how many readers there are and what they are sent.
type Fanout struct {
	Readers int
	Rate    int           // messages a second to all of them
	For     time.Duration // of one measurement

	Burst        int // messages as fast as they can be sent; 0 leaves this out
	BurstReaders int

	Runs      int    // of everything
	Curve     bool   // instead: how the engine grows
	Reconnect bool   // instead: everybody comes back after the engine was killed
	Stalled   int    // instead, where it is not 0: so many of the readers stop reading
	Profile   string // directory for CPU profiles of the servers; "" for none
	Stdout    io.Writer
}

// Run prints what each of the three servers of package yard takes, in turn, and
// the engine's ratios to the others.
func (f Fanout) Run(ctx context.Context) (err error) {
	if f.Readers < 1 || f.Rate < 1 || f.For < time.Second || f.Burst < 0 || f.BurstReaders < 1 || f.Runs < 1 || f.Stalled < 0 || f.Stalled >= f.Readers {
		return errors.New("fan-out benchmark: want a reader or more, who do not all stall, a message a second or more, a second or more, no negative burst, and at least one run")
	}
	most := max(f.Readers, f.BurstReaders)
	if f.Curve {
		most = curve[len(curve)-1]
	}
	if err := enoughDescriptors(most); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "newswire-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g := fanoutGround{Fanout: f, ctx: ctx, dir: dir}
	switch {
	case f.Curve:
		return g.grow()
	case f.Reconnect:
		return g.reconnect()
	case f.Stalled > 0:
		return g.stall()
	}
	return g.compare()
}

// enoughDescriptors tells when the system does not permit so many connections.
// Go has raised the soft limit to the hard one already, here and in a server.
func enoughDescriptors(readers int) error {
	const others = 200 // files, listeners, pipes
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if limit.Cur < uint64(readers+others) {
		return fmt.Errorf("fan-out benchmark: %d readers need %d descriptors, and a process may have %d here; raise the limit (ulimit -n, LimitNOFILE=), or take fewer readers",
			readers, readers+others, limit.Cur)
	}
	return nil
}

// fanoutGround is what a fan-out benchmark stands on.
type fanoutGround struct {
	Fanout
	ctx     context.Context
	dir     string // of the whole run
	servers int    // that there were
}

// scene is one server with its readers.
type scene struct {
	g     *fanoutGround
	kind  string
	acks  bool // readers acknowledge
	dir   string
	child *child
	crowd *crowd.Crowd
	next  int // message
}

// open starts a server.
func (g *fanoutGround) open(kind string, acks bool) (*scene, error) {
	g.servers++
	s := &scene{g: g, kind: kind, acks: acks, dir: filepath.Join(g.dir, fmt.Sprint(g.servers))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.child, err = startChild(kind, s.dir, "127.0.0.1:0"); err != nil {
		return nil, err
	}
	cfg := crowd.Config{Address: s.child.address, Ack: acks, Tail: yard.ReadTail}
	if kind == yard.Newswire {
		cfg.Hello = func(reader int) []byte { return hello(name(reader), yard.Tag, "") }
		cfg.Back = func(reader int, after []byte) []byte { return hello(name(reader), yard.Tag, string(after)) }
	}
	if s.crowd, err = crowd.New(cfg); err != nil {
		return nil, errors.Join(err, s.child.end())
	}
	return s, nil
}

func name(reader int) string { return fmt.Sprint("reader", reader) }

// close sends the readers away first: nobody has to be told goodbye then.
func (s *scene) close() error {
	return errors.Join(s.crowd.Close(), s.child.end(), os.RemoveAll(s.dir))
}

// hello is a reader's first frame; after is the id that it has got, or nothing.
func hello(reader, tag, after string) []byte {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": reader, "exp": time.Now().Add(24 * time.Hour).Unix(),
	}).SignedString(yard.Secret)
	if err != nil {
		panic("sign a token: " + err.Error()) // HS256 takes every key
	}
	frame := map[string]any{"type": "hello", "token": token, "follow": []string{tag}}
	if after != "" {
		frame["after"] = after
	}
	text, err := json.Marshal(frame)
	if err != nil {
		panic("encode a hello: " + err.Error()) // strings only
	}
	return text
}

// settle is how long a server may still be at work behind the last delivery.
const settle = 500 * time.Millisecond

// publish sends messages and waits until every reader has every one of them.
func (s *scene) publish(count int, every time.Duration) error {
	want := s.crowd.Delivered + count*s.crowd.Up
	if err := s.child.tell(yard.Order{Publish: &yard.Publish{First: s.next, Count: count, Every: every}}); err != nil {
		return err
	}
	s.next += count
	err := s.crowd.Until(func() bool { return s.crowd.Delivered >= want || s.g.ctx.Err() != nil })
	if err = errors.Join(err, s.g.ctx.Err()); err != nil {
		return err
	}
	if _, err := s.child.answer(); err != nil {
		return err
	}
	if s.crowd.Missing > 0 || s.crowd.Lost > 0 {
		return fmt.Errorf("%s: %d messages were missing, %d connections lost", s.kind, s.crowd.Missing, s.crowd.Lost)
	}
	return nil
}

// cost is what a delivery takes the server while it sends messages.
func (s *scene) cost(profile string, count int, every time.Duration) (time.Duration, error) {
	before, err := s.child.used(false)
	if err != nil {
		return 0, err
	}
	if s.g.Profile != "" {
		if err := s.child.profile(filepath.Join(s.g.Profile, s.kind+"-"+profile+".pprof")); err != nil {
			return 0, err
		}
	}
	s.crowd.Record(s.next, count)
	if err := s.publish(count, every); err != nil {
		return 0, err
	}
	after, err := s.rest()
	return (after.CPU - before.CPU) / time.Duration(count*s.crowd.Up), err
}

// rest waits until the server has nothing to do any more.
func (s *scene) rest() (used yard.Used, err error) {
	for {
		if err := s.crowd.For(settle); err != nil {
			return used, err
		}
		if used, err = s.child.used(false); err != nil || !s.acks || used.Owed == 0 {
			return used, err
		}
	}
}
