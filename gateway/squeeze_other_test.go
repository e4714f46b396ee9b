//go:build !linux

package gateway

import "net"

// writeBuffer makes the kernel hold about so many bytes for a session.
func (s *session) writeBuffer(size int) error {
	return s.link.(waiting).Conn.(*net.TCPConn).SetWriteBuffer(size)
}
