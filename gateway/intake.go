package gateway

import (
	"bufio"
	"encoding/binary"
	"errors"
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
// small the pieces.
const mostHeld = 4 * maxFrame

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

// parse gives a unit's message, which is read into buf; nothing for a control
// frame, on which it acts.
func (s *session) parse(unit []byte, control bool, buf []byte) (raw []byte, err error) {
	s.feed.unit, s.feed.next = unit, nil
	if control {
		s.feed.next = nothing
	}
	kind, r, err := s.conn.NextReader()
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

// feed is the connection as gorilla sees it. Until the upgrade is answered it
// is the connection; then gorilla reads units that are there whole, and what it
// writes is the close frame that it ends the session with.
type feed struct {
	net.Conn // nil once the upgrade is answered
	session  *session
	unit     []byte
	next     []byte
}

func (f *feed) Read(b []byte) (int, error) {
	if len(f.unit) == 0 {
		f.unit, f.next = f.next, nil
	}
	n := copy(b, f.unit)
	if f.unit = f.unit[n:]; n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (f *feed) Write(b []byte) (int, error) {
	if f.Conn != nil {
		return f.Conn.Write(b)
	}
	e := endLost
	if len(b) == 2 || len(b) >= 4 && binary.BigEndian.Uint16(b[2:]) != websocket.CloseProtocolError {
		e = endLeft // it answers the client's close
	}
	f.session.reply(append([]byte(nil), b...), e)
	return len(b), nil
}

func (f *feed) SetWriteDeadline(t time.Time) error {
	if f.Conn != nil {
		return f.Conn.SetWriteDeadline(t)
	}
	return nil
}

// hijacker gives gorilla the feed in place of the connection.
type hijacker struct {
	http.ResponseWriter
	feed *feed
}

// Hijack takes the connection over from net/http, whose buffers are let go.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.feed.Conn = conn
	return h.feed, buffered, err
}
