//go:build linux

package yard

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

// bare is the least that can be done: it answers the handshake, keeps the
// descriptor, and writes each message to one after the other.
type bare struct {
	listener net.Listener
	accepted chan error // of the accepting goroutine, when it has returned

	mu      sync.Mutex // guards sockets
	sockets []int
}

func newBare(listen string) (*bare, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	b := &bare{listener: ln, accepted: make(chan error, 1)}
	go func() { b.accepted <- b.accept() }()
	return b, nil
}

// accept takes connections one by one until the listener is closed.
func (b *bare) accept() error {
	for {
		conn, err := b.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		fd, err := upgrade(conn.(*net.TCPConn))
		if err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		b.mu.Lock()
		b.sockets = append(b.sockets, fd)
		b.mu.Unlock()
	}
}

// upgrade answers a handshake and takes the socket away from Go's poller.
func upgrade(conn *net.TCPConn) (fd int, err error) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	if err != nil {
		return 0, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var duplicate error
	err = raw.Control(func(own uintptr) { fd, duplicate = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, duplicate)
}

func (b *bare) address() string { return b.listener.Addr().String() }

func (b *bare) publish(n int, at time.Time) error {
	wire, err := wireFrame(frame(n, at))
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fd := range b.sockets {
		if err := writeAll(fd, wire); err != nil {
			return fmt.Errorf("write to socket %d: %w", fd, err)
		}
	}
	return nil
}

// writeAll waits where the socket is full, as a blocking write would.
func writeAll(fd int, wire []byte) error {
	for len(wire) > 0 {
		n, err := unix.Write(fd, wire)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
			if err != nil && !errors.Is(err, syscall.EINTR) {
				return err
			}
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		default:
			wire = wire[n:]
		}
	}
	return nil
}

// wireFrame is a text frame of a server.
func wireFrame(payload []byte) ([]byte, error) {
	if len(payload) != Size {
		return nil, fmt.Errorf("a message has %d bytes, want %d", len(payload), Size)
	}
	const text, final, twoBytes = websocket.TextMessage, 0x80, 126
	return append([]byte{final | text, twoBytes, Size >> 8, Size & 0xff}, payload...), nil
}

func (b *bare) owed() (int, error) { return 0, nil }

func (b *bare) close() error {
	err := errors.Join(b.listener.Close(), <-b.accepted)
	for _, fd := range b.sockets {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}
