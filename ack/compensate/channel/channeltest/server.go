// Package channeltest holds what every channel must do: a suite that each of
// them passes against a local server of its protocol, and the part that those
// servers have in common. A server checks all that it gets and fails the test
// for what the real provider would refuse; then it behaves as it was told, well
// or badly.
package channeltest

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Behaviour is how a server treats one request that is right.
type Behaviour int

// The behaviours. From HangUp on the request is accepted, and then the answer
// is lost or useless.
const (
	Accept      Behaviour = iota
	Gone                  // the address reaches nobody any more
	Throttle              // come back in RetryAfter
	Refuse                // never again like this
	Unavailable           // 503
	Echo                  // refuses, and repeats all of the request in its words
	Redirect              // sends the client elsewhere
	HangUp                // accepts, then closes the connection
	Hang                  // accepts, then never answers
	Garbage               // accepts, and answers with what is not of the protocol
	Endless               // accepts, and answers without an end
	Broken                // accepts, then says 500
)

func (b Behaviour) accepts() bool { return b == Accept || b >= HangUp }

// RetryAfter is what a server that throttles tells.
const RetryAfter = 7 * time.Second

// Accepted is one request that the provider took.
type Accepted struct {
	To     string // the address
	Dedupe string // what the provider shows only once; empty: every request is shown
	Text   string // what the reader sees
	Header http.Header
	Body   []byte // as the reader's device has it: decrypted, decoded
}

// Protocol is what differs between providers.
type Protocol interface {
	// Verify tells what a right request carries; the fault of a wrong one ends
	// up in the test's.
	Verify(r *http.Request, body []byte) (Accepted, error)

	// Answer writes the provider's answer, for Accept, Gone, Throttle, Refuse,
	// Unavailable, and a refusal with these words for Echo.
	Answer(w http.ResponseWriter, r *http.Request, b Behaviour, words string)
}

// Refusal is Verify's word for a request that the client could not know to be
// wrong, such as one with a token that has been called back: it gets this
// answer, and the test goes on.
type Refusal struct {
	Status int
	Body   string // JSON
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Body) }

// Server is one provider on the loopback interface, over TLS.
type Server struct {
	t        testing.TB
	protocol Protocol
	http2    bool
	addr     string // fixed by the first Up
	ended    chan struct{}

	mu       sync.Mutex // guards the rest
	http     *httptest.Server
	next     []Behaviour
	accepted []Accepted
	requests int
	strayed  int
	most     int // connections at once
	conns    map[net.Conn]bool
}

// Start runs a server until the test ends.
func Start(t testing.TB, p Protocol, http2 bool) *Server {
	s := &Server{t: t, protocol: p, http2: http2, ended: make(chan struct{}), conns: make(map[net.Conn]bool)}
	s.Up()
	t.Cleanup(func() {
		close(s.ended)
		s.Down()
	})
	return s
}

// Up listens, on the same port as before.
func (s *Server) Up() {
	s.t.Helper()
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatalf("listen: %v", err)
	}
	h := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	h.Listener.Close()
	h.Listener = l
	h.EnableHTTP2 = s.http2
	h.Config.ConnState = s.connState
	h.Config.ErrorLog = log.New(io.Discard, "", 0) // clients vanish on purpose
	h.TLS = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	h.StartTLS()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.http, s.addr = h, l.Addr().String()
}

// Down refuses connections until Up.
func (s *Server) Down() {
	s.mu.Lock()
	h := s.http
	s.http = nil
	s.mu.Unlock()
	if h != nil {
		h.CloseClientConnections()
		h.Close()
	}
}

// URL is where the server is.
func (s *Server) URL() string { return "https://" + s.addr }

// CAFile is a PEM file with the server's certificate.
func (s *Server) CAFile() string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate().Certificate[0]})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// Next says how the next requests are treated; the ones after them are
// accepted.
func (s *Server) Next(b ...Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, b...)
}

// Accepted is what was taken so far, in order.
func (s *Server) Accepted() []Accepted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Accepted(nil), s.accepted...)
}

// Shown is how many notifications the readers have seen.
func (s *Server) Shown() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, seen := 0, make(map[string]bool)
	for _, a := range s.accepted {
		if key := a.To + "\n" + a.Dedupe; a.Dedupe == "" || !seen[key] {
			n, seen[key] = n+1, true
		}
	}
	return n
}

// Reset forgets what came so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted, s.requests, s.strayed, s.next = nil, 0, 0, nil
}

// Requests is how many came, right or wrong.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// MostConnections is how many there were at once.
func (s *Server) MostConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Strayed is how many requests followed a redirect.
func (s *Server) Strayed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strayed
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
		s.most = max(s.most, len(s.conns))
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/elsewhere" {
		s.mu.Lock()
		s.strayed++
		s.mu.Unlock()
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // the client gave up: there is no request
	}
	s.mu.Lock()
	s.requests++
	s.mu.Unlock()
	if s.http2 && r.ProtoMajor != 2 {
		s.t.Errorf("the request came over %s, want HTTP/2", r.Proto)
	}
	if r.TLS == nil || r.TLS.Version < tls.VersionTLS12 {
		s.t.Error("the request came without TLS 1.2 or later")
	}
	a, err := s.protocol.Verify(r, body)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(refusal.Status)
		io.WriteString(w, refusal.Body)
		return
	}
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b := s.take(a, r)
	s.behave(w, r, b, body)
}

// take notes a right request and says what becomes of it.
func (s *Server) take(a Accepted, r *http.Request) (b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.next) > 0 {
		b, s.next = s.next[0], s.next[1:]
	}
	if b.accepts() {
		a.Header = r.Header.Clone()
		s.accepted = append(s.accepted, a)
	}
	return b
}

func (s *Server) behave(w http.ResponseWriter, r *http.Request, b Behaviour, body []byte) {
	switch b {
	case HangUp:
		panic(http.ErrAbortHandler)
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.ended:
		}
	case Garbage:
		w.Header().Set("Retry-After", "next Tuesday")
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{\"\xff\":[nonsense")
	case Endless:
		for chunk := make([]byte, 8<<10); r.Context().Err() == nil; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case Broken:
		w.WriteHeader(http.StatusInternalServerError)
	case Redirect:
		http.Redirect(w, r, s.URL()+"/elsewhere", http.StatusTemporaryRedirect)
	case Throttle:
		w.Header().Set("Retry-After", strconv.Itoa(int(RetryAfter/time.Second)))
		s.protocol.Answer(w, r, b, "too many")
	case Echo:
		words := "you sent " + r.URL.String() + " " + string(body)
		for name, values := range r.Header {
			words += "; " + name + ": " + values[0]
		}
		s.protocol.Answer(w, r, b, words)
	default:
		s.protocol.Answer(w, r, b, "as it is")
	}
}
