package cdc

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"newswire/cdc/cluster"
	"newswire/cdc/pgtest"
)

// direction is one way through a proxy.
type direction int

const (
	toServer direction = iota
	toClient
)

// proxy stands between the engine and its server as a network does that can
// swallow everything, or break every connection.
type proxy struct {
	listener net.Listener
	socket   string        // of the server; fixed
	over     chan struct{} // closed when the test ends
	pumps    sync.WaitGroup

	mu    sync.Mutex // guards the rest
	holes [2]bool    // what new connections lose, by direction
	lines map[*line]struct{}
}

// line is one connection through the proxy.
type line struct {
	client, server net.Conn
	holes          [2]chan struct{} // closed: what comes is swallowed for ever; guarded by proxy.mu
}

func newProxy(t *testing.T, server *cluster.Cluster) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		listener: ln,
		socket:   filepath.Join(server.SocketDir(), ".s.PGSQL.5432"),
		over:     make(chan struct{}),
		lines:    make(map[*line]struct{}),
	}
	p.pumps.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		close(p.over)
		p.reset()
		p.pumps.Wait()
	})
	return p
}

// dsn leads to the database through the proxy.
func (p *proxy) dsn(db *pgtest.DB) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable&connect_timeout=1", db.Role, p.listener.Addr(), db.Name)
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.socket)
		if err != nil {
			_ = client.Close() // the server is away
			continue
		}
		l := &line{client: client, server: server, holes: [2]chan struct{}{make(chan struct{}), make(chan struct{})}}
		p.mu.Lock()
		for way, hole := range p.holes {
			if hole {
				close(l.holes[way])
			}
		}
		p.lines[l] = struct{}{}
		p.mu.Unlock()
		p.pumps.Go(func() { p.pump(l, toServer, client, server) })
		p.pumps.Go(func() { p.pump(l, toClient, server, client) })
	}
}

// pump carries bytes one way until there are no more, or they are swallowed:
// then the other end does not learn of this one's end either.
func (p *proxy) pump(l *line, way direction, from, to net.Conn) {
	hole := l.holes[way]
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-hole:
			if err == nil {
				continue
			}
			<-p.over
			_ = to.Close()
			return
		default:
		}
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			_ = to.Close()
			if err != io.EOF {
				_ = from.Close()
			}
			p.mu.Lock()
			delete(p.lines, l)
			p.mu.Unlock()
			return
		}
	}
}

// swallow makes a black hole of every connection there is, and of those to
// come, until the network is mended: for new ones only.
func (p *proxy) swallow(ways ...direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, way := range ways {
		p.holes[way] = true
		for l := range p.lines {
			close(l.holes[way])
		}
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holes = [2]bool{}
}

// reset breaks every connection, as a firewall does that forgets them.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.lines {
		if tcp, ok := l.client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the client gets an RST
		}
		_ = l.client.Close()
		_ = l.server.Close()
		delete(p.lines, l)
	}
}
