package engine

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLoopbackListenerIsNotAskedByForeignNames(t *testing.T) {
	t.Parallel()
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}
	for _, c := range []struct {
		at     *net.TCPAddr
		host   string
		status int
	}{
		{loopback, "127.0.0.1:8081", 200}, {loopback, "127.0.0.1", 200}, {loopback, "localhost:9000", 200}, {loopback, "LOCALHOST", 200},
		{loopback, "[::1]:8081", 200}, {loopback, "[::1]", 200}, {loopback, "admin.internal:8081", 200}, {loopback, "", 200},
		{loopback, "evil.example.com:8081", 403}, {loopback, "evil.example.com", 403}, {loopback, "localhost.evil.example.com", 403},
		{loopback, "127.0.0.1.evil.example.com:8081", 403}, {&net.TCPAddr{IP: net.IPv6loopback}, "evil.example.com", 403},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 7)}, "newswire.example.com", 200}, {&net.TCPAddr{IP: net.IPv6zero}, "newswire.example.com", 200},
	} {
		req := httptest.NewRequest("GET", "/v1/status", nil)
		req.Host = c.host
		got := httptest.NewRecorder()
		ownHost("admin.internal:8081", c.at, served).ServeHTTP(got, req)
		if got.Code != c.status || c.status == 403 && !strings.Contains(got.Body.String(), "gateway.admin") {
			t.Errorf("Host %q at %s: %d %s, want %d", c.host, c.at, got.Code, got.Body, c.status)
		}
	}
}
