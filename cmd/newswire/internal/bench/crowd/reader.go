//go:build linux

package crowd

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// reader is one connection.
type reader struct {
	fd    int // -1 while there is none
	state state
	next  int    // message that it waits for
	rest  []byte // of a frame that has not come whole; nil most of the time
	last  [idLength]byte
	known bool // last is set
}

// idLength is that of a message id.
const idLength = 28

type state uint8

const (
	down       state = iota // no connection
	connecting              // TCP's handshake
	upgrading               // HTTP's answer is to come
	greeting                // the welcome is to come
	up
)

// perSource is how many connections one loopback address makes: less than there
// are ports.
const perSource = 20_000

// refused is how long nobody is connected after somebody was refused.
const refused = 20 * time.Millisecond

// admit starts connections while few are on their way.
func (c *Crowd) admit() error {
	for c.busy < atOnce && len(c.waiting) > 0 && time.Now().After(c.notBefore) {
		i := c.waiting[0]
		c.waiting = c.waiting[1:]
		if err := c.connect(i); err != nil {
			return err
		}
	}
	return nil
}

func (c *Crowd) connect(i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket for reader %d: %w", i, err)
	}
	source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + i/perSource)}}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), // no port waits behind its end
		unix.Bind(fd, source),
		unix.EpollCtl(c.poller, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(i)}))
	if err != nil {
		return errors.Join(fmt.Errorf("prepare reader %d: %w", i, err), unix.Close(fd))
	}
	r := &c.readers[i]
	r.fd, r.state, r.rest = fd, connecting, nil
	c.busy++
	to := &unix.SockaddrInet4{Addr: c.cfg.Address.Addr().As4(), Port: int(c.cfg.Address.Port())}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.gone(i)
	}
	return nil
}

// happened takes an event of a reader's socket.
func (c *Crowd) happened(i int, events uint32) {
	r := &c.readers[i]
	if r.state == connecting {
		c.connected(i)
		return
	}
	n, err := unix.Read(r.fd, c.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	case err != nil, n == 0:
		c.gone(i)
	case len(r.rest) > 0:
		r.rest = append(r.rest, c.buffer[:n]...)
		c.take(i, r.rest)
	default:
		c.take(i, c.buffer[:n])
	}
}

// connected asks for the upgrade, or tries again where nobody listens.
func (c *Crowd) connected(i int) {
	r := &c.readers[i]
	if code, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		c.gone(i)
		return
	}
	event := &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
	if err := unix.EpollCtl(c.poller, unix.EPOLL_CTL_MOD, r.fd, event); err != nil {
		c.failed = fmt.Errorf("epoll_ctl: %w", err)
		return
	}
	r.state = upgrading
	c.write(i, fmt.Appendf(nil, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bmV3c3dpcmUgYmVuY2hlcw==\r\nSec-WebSocket-Protocol: newswire.v1\r\n\r\n", c.cfg.Address))
}

// gone notes that a connection has ended. One that was on its way is tried again
// a little later.
func (c *Crowd) gone(i int) {
	switch lost := c.readers[i].state == up; {
	case lost && !c.back:
		c.Lost++
		c.left = append(c.left, i)
	case lost:
		c.Lost++
		c.waiting = append(c.waiting, i)
	default:
		c.waiting = append(c.waiting, i)
		c.notBefore = time.Now().Add(refused)
	}
	c.drop(i)
}

func (c *Crowd) drop(i int) {
	r := &c.readers[i]
	if r.state == up {
		c.Up--
	} else {
		c.busy--
	}
	// Closing alone would do only while nobody else has the socket; a process that
	// is being forked has it for a moment.
	_ = unix.EpollCtl(c.poller, unix.EPOLL_CTL_DEL, r.fd, nil)
	_ = unix.Close(r.fd)
	r.fd, r.state, r.rest = -1, down, nil
}

// write sends what always fits a socket's buffer: little.
func (c *Crowd) write(i int, wire []byte) {
	switch n, err := unix.Write(c.readers[i].fd, wire); {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET): // the next read tells
	case err != nil:
		c.failed = fmt.Errorf("write of reader %d: %w", i, err)
	case n < len(wire):
		c.failed = fmt.Errorf("write of reader %d: the server does not read", i)
	}
}

// take reads what has come, and keeps what is not whole.
func (c *Crowd) take(i int, data []byte) {
	r := &c.readers[i]
	if r.state == upgrading {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			r.rest = append([]byte(nil), data...)
			return
		}
		if !bytes.HasPrefix(data, []byte("HTTP/1.1 101 ")) {
			c.failed = fmt.Errorf("the server answers reader %d: %.200q", i, data)
			return
		}
		data = data[end+4:]
		c.upgraded(i)
	}
	for c.failed == nil && r.fd >= 0 {
		op, payload, behind, whole := cutFrame(data)
		if !whole {
			break
		}
		c.frame(i, op, payload)
		data = data[len(data)-behind:]
	}
	switch {
	case len(data) == 0:
		r.rest = nil
	case r.fd >= 0:
		r.rest = append([]byte(nil), data...)
	}
}
