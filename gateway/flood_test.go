package gateway

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// raw is a connection whose bytes the test writes itself.
type raw struct {
	net.Conn
	in *bufio.Reader
}

func (r *rig) raw() raw {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.gateway.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return raw{conn, bufio.NewReader(conn)}
}

// upgraded is raw behind the handshake; more are further lines of its header.
func (r *rig) upgraded(more ...string) (raw, http.Header) {
	r.t.Helper()
	c := r.raw()
	fmt.Fprintf(c, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: newswire.v1\r\n%s\r\n", strings.Join(more, ""))
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return c, resp.Header
}

// masked is a client's frame, its payload masked with zeros.
func masked(op byte, payload string) string {
	b := []byte{op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return string(append(b, 0, 0, 0, 0)) + payload
}

// code reads until the close frame and gives its code; 0 when the connection
// ends without one.
func (c raw) code() int {
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c.in, head); err != nil {
			return 0
		}
		size := int(head[1])
		if size == 126 {
			long := make([]byte, 2)
			if _, err := io.ReadFull(c.in, long); err != nil {
				return 0
			}
			size = int(binary.BigEndian.Uint16(long))
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return 0
		}
		if head[0] == opClose && size >= 2 {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

// Whatever a client floods with, it is thrown out with the documented code, be it
// before its hello or behind; nobody hangs, and a reader beside it loses nothing.
// Which limit pieces meet first depends on how the network delivers them.
func TestFloodsAreThrownOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.FramesPerSecond = 20 })
	good := r.join("good", gatewaytest.Options{Follow: []string{"tech"}})
	stop := r.writeOn("tech")
	const many = 20_000
	repeat := func(frame string) func(w io.Writer) {
		return func(w io.Writer) {
			chunk := []byte(strings.Repeat(frame, 100))
			for range many / 100 {
				if _, err := w.Write(chunk); err != nil {
					return // thrown out
				}
			}
		}
	}
	hello := masked(opText, `{"type":"hello","token":"`+r.token("bad", nil)+`"}`)
	for name, c := range map[string]struct {
		greeted bool
		flood   func(io.Writer)
		codes   []int
	}{
		"pings":                   {true, repeat(masked(opPing, "")), []int{4029}},
		"pings before the hello":  {false, repeat(masked(opPing, "x")), []int{4029}},
		"pongs":                   {true, repeat(masked(opPong, "")), []int{4029}},
		"pongs before the hello":  {false, repeat(masked(opPong, "")), []int{4029}},
		"frames of one byte":      {true, repeat(masked(opText, "1")), []int{4029}},
		"a byte before the hello": {false, repeat(masked(opText, "1")), []int{4500}},
		"empty frames":            {true, repeat(masked(opText, "")), []int{4500}},
		"pieces of one byte":      {true, repeat(masked(0x01, "[") + masked(0x00, "1")), []int{1002, 1009}},
		"one endless message":     {true, func(w io.Writer) { fmt.Fprint(w, masked(0x01, "[")); repeat(masked(0x00, "1"))(w) }, []int{1009, 4029}},
		"empty pieces":            {true, func(w io.Writer) { fmt.Fprint(w, masked(0x01, "")); repeat(masked(0x00, ""))(w) }, []int{1009, 4029}},
		"empty pieces, no hello":  {false, func(w io.Writer) { fmt.Fprint(w, masked(0x01, "")); repeat(masked(0x00, ""))(w) }, []int{1009, 4029}},
		"a frame of 1 GB": {true, func(w io.Writer) {
			_, _ = w.Write(append(binary.BigEndian.AppendUint64([]byte{opText, 0x80 | 127}, 1<<30), 0, 0, 0, 0))
		}, []int{1009}},
		"a frame of 2^63": {false, func(w io.Writer) {
			_, _ = w.Write(append(binary.BigEndian.AppendUint64([]byte{opText, 0x80 | 127}, 1<<63), 0, 0, 0, 0))
		}, []int{1002, 1009}},
		"17 KiB":            {true, func(w io.Writer) { fmt.Fprint(w, masked(opText, strings.Repeat(" ", 17<<10))) }, []int{1009}},
		"compressed":        {true, func(w io.Writer) { fmt.Fprint(w, masked(0xC1, "x")) }, []int{1002}},
		"unmasked":          {true, func(w io.Writer) { fmt.Fprint(w, "\x81\x01x") }, []int{1002}},
		"a ping of 1 KiB":   {true, func(w io.Writer) { fmt.Fprint(w, masked(opPing, strings.Repeat("x", 1024))) }, []int{1002}},
		"binary":            {true, func(w io.Writer) { fmt.Fprint(w, masked(0x82, "{}")) }, []int{4500}},
		"another operation": {true, func(w io.Writer) { fmt.Fprint(w, masked(0x83, "{}")) }, []int{1002}},
		"unknown types":     {true, repeat(masked(opText, `{"type":"x"}`)), []int{4029}},
		"hellos":            {true, repeat(hello), []int{4029}},
	} {
		conn, header := r.upgraded("Sec-WebSocket-Extensions: permessage-deflate\r\n")
		if got := header.Get("Sec-WebSocket-Extensions"); got != "" {
			t.Errorf("%s: compression %q is agreed", name, got)
		}
		if c.greeted {
			fmt.Fprint(conn, hello)
		}
		sent := make(chan struct{})
		go func() { defer close(sent); c.flood(conn) }()
		if code := conn.code(); !slices.Contains(c.codes, code) {
			t.Errorf("%s: closed with %d, want %v", name, code, c.codes)
		}
		conn.Close()
		<-sent
	}
	ids := stop()
	last := ids[len(ids)-1]
	good.Until("the last message", func(f gatewaytest.Frame) bool { return f.ID == last })
	if got := good.IDs(); !slices.Equal(got, ids) {
		t.Errorf("the reader beside it got %d messages, want %d in their order", len(got), len(ids))
	}
	r.eventually("the flooders have gone", func() bool { return r.gateway.door.held() == 1 })
}

