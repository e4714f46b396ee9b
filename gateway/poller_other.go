//go:build !linux

package gateway

import "net"

// poller is for Linux only: elsewhere a goroutine waits for each connection.
type poller struct{}

func newPoller() (*poller, error)                                    { return nil, nil }
func (p *poller) close()                                             {}
func (p *poller) run(func(*session, bool, bool, bool), func()) error { return nil }
func (p *poller) adopt(net.Conn) (link, error)                       { return nil, nil }
func (p *poller) watch(link, *session) error                         { return nil }
