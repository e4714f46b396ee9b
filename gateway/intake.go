package gateway

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

var (
	errNotText = errors.New("binary frame")
	errTooBig  = errors.New("frame over 16 KiB")
)

// mostHeld bounds what is held of a frame in pieces, headers included, however
// small the pieces: a thousand of them, for what is held is looked at each time
// that more comes.
const mostHeld = maxFrame + 8<<10

// header is the beginning of a client's frame (RFC 6455 §5.2).
type header struct {
	control bool
	final   bool
	sound   bool // as far as its length can be told by it
	size    int  // with the mask
	payload uint64
}

// parseHeader reads a header; ok is false while some of it is missing.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < 2 {
		return header{}, false
	}
	h = header{control: b[0]&0x08 != 0, final: b[0]&0x80 != 0, size: 2 + 4, payload: uint64(b[1] & 0x7f)}
	masked := b[1]&0x80 != 0
	h.sound = masked && !(h.control && h.payload > 125)
	switch {
	case !h.sound:
		return h, true
	case h.payload == 126 && len(b) >= 4:
		h.size, h.payload = 4+4, uint64(binary.BigEndian.Uint16(b[2:]))
	case h.payload == 127 && len(b) >= 10:
		h.size, h.payload = 10+4, binary.BigEndian.Uint64(b[2:])
	case h.payload >= 126:
		return h, false
	}
	return h, true
}

// cut takes the first message that is there whole off what a client sent, in
// one frame or several, or a control frame, which may stand between a message's
// frames. It gives the bytes of what it took and the rest; both nil unit and nil
// error mean that more must come. What is no WebSocket is given to gorilla as
// it is, to say so. cut may move bytes within b.
func cut(b []byte) (unit, rest []byte, control bool, err error) {
	payload := uint64(0)
	for at := 0; ; {
		h, ok := parseHeader(b[at:])
		if ok && !h.sound {
			return b[at:], nil, false, nil
		}
		if ok && !h.control {
			if payload += h.payload; h.payload > maxFrame || payload > maxFrame {
				return nil, nil, false, errTooBig
			}
		}
		if !ok || len(b)-at < h.size+int(h.payload) {
			if len(b) > mostHeld {
				return nil, nil, false, errTooBig
			}
			return nil, b, false, nil
		}
		end := at + h.size + int(h.payload)
		switch {
		case h.control && at == 0:
			return b[:end], b[end:], true, nil
		case h.control:
			unit = append(unit, b[at:end]...)
			return unit, append(b[:at], b[end:]...), true, nil
		case h.final:
			return b[:end], b[end:], false, nil
		}
		at = end
	}
}

// nothing is an empty message of a client. It stands behind a control frame,
// because gorilla acts on control frames on its way to the next message.
var nothing = []byte{0x81, 0x80, 0, 0, 0, 0}

// parser reads units with gorilla, whose connections know nothing of a client
// between two messages: so those who read share one, and a session needs none.
// Owned by one goroutine.
type parser struct {
	conn    *websocket.Conn // nil before the first unit, and after a fault
	session *session        // whose unit it is
	unit    []byte          // what gorilla is to read
	next    []byte          // and what behind it
}

// parse gives a unit's message, which is read into buf; nothing for a control
// frame, on which it acts.
func (p *parser) parse(s *session, unit []byte, control bool, buf []byte) (raw []byte, err error) {
	if p.conn == nil {
		if err := p.open(); err != nil {
			return nil, err
		}
	}
	p.session, p.unit, p.next = s, unit, nil
	if control {
		p.next = nothing
	}
	raw, err = p.message(buf)
	if p.session = nil; err != nil {
		p.conn = nil // it gives the same error ever after
	}
	return raw, err
}

func (p *parser) message(buf []byte) (raw []byte, err error) {
	kind, r, err := p.conn.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, errNotText
	}
	for n := 0; ; {
		more, err := r.Read(buf[n:])
		n += more
		switch {
		case err == io.EOF:
			return buf[:n], nil
		case err != nil:
			return nil, err
		case n == len(buf):
			return nil, errTooBig
		}
	}
}

// inMemory makes a gorilla connection of a parser.
var inMemory = websocket.Upgrader{ReadBufferSize: 125, WriteBufferSize: 125} // the least: nothing is waited for

// open makes the connection that gorilla reads.
func (p *parser) open() (err error) {
	ask := &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}
	if p.conn, err = inMemory.Upgrade(answerTo{p}, ask, nil); err != nil {
		return fmt.Errorf("make parser: %w", err)
	}
	p.conn.SetPingHandler(func(data string) error {
		s := p.session
		if !s.gateway.mayAsk(s) {
			s.end(endRateLimited, time.Second)
			return nil
		}
		s.pong(data)
		return nil
	})
	p.conn.SetPongHandler(func(string) error { // one that answers no ping costs as much
		if s := p.session; !s.gateway.mayAsk(s) {
			s.end(endRateLimited, time.Second)
		}
		return nil
	})
	return nil
}

// answerTo is where the upgrade in memory is answered.
type answerTo struct{ p *parser }

func (a answerTo) Header() http.Header         { return http.Header{} }
func (a answerTo) Write(b []byte) (int, error) { return len(b), nil }
func (a answerTo) WriteHeader(int)             {}

func (a answerTo) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return feed{parser: a.p}, bufio.NewReadWriter(bufio.NewReader(nil), bufio.NewWriter(io.Discard)), nil
}

// feed is a session's connection as gorilla sees it: it reads the unit, and what
// it writes is the close frame that it ends the session with.
type feed struct {
	net.Conn // nil: nothing else is called
	parser   *parser
}

func (f feed) Read(b []byte) (int, error) {
	p := f.parser
	if len(p.unit) == 0 {
		p.unit, p.next = p.next, nil
	}
	n := copy(b, p.unit)
	if p.unit = p.unit[n:]; n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (f feed) Write(b []byte) (int, error) {
	if f.parser.session == nil {
		return len(b), nil // the upgrade's answer
	}
	e := endLost
	if len(b) == 2 || len(b) >= 4 && binary.BigEndian.Uint16(b[2:]) != websocket.CloseProtocolError {
		e = endLeft // it answers the client's close
	}
	f.parser.session.reply(append([]byte(nil), b...), e)
	return len(b), nil
}

func (f feed) SetDeadline(time.Time) error      { return nil }
func (f feed) SetWriteDeadline(time.Time) error { return nil }
