//go:build linux

// Package crowd has many readers for little processor time: one epoll loop,
// handshakes and frames by hand, and a buffer that all share. It checks that
// each reader gets every message once and in order, and notes when.
package crowd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Config says whom the readers connect to, and how they behave.
type Config struct {
	Address netip.AddrPort                                  // IPv4
	Hello   func(reader int) []byte                         // the first frame; nil: none, and no welcome is waited for
	Back    func(reader int, after []byte) []byte           // the same for one who comes back and has got after, an id
	Ack     bool                                            // acknowledge each message
	Tail    func(payload []byte) (n int, at int64, ok bool) // number of a message, and when it set out, in nanoseconds since 1970
}

// Crowd is all readers. Nothing happens but in its methods; it is not safe for
// concurrent use.
type Crowd struct {
	cfg     Config
	poller  int
	buffer  []byte // what is read, before it is taken apart
	events  []unix.EpollEvent
	readers []reader
	scratch []byte // what is written
	waiting []int  // readers to be connected
	left    []int  // readers whose connection has ended, before Return
	back    bool   // Return was called

	Up        int // readers who are connected, and welcome where there is a welcome
	Resumed   int // of them, those whose welcome said that nothing is missing
	Delivered int // messages, each counted once for each reader
	Repeated  int // messages that a reader had before
	Lost      int // connections that ended by themselves
	Missing   int // messages that a reader did not get before a later one

	busy      int       // readers on their way up
	notBefore time.Time // the next connection, after one that was refused
	latencies [][]time.Duration
	first     int // message of latencies[0]
	failed    error
}

// patience is how long it may last until anything happens.
const patience = time.Minute

// atOnce is how many readers are on their way up at the same time: fewer than a
// listener's queue holds.
const atOnce = 256

// New makes a crowd of nobody.
func New(cfg Config) (*Crowd, error) {
	if !cfg.Address.Addr().Is4() {
		return nil, fmt.Errorf("crowd: %s is no IPv4 address", cfg.Address)
	}
	poller, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &Crowd{cfg: cfg, poller: poller, buffer: make([]byte, 1<<20), events: make([]unix.EpollEvent, 512)}, nil
}

// Connect lets the crowd grow to n readers and waits until all are up. They wait
// for messages from next on.
func (c *Crowd) Connect(n, next int) error {
	for i := len(c.readers); i < n; i++ {
		c.readers = append(c.readers, reader{fd: -1, next: next})
		c.waiting = append(c.waiting, i)
	}
	return c.Until(func() bool { return c.Up == n })
}

// Return brings everybody back whose connection has ended or will end. Whoever is
// refused tries again.
func (c *Crowd) Return() {
	c.waiting = append(c.waiting, c.left...)
	c.left, c.back = nil, true
}

// Stall lets the last n readers read nothing any more. They keep their connections
// and count as up no longer.
func (c *Crowd) Stall(n int) error {
	for i := len(c.readers) - n; i < len(c.readers); i++ {
		fd := c.readers[i].fd
		err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096), unix.EpollCtl(c.poller, unix.EPOLL_CTL_DEL, fd, nil))
		if err != nil {
			return fmt.Errorf("stall reader %d: %w", i, err)
		}
		c.Up--
	}
	return nil
}

// Record notes the latencies of count messages, from first on.
func (c *Crowd) Record(first, count int) {
	c.first, c.latencies = first, make([][]time.Duration, count)
	for i := range c.latencies {
		c.latencies[i] = make([]time.Duration, 0, len(c.readers))
	}
}

// Slowest gives for each recorded message the time after which all but the given
// part of its readers had it, in order of that time.
func (c *Crowd) Slowest(part float64) (times []time.Duration) {
	for _, one := range c.latencies {
		if len(one) > 0 {
			slices.Sort(one)
			times = append(times, one[int(float64(len(one)-1)*(1-part))])
		}
	}
	slices.Sort(times)
	return times
}

// Delays gives all latencies that were recorded, in order.
func (c *Crowd) Delays() []time.Duration {
	all := slices.Concat(c.latencies...)
	slices.Sort(all)
	return all
}

// Until lets the readers read until done says so. It gives up when nothing has
// come for a minute.
func (c *Crowd) Until(done func() bool) error {
	heard := time.Now()
	for !done() {
		if err := c.admit(); err != nil {
			return err
		}
		n, err := unix.EpollWait(c.poller, c.events, 20) // ms
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, event := range c.events[:max(n, 0)] {
			c.happened(int(event.Fd), event.Events)
		}
		switch {
		case c.failed != nil:
			return c.failed
		case n > 0:
			heard = time.Now()
		case time.Since(heard) > patience:
			return fmt.Errorf("nothing has come for %s: %d of %d readers are connected, %d messages delivered", patience, c.Up, len(c.readers), c.Delivered)
		}
	}
	return nil
}

// For lets the readers read for a while.
func (c *Crowd) For(long time.Duration) error {
	end := time.Now().Add(long)
	return c.Until(func() bool { return time.Now().After(end) })
}

// Close cuts all connections.
func (c *Crowd) Close() error {
	var err error
	for i := range c.readers {
		if fd := c.readers[i].fd; fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return errors.Join(err, unix.Close(c.poller))
}
