package gatewaytest

import (
	"errors"
	"syscall"

	"github.com/gorilla/websocket"
)

// Resume lets a stalled reader read on.
func (r *Reader) Resume() { r.once.Do(func() { close(r.flow) }) }

// SendKind says something as a frame of any kind, pings and fragments of a
// protocol error among them.
func (r *Reader) SendKind(kind int, raw []byte) error {
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	return r.conn.WriteMessage(kind, raw)
}

// Leave says goodbye as a browser does.
func (r *Reader) Leave() {
	_ = r.SendKind(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
}

// Pongs tells each WebSocket pong to got, on the reading goroutine. It is
// called while the reader is stalled.
func (r *Reader) Pongs(got func(data string)) {
	r.conn.SetPongHandler(func(data string) error { got(data); return nil })
}

// receiveBuffer bounds what the kernel takes for a connection that is not read.
func receiveBuffer(size int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size)
		}), err)
	}
}
