package gatewaytest

import (
	"errors"
	"net"
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

// Await is Until that gives back what went wrong, for tests in which the
// connection may end.
func (r *Reader) Await(want func(Frame) bool) (Frame, error) { return r.until(patience, want) }

// Raw is the connection below the protocol, for a stalled reader whose frames
// the test reads itself.
func (r *Reader) Raw() net.Conn { return r.conn.NetConn() }

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

// Gone waits until the connection has ended, which it tells, or until stop is
// closed.
func (r *Reader) Gone(stop <-chan struct{}) bool {
	for {
		r.mu.Lock()
		grown, closed := r.grown, r.closed
		r.mu.Unlock()
		if closed {
			return true
		}
		select {
		case <-grown:
		case <-stop:
			return false
		}
	}
}
