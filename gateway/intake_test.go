package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// clientFrame of the wire: masked, as a browser sends it.
func maskedFrame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// heard is what a session's parser makes of bytes that come in pieces.
func heard(pieces ...[]byte) (messages []string, err error) {
	g := &Gateway{deps: &deps{m: &metrics{}}}
	s := &session{gateway: g, deps: g.deps}
	s.ending = endLeft // so that it answers nobody
	var p parser
	var data []byte
	for _, piece := range pieces {
		data = append(bytes.Clone(data), piece...)
		for {
			unit, rest, control, err := cut(data)
			if err != nil {
				return messages, err
			}
			if data = rest; unit == nil {
				break
			}
			raw, err := p.parse(s, unit, control, make([]byte, maxFrame+1))
			if err != nil {
				return messages, err
			}
			if !control {
				messages = append(messages, string(raw))
			}
		}
	}
	return messages, nil
}

// However the network divides what a client sends, the same messages arrive.
func TestMessagesArriveHoweverTheyAreDivided(t *testing.T) {
	t.Parallel()
	var stream []byte
	for _, f := range [][]byte{
		maskedFrame(0x81, `{"type":"ack"}`),
		maskedFrame(0x01, "in "), maskedFrame(0x89, "ping between"), maskedFrame(0x00, "three "), maskedFrame(0x8a, ""), maskedFrame(0x80, "pieces"),
		maskedFrame(0x81, strings.Repeat("x", 200)), maskedFrame(0x8a, "pong"), maskedFrame(0x81, ""),
		maskedFrame(0x01, ""), maskedFrame(0x00, ""), maskedFrame(0x80, ""), maskedFrame(0x81, strings.Repeat("y", maxFrame)),
	} {
		stream = append(stream, f...)
	}
	want := []string{`{"type":"ack"}`, "in three pieces", strings.Repeat("x", 200), "", "", strings.Repeat("y", maxFrame)}
	check := func(how string, pieces ...[]byte) {
		t.Helper()
		got, err := heard(pieces...)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: %d messages and error %v, want %d", how, len(got), err, len(want))
		}
	}
	check("at once", stream)
	for at := range 400 {
		check(fmt.Sprint("in two at ", at), stream[:at], stream[at:])
	}
	for range 50 {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(60)*rand.IntN(60))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		check(fmt.Sprint("in ", len(pieces)), pieces...)
	}
}

// What is no WebSocket, or too large, is an error as soon as that can be seen.
func TestWhatIsNoFrameIsRefused(t *testing.T) {
	t.Parallel()
	piece := maskedFrame(0x00, "")
	for name, c := range map[string]struct {
		stream []byte
		large  bool
	}{
		"not masked":                    {[]byte{0x81, 0x05}, false},
		"not masked, behind a piece":    {append(maskedFrame(0x01, "x"), 0x80, 0x05), false},
		"control frame of 126 bytes":    {[]byte{0x89, 0xfe}, false},
		"control frame in pieces":       {maskedFrame(0x09, "x"), false},
		"reserved bit":                  {maskedFrame(0xc1, "x"), false},
		"reserved kind":                 {maskedFrame(0x83, "x"), false},
		"end of what was not begun":     {maskedFrame(0x80, "x"), false},
		"begun twice":                   {append(maskedFrame(0x01, "x"), maskedFrame(0x81, "y")...), false},
		"binary":                        {maskedFrame(0x82, "x"), false},
		"over 16 KiB, by its header":    {maskedFrame(0x81, strings.Repeat("x", maxFrame+1))[:8], true},
		"over 16 KiB in pieces":         {append(maskedFrame(0x01, strings.Repeat("x", maxFrame)), maskedFrame(0x80, "x")...), true},
		"a length of 2^63":              {[]byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0}, true},
		"a length of 2^62":              {[]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0}, true},
		"empty pieces without an end":   {append(maskedFrame(0x01, ""), bytes.Repeat(piece, mostHeld/len(piece))...), true},
		"a close with a code of nobody": {maskedFrame(0x88, "\x00\x01"), false},
	} {
		_, err := heard(c.stream)
		if err == nil || errors.Is(err, errTooBig) != c.large {
			t.Errorf("%s: error %v, want one; too big: %v", name, err, c.large)
		}
	}
}

// FuzzIntake compares with gorilla reading the same bytes from a connection.
func FuzzIntake(f *testing.F) {
	f.Add(maskedFrame(0x81, "x"), uint8(3))
	f.Add(append(maskedFrame(0x01, "in "), append(maskedFrame(0x89, "ping"), maskedFrame(0x80, "two")...)...), uint8(1))
	f.Add(maskedFrame(0x88, "\x03\xe8bye"), uint8(7))
	f.Add([]byte{0x81, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 2}, uint8(2))
	f.Add([]byte{0x89, 0xfe, 0, 126}, uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, err := heard(pieces...)
		if errors.Is(err, errTooBig) {
			return // gorilla reads on
		}
		want := byGorilla(t, stream)
		if len(got) > len(want) {
			t.Fatalf("got %q, gorilla reads %q", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("message %d is %q, gorilla reads %q", i, got[i], want[i])
			}
		}
		if err == nil && len(want) > len(got) {
			t.Fatalf("got %q, gorilla reads %q", got, want)
		}
	})
}

// byGorilla gives the text messages at the beginning of a stream.
func byGorilla(t *testing.T, stream []byte) (messages []string) {
	var p parser
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	p.session = &session{gateway: new(Gateway), deps: new(deps), ending: endLeft}
	p.unit = stream
	for {
		kind, raw, err := p.conn.ReadMessage()
		if err != nil || kind != websocket.TextMessage {
			return messages
		}
		messages = append(messages, string(raw))
	}
}

// A client that says its last and closes at once is heard to the end.
func TestAcksBeforeTheEndAreTaken(t *testing.T) {
	t.Parallel()
	for _, r := range eachWay(t) {
		first := r.join("u0", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
		for i := range 50 {
			id := r.publish(1, "tech")[0]
			conn := r.rawConn("u0")
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			got := ""
			for !strings.Contains(got, id) {
				b := make([]byte, 4096)
				n, err := conn.Read(b)
				if err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
				got += string(b[:n])
			}
			if _, err := conn.Write(maskedFrame(0x81, `{"type":"ack","id":"`+id+`"}`)); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 { // else the next message finds a socket that is closed, with the ack unread
				_ = conn.(*net.TCPConn).CloseWrite()
				rest, _ := io.ReadAll(conn)
				if got += string(rest); strings.Count(got, id) != 1 {
					t.Errorf("round %d: got %q, want the message once", i, got)
				}
			}
			conn.Close()
		}
		first.Sync()
		r.wantUnread("u0", nil)
	}
}

// rawConn says hello over a connection of its own, without a library.
func (r *rig) rawConn(reader string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.gateway.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", subprotocol)
	answer, one := "", make([]byte, 1)
	for !strings.HasSuffix(answer, "\r\n\r\n") {
		if _, err := io.ReadFull(conn, one); err != nil {
			r.t.Fatal(err)
		}
		answer += string(one)
	}
	if _, err := conn.Write(maskedFrame(0x81, `{"type":"hello","token":"`+r.token(reader, nil)+`"}`)); err != nil {
		r.t.Fatal(err)
	}
	return conn
}
