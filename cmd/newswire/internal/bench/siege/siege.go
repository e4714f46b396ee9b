//go:build linux

// Package siege is who must not hold up readers: clients that ping without end,
// send frames of one byte, drip their headers, or connect and say nothing. Each
// that is thrown out comes back at once.
package siege

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Kinds are the ways there are.
var Kinds = []string{"pings", "bytes", "drip", "idle"}

// Counts are what a siege did.
type Counts struct {
	Connections int64 `json:"connections"` // opened
	Refused     int64 `json:"refused"`     // of them, those that did not come to the upgrade
	Frames      int64 `json:"frames"`      // sent, or bytes of a header
	Open        int64 `json:"open"`        // at the end
}

// Sizes of each kind, and how fast it goes at most, so that it says something
// about the server and not about how fast one can write.
const (
	talkers      = 50
	framesAtOnce = 20
	framesEvery  = 10 * time.Millisecond // so many at once, by each talker: 2,000 a second
	drippers     = 500
	dripEvery    = 500 * time.Millisecond
	idlers       = 5000
	connectEvery = time.Millisecond
)

type siege struct {
	address string
	hello   func(n int) []byte
	doors   *time.Ticker // of connections

	connections, refused, frames, open atomic.Int64
}

// Run besieges a gateway until commands ends, and prints Counts as JSON. hello
// makes the first frame of talker n. The process steps behind all others: an
// attacker's machine is not the server's.
func Run(ctx context.Context, kind, address string, hello func(n int) []byte, commands io.Reader, out io.Writer) error {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	s := &siege{address: address, hello: hello, doors: time.NewTicker(connectEvery)}
	defer s.doors.Stop()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	act, crowd := s.ping, talkers
	switch kind {
	case "pings":
	case "bytes":
		act = s.oneByte
	case "drip":
		act, crowd = s.drip, drippers
	case "idle":
		act, crowd = s.idle, idlers
	default:
		return fmt.Errorf("siege: there is no %q", kind)
	}
	var all sync.WaitGroup
	for n := range crowd {
		all.Go(func() { s.again(ctx, n, act) })
	}
	_, _ = io.Copy(io.Discard, commands)
	counts := Counts{s.connections.Load(), s.refused.Load(), s.frames.Load(), s.open.Load()}
	stop()
	all.Wait()
	return json.NewEncoder(out).Encode(counts)
}

// again connects and acts, over and over.
func (s *siege) again(ctx context.Context, n int, act func(ctx context.Context, n int, c net.Conn)) {
	for {
		select {
		case <-s.doors.C:
		case <-ctx.Done():
			return
		}
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			s.refused.Add(1)
			continue
		}
		s.connections.Add(1)
		s.open.Add(1)
		cut := context.AfterFunc(ctx, func() { _ = c.Close() })
		act(ctx, n, c)
		cut()
		_ = c.Close()
		s.open.Add(-1)
	}
}

// upgrade makes a session of a connection; false when it is refused.
func (s *siege) upgrade(c net.Conn) bool {
	_, err := fmt.Fprintf(c, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: newswire.v1\r\n\r\n")
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		s.refused.Add(1)
	}
	return err == nil
}

// frame masks a client's frame with zeros.
func frame(op byte, payload []byte) []byte {
	b := []byte{op}
	if n := len(payload); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// talk says hello and then frame after frame until it is thrown out.
func (s *siege) talk(ctx context.Context, n int, c net.Conn, next func(i int) []byte) {
	if !s.upgrade(c) {
		return
	}
	if _, err := c.Write(frame(0x81, s.hello(n))); err != nil {
		return
	}
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = io.Copy(io.Discard, c) }()
	defer func() { _ = c.Close(); <-gone }()
	pace := time.NewTicker(framesEvery)
	defer pace.Stop()
	for i := 0; ; {
		select {
		case <-pace.C:
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
		var wire []byte
		for range framesAtOnce {
			wire = append(wire, next(i)...)
			i++
		}
		if _, err := c.Write(wire); err != nil {
			return
		}
		s.frames.Add(framesAtOnce)
	}
}

func (s *siege) ping(ctx context.Context, n int, c net.Conn) {
	s.talk(ctx, n, c, func(int) []byte { return frame(0x89, nil) })
}

// oneByte sends messages of one byte, or one endless message in pieces of one
// byte.
func (s *siege) oneByte(ctx context.Context, n int, c net.Conn) {
	s.talk(ctx, n, c, func(i int) []byte {
		switch {
		case n%2 == 0:
			return frame(0x81, []byte("1"))
		case i == 0:
			return frame(0x01, []byte("["))
		}
		return frame(0x00, []byte("1"))
	})
}

// drip sends a header a byte at a time.
func (s *siege) drip(ctx context.Context, _ int, c net.Conn) {
	gone := make(chan struct{})
	go func() { defer close(gone); _, _ = io.Copy(io.Discard, c) }()
	defer func() { _ = c.Close(); <-gone }()
	if _, err := io.WriteString(c, "GET /v1/poll HTTP/1.1\r\nX: "); err != nil {
		return
	}
	tick := time.NewTicker(dripEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
		s.frames.Add(1)
	}
}

// idle says nothing: half of them before the upgrade, half before the hello.
func (s *siege) idle(_ context.Context, n int, c net.Conn) {
	if n%2 == 0 || s.upgrade(c) {
		_, _ = io.Copy(io.Discard, c)
	}
}
