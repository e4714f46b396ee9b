package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"

	"github.com/gorilla/websocket"
)

// However many sessions of a reader come at once, the goodbye is the last thing
// that each of those hears who must go, and the right number stays.
func TestHellosAtOnceLeaveTheLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.SessionsPerReader = 3 })
	const many = 40
	readers := make([]*gatewaytest.Reader, many)
	for i := range readers {
		readers[i] = r.dial("u1", gatewaytest.Options{NoHello: true})
	}
	var saying sync.WaitGroup
	hello := map[string]any{"type": "hello", "token": r.token("u1", nil), "follow": []string{"tech"}}
	for _, c := range readers {
		saying.Go(func() { c.Send(hello) })
	}
	saying.Wait()
	gone := func() int { return int(r.metric("newswire_gateway_closed_total", "too_many_sessions")) }
	r.eventually("the surplus has gone", func() bool { return gone() == many-3 && r.pools.Count() == 3 })
	id := r.publish(1, "tech")[0]
	stayed := 0
	for _, c := range readers {
		f, err := c.Await(func(f gatewaytest.Frame) bool { return f.Type == "bye" || f.Type == "message" })
		switch {
		case err != nil:
			t.Errorf("a session ended without a goodbye: %v", err)
		case f.Type == "message" && f.ID == id:
			stayed++
			c.Sync()
		default:
			endsWith(t, c, endTooManySessions)
		}
	}
	if stayed != 3 {
		t.Errorf("%d sessions stayed, want 3", stayed)
	}
}

// A session that must go before its welcome is written hears the goodbye last.
func TestNothingStandsBehindAGoodbye(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{})
	s := r.pools.sessions()[0]
	r.eventually("it is idle", s.holdStill)
	s.end(endDraining, time.Second)
	s.begin(controlFrame(welcomeFrame{Type: "welcome"}))
	s.say(pongFrame{"pong", "x"})
	s.pong("x")
	s.offer(messageFrame(&journal.Message{}, journal.Attempt{Seq: 99, N: 1}))
	s.mu.Lock()
	if n := len(s.queue); n != 2 || !s.queue[1].last {
		t.Errorf("%d frames are queued, want the bye and the close", n)
	}
	s.writing = false
	s.mu.Unlock()
	s.change(func() {})
	endsWith(t, c, endDraining)
}

// holdStill keeps an idle session from writing; false when it is not idle.
func (s *session) holdStill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing || !s.live {
		return false
	}
	s.writing = true
	return true
}

// Who does not acknowledge is sent the message again, with the next attempt; the
// session forgets it with the acknowledgement, however often it was sent.
func TestRetriesCountTheirAttempts(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.ack.Timeout, s.ack.Backoff = 200*time.Millisecond, 1 })
	r.ledger.Arm()
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	id := r.publish(1, "tech")[0]
	for n := 1; n <= 3; n++ {
		c.Until(fmt.Sprint("attempt ", n), func(f gatewaytest.Frame) bool { return f.ID == id && f.Attempt == n && !f.Replay })
	}
	c.Send(map[string]any{"type": "ack", "id": id})
	c.Sync()
	session := r.pools.sessions()[0]
	session.mu.Lock()
	defer session.mu.Unlock()
	if len(session.unacked)+len(session.queue)+len(session.batch) > 0 {
		t.Errorf("the idle session keeps %v and %d frames", session.unacked, len(session.queue)+len(session.batch))
	}
}

// Frames of a client may come in pieces; together they may not be larger than
// one.
func TestFragmentsAreOneFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol}, WriteBufferSize: 16} // a fragment for each 16 bytes
	dial := func() *websocket.Conn {
		conn, _, err := dialer.Dial(r.url("ws", "/v1/ws"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	say := func(conn *websocket.Conn, text string) {
		w, err := conn.NextWriter(websocket.TextMessage)
		if err != nil {
			t.Fatal(err)
		}
		for piece := range slices.Chunk([]byte(text), 16) {
			if _, err := w.Write(piece); err != nil {
				return // the goodbye came in between
			}
		}
		_ = w.Close()
	}
	conn := dial()
	say(conn, `{"type":"hello","token":"`+r.token("u1", nil)+`"}`)
	if _, raw, err := conn.ReadMessage(); err != nil || !strings.Contains(string(raw), "welcome") {
		t.Errorf("a hello in pieces is answered %s (%v)", raw, err)
	}
	large := dial()
	say(large, `{"type":"hello","pad":"`+strings.Repeat("x", 40<<10)+`"}`)
	for {
		_, _, err := large.ReadMessage()
		if err == nil {
			continue // the bye
		}
		if !websocket.IsCloseError(err, 1009) {
			t.Errorf("a large frame in pieces ends with %v, want 1009", err)
		}
		return
	}
}

func TestSessionsOverTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, pool := selfSigned(t)
	r := newRig(t, func(s *settings) { s.CertFile, s.KeyFile = certFile, keyFile })
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol}, TLSClientConfig: &tls.Config{RootCAs: pool}}
	conn, _, err := dialer.Dial(r.url("wss", "/v1/ws"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteJSON(map[string]any{"type": "hello", "token": r.token("u1", nil), "follow": []string{"tech"}}); err != nil {
		t.Fatal(err)
	}
	if _, raw, err := conn.ReadMessage(); err != nil || !strings.Contains(string(raw), `"welcome"`) {
		t.Errorf("got %s (%v), want the welcome", raw, err)
	}
	id := r.publish(1, "tech")[0]
	if _, raw, err := conn.ReadMessage(); err != nil || !strings.Contains(string(raw), id) {
		t.Errorf("got %s (%v), want message %s", raw, err, id)
	}
	old := dialer
	old.TLSClientConfig = &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}
	if conn, _, err := old.Dial(r.url("wss", "/v1/ws"), nil); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// A certificate is replaced under running sessions: they go on, and who comes
// next is shown the new one.
func TestSessionsOutliveTheirCertificate(t *testing.T) {
	t.Parallel()
	certFile, keyFile, before := selfSigned(t)
	r := newRig(t, func(s *settings) { s.CertFile, s.KeyFile = certFile, keyFile })
	join := func(pool *x509.CertPool) (*gatewaytest.Reader, error) {
		c, _, err := gatewaytest.TryDial(t, gatewaytest.Options{
			URL: r.url("wss", "/v1/ws"), Token: r.token("u1", nil), Follow: []string{"tech"}, TLS: &tls.Config{RootCAs: pool},
		})
		return c, err
	}
	first, err := join(before)
	if err != nil {
		t.Fatal(err)
	}
	first.Welcome()
	nextCert, nextKey, after := selfSigned(t)
	if err := errors.Join(os.Rename(nextCert, certFile), os.Rename(nextKey, keyFile)); err != nil {
		t.Fatal(err)
	}
	var second *gatewaytest.Reader
	r.eventually("the new certificate is shown", func() bool {
		second, err = join(after)
		return err == nil
	})
	second.Welcome()
	if _, err := join(before); err == nil {
		t.Error("the old certificate is still shown")
	}
	id := r.publish(1, "tech")[0]
	for _, c := range []*gatewaytest.Reader{first, second} {
		c.Until("the message", func(f gatewaytest.Frame) bool { return f.ID == id })
	}
}

// selfSigned makes one for 127.0.0.1 that only its own pool trusts.
func selfSigned(t testing.TB) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		raw := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		pool.AppendCertsFromPEM(raw)
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", keyDER), pool
}
