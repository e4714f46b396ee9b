package gateway

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// proxyV2Header names a client; an invalid address makes it the proxy's own.
func proxyV2Header(from netip.Addr, more ...byte) string {
	head, body := []byte(proxyV2), []byte(nil)
	switch {
	case !from.IsValid():
		head = append(head, 0x20, 0)
	case from.Is4():
		head, body = append(head, 0x21, 0x11), append(append(from.AsSlice(), 192, 0, 2, 9), 0x16, 0x2e, 0x01, 0xbb)
	default:
		head, body = append(head, 0x21, 0x21), append(append(from.AsSlice(), make([]byte, 16)...), 0x16, 0x2e, 0x01, 0xbb)
	}
	body = append(body, more...)
	return string(append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...))
}

func TestProxyHeadersNameTheClient(t *testing.T) {
	v4, v6 := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")
	for name, c := range map[string]struct {
		header, want string // "" none named, "error" refused
	}{
		"v1 TCP4":        {"PROXY TCP4 203.0.113.7 192.0.2.9 5678 443\r\n", "203.0.113.7"},
		"v1 TCP6":        {"PROXY TCP6 2001:db8::7 2001:db8::9 5678 443\r\n", "2001:db8::7"},
		"v1 unknown":     {"PROXY UNKNOWN\r\n", ""},
		"v1 with more":   {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
		"v1 mixed":       {"PROXY TCP4 2001:db8::7 192.0.2.9 1 2\r\n", "error"},
		"v1 no address":  {"PROXY TCP4 localhost 192.0.2.9 1 2\r\n", "error"},
		"v1 short":       {"PROXY TCP4 203.0.113.7\r\n", "error"},
		"v1 endless":     {"PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "error"},
		"v1 other kind":  {"PROXY UDP4 203.0.113.7 192.0.2.9 1 2\r\n", "error"},
		"v2 TCP4":        {proxyV2Header(v4), "203.0.113.7"},
		"v2 TCP6":        {proxyV2Header(v6), "2001:db8::7"},
		"v2 with more":   {proxyV2Header(v4, make([]byte, 300)...), "203.0.113.7"},
		"v2 local":       {proxyV2Header(netip.Addr{}), ""},
		"v2 much":        {proxyV2Header(v4, make([]byte, mostProxyTLV)...), "error"},
		"v2 short":       {proxyV2 + "\x21\x11\x00\x04\xcb\x00\x71\x07", "error"},
		"v2 version":     {proxyV2 + "\x11\x11\x00\x00", "error"},
		"v2 unix socket": {proxyV2 + "\x21\x31\x00\x00", ""},
		"HTTP":           {"GET /v1/poll HTTP/1.1\r\n\r\n", "error"},
		"TLS":            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", "error"},
		"nothing":        {"", "error"},
	} {
		const behind = "GET / HTTP/1.1"
		r := strings.NewReader(c.header + behind)
		if c.want == "error" {
			r = strings.NewReader(c.header)
		}
		got, err := readProxyHeader(r)
		rest, _ := io.ReadAll(r)
		switch {
		case c.want == "error" && err == nil:
			t.Errorf("%s: names %s, want an error", name, got)
		case c.want == "error":
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == "" && got.IsValid(), c.want != "" && got.String() != c.want:
			t.Errorf("%s: names %s, want %q", name, got, c.want)
		case string(rest) != behind:
			t.Errorf("%s: behind the header %q is left, want %q", name, rest, behind)
		}
	}
}

// through connects as a proxy does that begins with a header.
func through(header string) *websocket.Dialer {
	return &websocket.Dialer{Subprotocols: []string{subprotocol}, HandshakeTimeout: patience, NetDial: func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		if err == nil {
			_, err = conn.Write([]byte(header))
		}
		return conn, err
	}}
}

func TestConnectionsOfProxiesAreTheirClients(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) {
		s.ProxyProtocol, s.Limits.SessionsPerIP = true, 1
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	dial := func(header string, forwarded ...string) (*websocket.Conn, int, error) {
		conn, resp, err := through(header).Dial(r.url("ws", "/v1/ws"), http.Header{"X-Forwarded-For": forwarded})
		if conn != nil {
			t.Cleanup(func() { conn.Close() })
		}
		if resp == nil {
			return conn, 0, err
		}
		return conn, resp.StatusCode, err
	}
	v1 := func(client string) string { return "PROXY TCP4 " + client + " 192.0.2.9 5678 443\r\n" }
	for n, header := range []string{v1("203.0.113.1"), proxyV2Header(netip.MustParseAddr("203.0.113.2"))} {
		if _, status, err := dial(header); err != nil {
			t.Errorf("client %d is refused: %d %v", n, status, err)
		}
		if _, status, _ := dial(header); status != http.StatusTooManyRequests {
			t.Errorf("client %d a second time: status %d, want 429", n, status)
		}
		// A client behind a proxy that is trusted makes no other address of itself.
		if _, status, _ := dial(header, "198.51.100.1"); status != http.StatusTooManyRequests {
			t.Errorf("client %d with a header of its own: status %d, want 429", n, status)
		}
	}
	if conn, status, err := dial(""); err == nil || status != 0 {
		conn.Close()
		t.Errorf("a trusted proxy without the header: status %d, want a closed connection", status)
	}
	// Who is no proxy is served as it is, and its header is not believed.
	direct := newRig(t, func(s *settings) {
		s.ProxyProtocol, s.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	direct.join("u1", gatewaytest.Options{})
	conn, err := net.Dial("tcp", direct.gateway.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%sGET /v1/poll HTTP/1.1\r\nHost: x\r\n\r\n", v1("203.0.113.1"))
	if answer, _ := io.ReadAll(conn); !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) {
		t.Errorf("a stranger's PROXY header is answered %.60q, want a 400", answer)
	}
}

// What a proxy said is kept for as long as net/http has the connection.
func TestAddressesOfProxiedConnectionsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) {
		s.ProxyProtocol, s.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	f, err := r.gateway.newFront() // a second one, to look into
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	f.serve(t.Context(), &group)
	for n := range 10 {
		conn, err := net.Dial("tcp", f.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PROXY TCP4 203.0.113.%d 192.0.2.9 5678 443\r\nGET /newswire.js HTTP/1.1\r\nHost: x\r\n", n)
		if n%2 == 0 {
			fmt.Fprint(conn, "Connection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
		}
		_ = conn.Close()
	}
	r.eventually("nothing is kept", func() bool {
		kept := 0
		f.proxied.of.Range(func(any, any) bool { kept++; return true })
		return kept == 0
	})
	f.stop()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// Hostile headers neither panic nor are read beyond their bounds.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 203.0.113.7 192.0.2.9 5678 443\r\n", "PROXY UNKNOWN\r\n", "PROXY \r\n      ", "PROXY TCP6 ::1%eth0 ::2 1 2\r\n",
		proxyV2Header(netip.MustParseAddr("203.0.113.7")), proxyV2Header(netip.MustParseAddr("2001:db8::7"), 1, 2, 3), proxyV2 + "\x21\x11\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		addr, err := readProxyHeader(r)
		if read := len(raw) - r.Len(); read > mostProxyTLV+16 {
			t.Errorf("%d bytes were read", read)
		}
		if err == nil && addr.IsValid() && addr.Zone() != "" {
			t.Errorf("the address %s has a zone", addr)
		}
	})
}
