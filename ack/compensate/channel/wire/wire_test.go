package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"newswire/ack/compensate/channel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client gives one that is closed when the test ends.
func client(t *testing.T, c Config, n Needs) *Client {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	cl, err := New(c, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func post(url string, body []byte) Request {
	return Request{Method: http.MethodPost, URL: url, Body: body}
}

// raw is a server that does with each connection as f says.
func raw(t *testing.T, f func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// reset ends a connection so that what is on its way is lost.
func reset(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }

func TestWhatDidNotArriveIsToldFromWhatMayHave(t *testing.T) {
	small, large := []byte("small"), make([]byte, 16<<20)
	closed := raw(t, func(net.Conn) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	l.Close()
	head := func(c net.Conn) *bufio.Reader {
		r := bufio.NewReader(c)
		for {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
				return r
			}
		}
	}
	for _, test := range []struct {
		name    string
		url     string
		body    []byte
		arrived bool
		reason  string
	}{
		{"nobody listens", nobody, small, false, "refused"},
		{"no such name", "http://no..where/", small, false, "dns"},
		{"no TLS", strings.Replace(closed, "http:", "https:", 1), small, false, "reset"},
		{"the server ends in the middle of the body", raw(t, func(c net.Conn) { head(c); reset(c) }), large, false, "reset"},
		{"the server ends behind the body", raw(t, func(c net.Conn) { io.CopyN(io.Discard, head(c), 5) }), small, true, "reset"},
		{"the server resets behind the body", raw(t, func(c net.Conn) { io.CopyN(io.Discard, head(c), 5); reset(c) }), small, true, "reset"},
		{"the answer is no HTTP", raw(t, func(c net.Conn) { io.CopyN(io.Discard, head(c), 5); io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }), small, true, "no_answer"},
		{"the header has no end", raw(t, func(c net.Conn) {
			head(c)
			for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; {
				_, err = io.WriteString(c, "A: "+strings.Repeat("b", 4096)+"\r\n")
			}
		}), small, true, "no_answer"},
	} {
		a, lost := client(t, Config{Timeout: 20 * time.Second}, Needs{}).Do(t.Context(), post(test.url, test.body))
		if lost == nil {
			t.Errorf("%s: answer %d", test.name, a.Status)
			continue
		}
		if lost.Arrived != test.arrived || lost.Reason != test.reason {
			t.Errorf("%s: %+v, want arrived %t, %s", test.name, *lost, test.arrived, test.reason)
		}
		if strings.Contains(lost.Detail, "127.0.0.1") || strings.Contains(lost.Detail, "where") {
			t.Errorf("%s: the detail names the address: %s", test.name, lost.Detail)
		}
		if want := map[bool]channel.Outcome{true: channel.Doubtful, false: channel.Temporary}[test.arrived]; lost.Result().Outcome != want {
			t.Errorf("%s: %+v", test.name, lost.Result())
		}
	}
}

func TestTimeoutsCoverEverything(t *testing.T) {
	silent := raw(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	drip := raw(t, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
		io.Copy(io.Discard, c)
	})
	c := client(t, Config{Timeout: 200 * time.Millisecond}, Needs{})
	start := time.Now()
	if _, lost := c.Do(t.Context(), post(silent, []byte("x"))); lost == nil || !lost.Arrived || lost.Reason != "timeout" {
		t.Errorf("a server that is silent: %+v", lost)
	}
	if _, lost := c.Do(t.Context(), post(strings.Replace(silent, "http:", "https:", 1), []byte("x"))); lost == nil || lost.Arrived || lost.Reason != "timeout" {
		t.Errorf("a server that is silent in the handshake: %+v", lost)
	}
	if a, lost := c.Do(t.Context(), post(drip, []byte("x"))); lost != nil || !a.Cut || string(a.Body) != "begun" {
		t.Errorf("a server that drips: %+v %+v", a, lost)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, lost := c.Do(ctx, post(silent, []byte("x"))); lost == nil || lost.Arrived || lost.Reason != "cancelled" || lost.Result().Everybody {
		t.Errorf("cancelled before it began: %+v", lost)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("all of it took %s", took)
	}
}

// A server may close an idle connection in the moment in which it is used again.
// Where that must leave nothing in doubt, each request has its own.
func TestFreshConnectionsLeaveNothingInDoubt(t *testing.T) {
	var served atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served.Add(1) }))
	defer s.Close()
	c := client(t, Config{}, Needs{HTTP1: true, FreshOnly: true})
	for n := range int32(20) {
		if a, lost := c.Do(t.Context(), post(s.URL, []byte("x"))); lost != nil || a.Status != 200 || served.Load() != n+1 {
			t.Fatalf("request %d: %+v %+v, %d served", n, a, lost, served.Load())
		}
		s.CloseClientConnections()
	}
}

func TestAnswersAreBounded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, mostBodyBytes+100))
	}))
	defer s.Close()
	a, lost := client(t, Config{}, Needs{}).Do(t.Context(), post(s.URL, []byte("x")))
	if lost != nil || !a.Cut || len(a.Body) != mostBodyBytes || a.JSON(new(any)) {
		t.Errorf("%d bytes, cut %t, %+v", len(a.Body), a.Cut, lost)
	}
}

