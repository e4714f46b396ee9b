package gateway

import (
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
	m       *metrics

	mu    sync.Mutex // guards the rest
	all   int
	perIP map[netip.Addr]int
}

func newDoor(cfg Config, m *metrics) *door {
	return &door{
		limits: cfg.Limits, trusted: cfg.TrustedProxies, m: m,
		rate: newLimiter(cfg.Limits.HandshakesPerSecond), perIP: make(map[netip.Addr]int),
	}
}

// admit lets a connection in, or answers why not. leave gives its place back.
func (d *door) admit(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	if !d.rate.Allow() {
		d.refuse(w, http.StatusTooManyRequests, time.Second, "handshakes", "too many connections are being made")
		return nil, false
	}
	from := household(d.client(r))
	switch d.enter(from) {
	case fullHere:
		d.refuse(w, http.StatusServiceUnavailable, 5*time.Second, "sessions", "this server holds as many sessions as it may")
	case fullThere:
		d.refuse(w, http.StatusTooManyRequests, 5*time.Second, "sessions_per_ip", "this address holds as many sessions as it may")
	default:
		return func() { d.leave(from) }, true
	}
	return nil, false
}

// refuse answers who does not come in, and counts it.
func (d *door) refuse(w http.ResponseWriter, status int, after time.Duration, code, detail string) {
	d.m.refusedAs(code).Inc()
	refuse(w, status, after, code, detail)
}

// held is how many places are taken.
func (d *door) held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all
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

// household is what counts as one address: an IPv6 customer has a whole /64, and
// could come from another one of its addresses each time.
func household(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if net, err := addr.Prefix(64); err == nil {
			return net.Addr()
		}
	}
	return addr
}

// client gives the address that a request comes from: the last one in
// X-Forwarded-For that no trusted proxy has, and only from a trusted proxy. What
// no proxy writes there ends the search.
func (d *door) client(r *http.Request) netip.Addr {
	addr := peer(r)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !d.trusts(addr) {
			break
		}
		next, ok := parseHop(strings.TrimSpace(hop))
		if !ok {
			break
		}
		addr = next
	}
	return addr
}

// parseHop reads an address, with a port as some proxies write it.
func parseHop(text string) (addr netip.Addr, ok bool) {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		at, err := netip.ParseAddrPort(text)
		return at.Addr().Unmap().WithZone(""), err == nil
	}
	return addr.Unmap().WithZone(""), true
}

func (d *door) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(d.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func newLimiter(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), 2*perSecond)
}
