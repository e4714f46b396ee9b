package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller tells sessions when their sockets have something to read, or room
// again. Its own epoll set is watched by the runtime's poller in turn, so it
// takes no thread while nothing happens.
//
// Sockets are in it once, edge-triggered: a session reads until nothing is
// there, and is told only of what comes after.
type poller struct {
	fd  int      // the set's
	set *os.File // owns fd
	raw syscall.RawConn

	closed atomic.Bool

	mu   sync.Mutex // guards here
	here []*session // by descriptor
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll set: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime watches it
		return nil, errors.Join(fmt.Errorf("make epoll set: %w", err), unix.Close(fd))
	}
	p := &poller{fd: fd, set: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.set.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch epoll set: %w", err), p.set.Close())
	}
	return p, nil
}

// close ends run.
func (p *poller) close() {
	p.closed.Store(true)
	_ = p.set.Close()
}

// mostEvents is how many sockets a poller is told of at a time.
const mostEvents = 256

// run tells sessions, until close. Between two looks it calls rest.
func (p *poller) run(tell func(s *session, readable, writable, ends bool), rest func()) error {
	events := make([]unix.EpollEvent, mostEvents)
	sessions := make([]*session, mostEvents)
	for {
		n := 0
		var fault error
		err := p.raw.Read(func(fd uintptr) bool {
			for {
				if n, fault = unix.EpollWait(int(fd), events, 0); fault != unix.EINTR {
					return n > 0 || fault != nil
				}
			}
		})
		switch {
		case p.closed.Load():
			return nil
		case errors.Join(err, fault) != nil:
			return fmt.Errorf("wait for sockets: %w", errors.Join(err, fault))
		}
		p.mu.Lock()
		for i := range n {
			sessions[i] = p.here[events[i].Fd]
		}
		p.mu.Unlock()
		for i, s := range sessions[:n] {
			if s != nil { // else it has gone
				e := events[i].Events
				ends := e&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
				tell(s, ends || e&unix.EPOLLIN != 0, ends || e&unix.EPOLLOUT != 0, ends)
			}
		}
		clear(sessions[:n])
		rest()
	}
}

// watch tells a session of its socket from now on.
func (p *poller) watch(polled link, s *session) error {
	fd := polled.(socket).fd
	p.mu.Lock()
	for fd >= len(p.here) {
		p.here = append(p.here, make([]*session, max(256, len(p.here)))...)
	}
	p.here[fd] = s
	p.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// remove is called before the socket is closed.
func (p *poller) remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd < len(p.here) { // else it was never watched
		p.here[fd] = nil
	}
}

// socket is a TCP connection that is read and written without waiting. It
// costs a descriptor and nothing else.
type socket struct {
	fd     int
	poller *poller
}

// adopt takes the socket out of a connection, which it closes; nil when conn is
// not TCP itself.
func (p *poller) adopt(conn net.Conn) (link, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, nil
	}
	raw, err := tcp.SyscallConn()
	fd := 0
	if err == nil {
		var fault error
		err = raw.Control(func(own uintptr) { fd, fault = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
		err = errors.Join(err, fault)
	}
	if err != nil {
		return nil, fmt.Errorf("take socket: %w", err)
	}
	_ = tcp.Close() // ours goes on
	return socket{fd, p}, nil
}

func (k socket) waits() bool { return false }

func (k socket) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(k.fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, errWait
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (k socket) write(b []byte) (sent int, err error) {
	for sent < len(b) {
		// It does not wait, so the scheduler need not know of it.
		n, _, err := unix.RawSyscall(unix.SYS_WRITE, uintptr(k.fd), uintptr(unsafe.Pointer(&b[sent])), uintptr(len(b)-sent))
		switch err {
		case 0:
			sent += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return sent, errWait
		default:
			return sent, os.NewSyscallError("write", err)
		}
	}
	return sent, nil
}

func (k socket) shut() { _ = unix.Shutdown(k.fd, unix.SHUT_RDWR) }

func (k socket) close() {
	k.poller.remove(k.fd)
	_ = unix.Close(k.fd)
}
