package engine

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ownHost keeps pages of other sites from a listener on loopback: a name of
// theirs that suddenly means 127.0.0.1 makes the browser of whoever sits at this
// machine ask here (DNS rebinding). Requests by address, as localhost, or by the
// name that is configured go through.
func ownHost(configured string, at net.Addr, next http.Handler) http.Handler {
	if tcp, ok := at.(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return next
	}
	own := hostOf(configured)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r.Host)
		_, err := netip.ParseAddr(host)
		if err == nil || host == "" || strings.EqualFold(host, "localhost") || strings.EqualFold(host, own) {
			next.ServeHTTP(w, r)
			return
		}
		tellRefusal(w, http.StatusForbidden, "foreign_host", "this listener is on loopback: ask it as localhost, or by the host that gateway.admin names")
	})
}

// hostOf gives the host of HOST or HOST:PORT, an IPv6 address without brackets.
func hostOf(text string) string {
	if host, _, err := net.SplitHostPort(text); err == nil {
		return host
	}
	return strings.Trim(text, "[]")
}
