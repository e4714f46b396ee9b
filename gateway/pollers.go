package gateway

import (
	"net"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// openPollers runs the pollers in group until close is called.
func (g *Gateway) openPollers(group *errgroup.Group) (closeAll func(), err error) {
	closeAll = func() {
		for _, p := range g.pollers {
			p.close()
		}
	}
	if g.unpolled {
		return closeAll, nil
	}
	for range runtime.GOMAXPROCS(0) {
		p, err := newPoller()
		if err != nil {
			closeAll()
			return nil, err
		}
		if p == nil {
			return closeAll, nil // not on this system
		}
		g.pollers = append(g.pollers, p)
	}
	for _, p := range g.pollers {
		e := newEars(mostHeld + 2*maxFrame)
		e.hasty = true
		group.Go(func() error {
			return p.run(func(s *session, readable, writable, ends bool) {
				if writable {
					s.drained()
				}
				if readable {
					e.ends = ends
					g.hear(s, e)
				}
			}, func() { e.settle(g) })
		})
	}
	return closeAll, nil
}

// adopt takes the socket of a connection, for one of the pollers; nil when it
// cannot be polled, as one under TLS.
func (g *Gateway) adopt(conn net.Conn) (p *poller, polled link, err error) {
	if len(g.pollers) == 0 {
		return nil, nil, nil
	}
	p = g.pollers[int(g.accepted.Add(1))%len(g.pollers)]
	if polled, err = p.adopt(conn); polled == nil {
		return nil, nil, err
	}
	return p, polled, nil
}
