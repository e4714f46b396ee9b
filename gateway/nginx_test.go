package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// findNginx gives the program. Without it a test says so loudly, and fails where
// everything is to be tested.
func findNginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // Debian keeps it off the PATH
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("nginx is not installed; .ci/install nginx brings it")
	}
	t.Skip("NOT TESTED: the gateway behind nginx, which is not installed; .ci/install nginx brings it")
	return ""
}

// nginx is the example of testdata in front of a gateway, and who asks it.
type nginx struct {
	t       *testing.T
	scheme  string // "" or "s"
	address string
	roots   *x509.CertPool
}

// startNginx runs the example as it stands, with the addresses and files of the
// test in place of the example's.
func startNginx(t *testing.T, r *rig, secure bool) *nginx {
	t.Helper()
	program := findNginx(t)
	example, err := os.ReadFile("../testdata/nginx/newswire.conf")
	if err != nil {
		t.Fatal(err)
	}
	n := &nginx{t: t, address: unusedAddress(t)}
	replace := []string{"server 127.0.0.1:8080;", "server " + r.gateway.Addr().String() + ";"}
	if secure {
		cert, key, roots := selfSigned(t)
		n.scheme, n.roots = "s", roots
		replace = append(replace, "listen 443 ssl;", "listen "+n.address+" ssl;",
			"/etc/nginx/push.example.com.crt", cert, "/etc/nginx/push.example.com.key", key)
	} else {
		replace = append(replace, "listen 443 ssl;", "listen "+n.address+";",
			"ssl_certificate     /etc/nginx/push.example.com.crt;", "", "ssl_certificate_key /etc/nginx/push.example.com.key;", "")
	}
	site := string(example)
	for i := 0; i < len(replace); i += 2 {
		if strings.Count(site, replace[i]) != 1 {
			t.Fatalf("the example has not one %q", replace[i])
		}
		site = strings.Replace(site, replace[i], replace[i+1], 1)
	}
	dir := t.TempDir()
	conf := fmt.Sprintf("daemon off;\nmaster_process off;\npid %[1]s/pid;\nerror_log stderr warn;\nevents { worker_connections 256; }\n"+
		"http {\naccess_log off;\nclient_body_temp_path %[1]s/b;\nproxy_temp_path %[1]s/p;\nfastcgi_temp_path %[1]s/f;\nuwsgi_temp_path %[1]s/u;\nscgi_temp_path %[1]s/s;\n%[2]s\n}\n", dir, site)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	said := new(logbook)
	cmd := exec.Command(program, "-p", dir, "-c", path, "-e", "stderr")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	r.eventually("nginx listens", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("nginx ended: %v\n%s", err, said)
		default:
		}
		conn, err := net.Dial("tcp", n.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return n
}

// unusedAddress is one that nobody listened on a moment ago.
func unusedAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (n *nginx) client(from string) (*http.Client, func()) {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: n.roots},
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
	}
	return &http.Client{Transport: transport, Timeout: patience}, transport.CloseIdleConnections
}

// get asks as a client of that address.
func (n *nginx) get(from, path, token string) (status int, body string) {
	n.t.Helper()
	client, done := n.client(from)
	defer done()
	req, err := http.NewRequest(http.MethodGet, "http"+n.scheme+"://"+n.address+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// options connect a reader through nginx from an address.
func (n *nginx) options(from, token string) gatewaytest.Options {
	return gatewaytest.Options{
		URL: "ws" + n.scheme + "://" + n.address + "/v1/ws", Token: token, From: from, TLS: &tls.Config{RootCAs: n.roots},
	}
}

// The example configuration carries sessions and polls, with their codes, and
// tells clients apart.
func TestBehindNginx(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *settings) {
				s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} // clients come from 127.0.0.2 on
				s.Limits.SessionsPerIP = 2
				s.PingEvery = time.Second
			})
			n := startNginx(t, r, secure)
			const first, second = "127.0.0.2", "127.0.0.3"
			o := n.options(first, r.token("u1", nil))
			o.Follow, o.Origin = []string{"tech"}, "https://news.example.com"
			c := gatewaytest.Dial(t, o)
			c.Welcome()
			r.publish(3, "tech")
			c.WaitMessages(3)
			r.wantUnread("u1", nil) // acknowledged, that is
			big := strings.Repeat("x", 15<<10)
			if f := c.Ask("big", map[string]any{"type": "follow", "tags": []string{big}}); f.Type != "error" {
				t.Errorf("a frame of 15 KiB is answered %s", f.Raw)
			}

			// Each client has its own count, whatever it says of itself.
			gatewaytest.Dial(t, n.options(first, r.token("u1", nil))).Welcome()
			third := n.options(first, r.token("u1", nil))
			third.Header = http.Header{"X-Forwarded-For": {"198.51.100.1"}}
			if _, status, err := gatewaytest.TryDial(t, third); err == nil || status != http.StatusTooManyRequests {
				t.Errorf("a third session of one address: status %d, %v, want 429", status, err)
			}
			other := gatewaytest.Dial(t, n.options(second, r.token("u2", nil)))
			other.Welcome()

			evil := n.options(second, r.token("u2", nil))
			evil.Origin = "https://evil.example"
			if _, status, err := gatewaytest.TryDial(t, evil); err == nil || status != http.StatusForbidden {
				t.Errorf("a foreign origin: status %d, %v, want 403", status, err)
			}

			// Polls, and one that waits.
			poller := r.token("u3", nil)
			if status, _ := n.get(first, "/v1/poll", poller); status != http.StatusNoContent {
				t.Errorf("a poll with nothing to read: status %d, want 204", status)
			}
			r.ask("u3", "PUT", "/v1/subscriptions", `{"follow":["tech"]}`)
			number, _, err := r.readers.Get("u3")
			if err != nil {
				t.Fatal(err)
			}
			bodies := make(chan string, 1)
			go func() {
				_, body := n.get(first, "/v1/poll?wait=25", poller)
				bodies <- body
			}()
			r.eventually("the poll waits", func() bool { return r.waits(number) == 1 })
			ids := r.publish(1, "tech")
			if body := <-bodies; !strings.Contains(body, ids[0]) {
				t.Errorf("the poll that waited got %s, want %s", body, ids[0])
			}
			r.wantUnread("u3", nil)

			// Codes come through.
			r.revoke(Revocation{Reader: "u2", IssuedBefore: time.Now().Add(2 * time.Second)})
			endsWith(t, other, endForbidden)
			c.Sync()
			if err := r.close(); err != nil {
				t.Error(err)
			}
			endsWith(t, c, endDraining)
		})
	}
}