// A flood of acknowledgements that name nothing is read slowly, and costs the
// others nothing.
func TestEmptyAcknowledgementsAreReadSlowly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good := r.join("good", gatewaytest.Options{Follow: []string{"tech"}})
	for _, frame := range []string{`{"type":"ack"}`, `{"type":"ack","ids":[]}`, `{"type":"ack","id":"nothing"}`} {
		c := r.join("bad", gatewaytest.Options{})
		_ = c.Raw().(*net.TCPConn).SetWriteBuffer(4096)
		_ = c.Raw().SetWriteDeadline(time.Now().Add(time.Second))
		written := 0
		chunk := []byte(strings.Repeat(masked(opText, frame), 200))
		for range 2000 { // 400,000 of them, if it read as fast as they come
			if _, err := c.Raw().Write(chunk); err != nil {
				break // it does not read so fast
			}
			written += 200
		}
		if written == 400_000 {
			t.Errorf("%s: all of %d were taken at once", frame, written)
		}
		c.Close()
	}
	id := r.publish(1, "tech")[0]
	good.Until("the message", func(f gatewaytest.Frame) bool { return f.ID == id })
}

// Who drips a header, a body or a hello is let go at the deadline, and keeps no
// place.
func TestDrippingClientsAreLetGo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	drip := func(conn raw, first, more string, gone <-chan struct{}) {
		if _, err := fmt.Fprint(conn, first); err != nil {
			return
		}
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-gone:
				return
			}
			if _, err := fmt.Fprint(conn, more); err != nil {
				return
			}
		}
	}
	token := r.token("u1", nil)
	for name, c := range map[string]struct {
		upgrade     bool
		first, more string
		check       func(raw) string // what is wrong
	}{
		"a header": {false, "GET /v1/poll HTTP/1.1\r\nX: ", "x", func(c raw) string {
			_, err := io.ReadAll(c.in)
			if err != nil && strings.Contains(err.Error(), "timeout") {
				return "it is not closed"
			}
			return ""
		}},
		"nothing": {false, "", "", func(c raw) string {
			_, err := io.ReadAll(c.in)
			if err != nil && strings.Contains(err.Error(), "timeout") {
				return "it is not closed"
			}
			return ""
		}},
		"a body": {false, "POST /v1/ack HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\nAuthorization: Bearer " + token + "\r\n\r\n", " ", func(c raw) string {
			resp, err := http.ReadResponse(c.in, nil)
			if err != nil || resp.StatusCode != http.StatusRequestTimeout {
				return fmt.Sprintf("answered %v, %v; want 408", resp, err)
			}
			return ""
		}},
		"a hello": {true, "\x81\xfe\x27\x10\x00\x00\x00\x00", " ", func(c raw) string {
			if code := c.code(); code != 4008 {
				return fmt.Sprintf("closed with %d, want 4008", code)
			}
			return ""
		}},
		"pings for a hello": {true, "", masked(opPing, ""), func(c raw) string {
			if code := c.code(); code != 4008 {
				return fmt.Sprintf("closed with %d, want 4008", code)
			}
			return ""
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conn raw
			if c.upgrade {
				conn, _ = r.upgraded()
			} else {
				conn = r.raw()
			}
			gone, done := make(chan struct{}), make(chan struct{})
			go func() { defer close(done); drip(conn, c.first, c.more, gone) }()
			if wrong := c.check(conn); wrong != "" {
				t.Error(wrong)
			}
			close(gone)
			<-done
		})
	}
}

// Many connections that say nothing let others in at once, and go by themselves.
func TestIdleCrowdLetsOthersIn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for n := range 300 {
		if n%2 == 0 {
			r.raw()
		} else {
			r.upgraded()
		}
	}
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}})
	ids := r.publish(3, "tech")
	if got := c.WaitMessages(3); len(got) != len(ids) {
		t.Errorf("%d messages, want %d", len(got), len(ids))
	}
	r.eventually("who said nothing has gone", func() bool { return r.gateway.door.held() == 1 })
}
