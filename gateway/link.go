package gateway

import (
	"net"
	"time"
)

// link is a connection's bytes. Any goroutine may shut it.
type link interface {
	// read gives what has come. Without waits, errWait tells that there is
	// nothing now; the session hears when there is.
	read(b []byte) (n int, err error)
	// write takes bytes. Without waits it takes what fits; errWait tells that
	// this was not all, and the session hears when more does.
	write(b []byte) (n int, err error)
	// waits tells that read and write wait, and need a goroutine that may.
	waits() bool
	// shut ends what is read and written; close gives the connection back when
	// nobody does either any more.
	shut()
	close()
}

// waiting is a connection that the kernel's poller is not asked about: one
// under TLS, and every one where there is no poller. A goroutine reads it.
type waiting struct {
	net.Conn
	timeout time.Duration // for each write
}

func (w waiting) waits() bool                      { return true }
func (w waiting) read(b []byte) (n int, err error) { return w.Read(b) }
func (w waiting) shut()                            { _ = w.Conn.Close() }
func (w waiting) close()                           { _ = w.Conn.Close() }

func (w waiting) write(b []byte) (n int, err error) {
	if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.Write(b)
}
