package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// door admits connections before the upgrade, within the limits.
type door struct {
	limits  Limits
	trusted []netip.Prefix
	rate    *rate.Limiter // handshakes

	mu    sync.Mutex // guards the rest
	all   int
	perIP map[netip.Addr]int
}

func newDoor(cfg Config) *door {
	return &door{
		limits: cfg.Limits, trusted: cfg.TrustedProxies,
		rate: newLimiter(cfg.Limits.HandshakesPerSecond), perIP: make(map[netip.Addr]int),
	}
}

// admit lets a connection in, or answers why not. leave gives its place back.
func (d *door) admit(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	if !d.rate.Allow() {
		refuse(w, http.StatusTooManyRequests, time.Second, "handshakes", "too many connections are being made")
		return nil, false
	}
	from := d.client(r)
	switch d.enter(from) {
	case fullHere:
		refuse(w, http.StatusServiceUnavailable, 5*time.Second, "sessions", "this server holds as many sessions as it may")
	case fullThere:
		refuse(w, http.StatusTooManyRequests, 5*time.Second, "sessions_per_ip", "this address holds as many sessions as it may")
	default:
		return func() { d.leave(from) }, true
	}
	return nil, false
}

// room tells whether there is place for one more connection.
type room int

const (
	hasRoom   room = iota
	fullHere       // in all
	fullThere      // from its address
)

// enter takes a place where there is one.
func (d *door) enter(from netip.Addr) room {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.limits.Sessions > 0 && d.all >= d.limits.Sessions:
		return fullHere
	case d.limits.SessionsPerIP > 0 && d.perIP[from] >= d.limits.SessionsPerIP:
		return fullThere
	}
	d.all++
	d.perIP[from]++
	return hasRoom
}

func (d *door) leave(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.perIP[from]--; d.perIP[from] == 0 {
		delete(d.perIP, from)
	}
}

// client gives the address that a request comes from: the last one in
// X-Forwarded-For that no trusted proxy has, and only from a trusted proxy.
func (d *door) client(r *http.Request) netip.Addr {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	addr, _ := netip.ParseAddr(host)
	addr = addr.Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !d.trusts(addr) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		addr = next.Unmap()
	}
	return addr
}

func (d *door) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(d.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}
