package gateway

import (
	"net"

	"golang.org/x/sys/unix"
)

// writeBuffer makes the kernel hold about so many bytes for a session.
func (s *session) writeBuffer(size int) error {
	if k, ok := s.link.(socket); ok {
		return unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
	}
	return s.link.(waiting).Conn.(*net.TCPConn).SetWriteBuffer(size)
}