func TestOnlyHTTP2WhereItIsNeeded(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	s.StartTLS() // it speaks HTTP/1 alone
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, lost := client(t, Config{CAFile: file}, Needs{HTTP2: true}).Do(t.Context(), post(s.URL, []byte("x")))
	if lost == nil || lost.Arrived {
		t.Errorf("a server without HTTP/2: %+v", lost)
	}
}

func TestProxyIsTheConfiguredOneOnly(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer s.Close()
	if _, lost := client(t, Config{}, Needs{}).Do(t.Context(), post(s.URL, []byte("x"))); lost != nil {
		t.Errorf("without a proxy: %+v", lost)
	}
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.Host }))
	defer proxy.Close()
	if _, lost := client(t, Config{Proxy: proxy.URL}, Needs{}).Do(t.Context(), post("http://sms.example.com/", []byte("x"))); lost != nil || asked != "sms.example.com" {
		t.Errorf("through the proxy: %+v, asked for %q", lost, asked)
	}
}

func TestWrongConfigurationIsOneSentenceEach(t *testing.T) {
	err := Config{Timeout: -1, Connections: -1, Proxy: "proxy:3128 secret"}.Validate()
	for _, want := range []string{"http.timeout", "http.connections", "http.proxy"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{CAFile: file}, Needs{}); err == nil {
		t.Error("a file without a certificate is taken")
	}
	if _, err := ReadSecret("key_file", file+"-not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte("s"), mostSecretBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSecret("key_file", file); err == nil {
		t.Error("a secret without an end is taken")
	}
}

func TestRetryAfterIsReadAsProvidersWriteIt(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 120 ": 2 * time.Minute, "Mon, 23 Nov 2026 09:01:00 GMT": time.Minute, "Mon, 23 Nov 2026 08:00:00 GMT": 0,
		"-1": 0, "next Tuesday": 0, "99999999999999999999999": 0, "999999999": longestWait, "Mon, 23 Nov 2099 08:00:00 GMT": longestWait, "1.5": 0,
	} {
		if got := (Answer{Header: http.Header{"Retry-After": {text}}}).RetryAfter(now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestProvidersWordsCarryNoSecret(t *testing.T) {
	for text, want := range map[string]string{
		"The number +49 170 1234567 is not mobile":                     "The number … is not mobile",
		"token APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx is unknown":        "token … is unknown",
		"line\nline\x00 \u2028end\xff":                                 "line line end",
		"pass is hunter2!":                                             "pass is …",
		"code 21614: not a mobile":                                     "code 21614: not a mobile",
		"see https://user:x@host.example.com/a/b?token=0123456789abcd": "see …",
	} {
		if got := Words(text, "hunter2!", ""); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("7", "words", "secret")
	f.Add("Mon, 23 Nov 2099 08:00:00 GMT", strings.Repeat("ä", 300), "ä")
	f.Fuzz(func(t *testing.T, after, words, secret string) {
		a := Answer{Header: http.Header{"Retry-After": {after}}}
		if d := a.RetryAfter(time.Now()); d < 0 || d > longestWait {
			t.Errorf("%q: %s", after, d)
		}
		got := Words(words, secret)
		if len(got) > mostDetail || strings.ContainsAny(got, "\n\r\x00") {
			t.Errorf("%q", got)
		}
		if len(secret) >= 4 && !strings.ContainsAny(secret, " …") && strings.Contains(got, secret) {
			t.Errorf("%q names %q", got, secret)
		}
	})
}

func FuzzMayBePublic(f *testing.F) {
	for _, host := range []string{"127.0.0.1", "::1", "example.com", "10.0.0.1.", "fe80::1%eth0", "0x7f.1"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if ip := net.ParseIP(strings.TrimSuffix(host, ".")); ip != nil && MayBePublic(host) && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()) {
			t.Errorf("%q may be public", host)
		}
	})
}

func ExampleWords() {
	fmt.Println(Words("Permission to send to +491701234567 has not been enabled"))
	// Output: Permission to send to … has not been enabled
}

// Who waits for a connection has the whole time for an answer once there is one.
func TestTheProvidersTimeBeginsWithTheConnection(t *testing.T) {
	const timeout = 2 * time.Second
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(timeout * 6 / 10) }))
	defer s.Close()
	c := client(t, Config{Timeout: timeout, Connections: 1}, Needs{HTTP1: true, FreshOnly: true})
	losses := make(chan *Lost, 2)
	for range cap(losses) {
		go func() {
			_, lost := c.Do(t.Context(), post(s.URL, []byte("x")))
			losses <- lost
		}()
	}
	for range cap(losses) {
		if lost := <-losses; lost != nil {
			t.Errorf("one was lost: %+v", *lost)
		}
	}
}
