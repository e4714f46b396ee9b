package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// proxied takes connections from load balancers that say with the PROXY
// protocol (versions 1 and 2) whose they are. Only trusted proxies speak it, and
// they must: what begins without it is closed. The connections of others are
// passed on as they are. A header is read to its last byte and no further, so
// the connection behind it is the plain one.
type proxied struct {
	net.Listener
	trusts func(netip.Addr) bool
	log    *slog.Logger
	ready  chan net.Conn // read sends, Accept receives; never closed
	end    context.Context
	stop   context.CancelFunc

	reading sync.WaitGroup
	of      sync.Map // net.Conn -> netip.Addr, until net/http lets go of the connection
}

// proxyTimeout is how long a proxy has for its header.
const proxyTimeout = 5 * time.Second

func newProxied(ln net.Listener, trusts func(netip.Addr) bool, log *slog.Logger) *proxied {
	p := &proxied{Listener: ln, trusts: trusts, log: log, ready: make(chan net.Conn)}
	p.end, p.stop = context.WithCancel(context.Background())
	return p
}

// run accepts until the listener is closed.
func (p *proxied) run() {
	defer p.reading.Wait()
	for {
		c, err := p.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // the process has no more files: others will be closed
			select {
			case <-time.After(50 * time.Millisecond):
			case <-p.end.Done():
				return
			}
		default:
			p.reading.Go(func() { p.read(c) })
		}
	}
}

// read takes the header off a connection and hands it on.
func (p *proxied) read(c net.Conn) {
	defer context.AfterFunc(p.end, func() { _ = c.Close() })()
	if from := addressOf(c); p.trusts(from) {
		_ = c.SetReadDeadline(time.Now().Add(proxyTimeout))
		named, err := readProxyHeader(c)
		if err != nil {
			p.log.Debug("connection of a trusted proxy refused", "from", from, "err", err)
			_ = c.Close()
			return
		}
		_ = c.SetReadDeadline(time.Time{})
		if named.IsValid() {
			p.of.Store(c, named.Unmap())
		}
	}
	select {
	case p.ready <- c:
	case <-p.end.Done():
		_ = c.Close()
	}
}

func (p *proxied) Accept() (net.Conn, error) {
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.end.Done():
		return nil, net.ErrClosed
	}
}

func (p *proxied) Close() error {
	p.stop()
	return p.Listener.Close()
}

// forget lets go of what is known of a connection.
func (p *proxied) forget(c net.Conn) { p.of.Delete(plain(c)) }

// plain gives the connection below TLS.
func plain(c net.Conn) net.Conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn()
	}
	return c
}

func addressOf(c net.Conn) netip.Addr {
	at, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return at.Addr().Unmap().WithZone("")
}

// namedBy is the key of a request's context under which it stands whose
// connection the proxy says it is.
type namedBy struct{}

// context adds to a connection's context what its proxy says.
func (p *proxied) context(ctx context.Context, c net.Conn) context.Context {
	if named, ok := p.of.Load(plain(c)); ok {
		return context.WithValue(ctx, namedBy{}, named)
	}
	return ctx
}

// peer gives the address of the other end of a request's connection, as the
// PROXY protocol has it where that is spoken.
func peer(r *http.Request) netip.Addr {
	if named, ok := r.Context().Value(namedBy{}).(netip.Addr); ok {
		return named
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap().WithZone("")
}

// Bounds and signatures of the headers
// (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt §2).
const (
	proxyV1      = "PROXY "
	proxyV2      = "\r\n\r\n\x00\r\nQUIT\n"
	mostProxyV1  = 107 // bytes, with the line's end
	mostProxyTLV = 4 << 10
)

var errNoProxyHeader = errors.New("it does not begin with the header of the PROXY protocol, which gateway.proxy_protocol wants")

// readProxyHeader gives the address that a header names; none where the proxy
// speaks for itself, or does not know.
func readProxyHeader(r io.Reader) (netip.Addr, error) {
	first := make([]byte, len(proxyV2)) // no header is shorter
	if _, err := io.ReadFull(r, first); err != nil {
		return netip.Addr{}, err
	}
	switch {
	case string(first) == proxyV2:
		return readProxyV2(r)
	case bytes.HasPrefix(first, []byte(proxyV1)):
		return readProxyV1(r, first)
	}
	return netip.Addr{}, errNoProxyHeader
}

// readProxyV1 reads the rest of PROXY TCP4 192.0.2.1 192.0.2.9 5678 443\r\n.
func readProxyV1(r io.Reader, line []byte) (netip.Addr, error) {
	one := make([]byte, 1)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == mostProxyV1 {
			return netip.Addr{}, errNoProxyHeader
		}
		if _, err := io.ReadFull(r, one); err != nil {
			return netip.Addr{}, err
		}
		line = append(line, one[0])
	}
	fields := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if fields[1] == "UNKNOWN" {
		return netip.Addr{}, nil
	}
	if len(fields) != 6 {
		return netip.Addr{}, errNoProxyHeader
	}
	addr, err := netip.ParseAddr(fields[2])
	if err != nil || addr.Zone() != "" || fields[1] != "TCP4" && fields[1] != "TCP6" || addr.Is4() != (fields[1] == "TCP4") {
		return netip.Addr{}, fmt.Errorf("the PROXY header names %.60q", fields[2])
	}
	return addr, nil
}

// readProxyV2 reads what stands behind the signature.
func readProxyV2(r io.Reader) (netip.Addr, error) {
	head := make([]byte, 4) // version and command, family and protocol, length
	if _, err := io.ReadFull(r, head); err != nil {
		return netip.Addr{}, err
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if head[0]>>4 != 2 || head[0]&0xf > 1 || n > mostProxyTLV {
		return netip.Addr{}, errNoProxyHeader
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.Addr{}, err
	}
	switch family := head[1]; {
	case head[0]&0xf == 0: // LOCAL: the proxy speaks for itself
		return netip.Addr{}, nil
	case family == 0x11 && n >= 12:
		return netip.AddrFrom4([4]byte(rest[:4])), nil
	case family == 0x21 && n >= 36:
		return netip.AddrFrom16([16]byte(rest[:16])), nil
	case family == 0x11 || family == 0x21:
		return netip.Addr{}, errNoProxyHeader
	}
	return netip.Addr{}, nil
}
