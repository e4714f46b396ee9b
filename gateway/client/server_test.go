package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"newswire/gateway/client"
)

// patience bounds every step of a test; what works takes milliseconds.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 { // a failed test may well leave goroutines
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// frame is any frame of the protocol, in either direction.
type frame struct {
	Type    string   `json:"type"`
	Token   string   `json:"token,omitempty"`
	After   string   `json:"after,omitempty"`
	Follow  []string `json:"follow,omitempty"`
	Mute    []string `json:"mute,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	Ref     string   `json:"ref,omitempty"`
	IDs     []string `json:"ids,omitempty"`
	ID      string   `json:"id,omitempty"`
	Attempt int      `json:"attempt,omitempty"`
	Reader  string   `json:"reader,omitempty"`
	Resume  string   `json:"resume,omitempty"`
	PingMS  int      `json:"ping_ms,omitempty"`
	Expires string   `json:"expires,omitempty"`
	Code    any      `json:"code,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Message string   `json:"message,omitempty"`
	Retry   int      `json:"retry_after_ms,omitempty"`
}

// server is the gateway's side of the protocol under the test's control, so that
// frames can be sent that the real one sends once in a year.
type server struct {
	t        *testing.T
	url      string
	sessions chan *session // ServeHTTP sends, accept receives; never closed
	refusals atomic.Int32  // handshakes that are still refused with 503
}

// session is one connection of the client.
type session struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan frame // the reading goroutine sends, and closes it at the end
}

func serve(t *testing.T) *server {
	s := &server{t: t, sessions: make(chan *session, 64)}
	site := httptest.NewServer(s)
	t.Cleanup(site.Close)
	s.url = site.URL
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refusals.Add(-1) >= 0 {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"code":"sessions","detail":"this server holds as many sessions as it may"}`))
		return
	}
	if r.URL.Path != "/v1/ws" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"newswire.v1"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the client sees the refusal
	}
	defer conn.Close()
	if conn.Subprotocol() == "" {
		return
	}
	session := &session{t: s.t, conn: conn, frames: make(chan frame, 4096)}
	defer close(session.frames)
	s.sessions <- session
	for {
		var f frame
		if err := conn.ReadJSON(&f); err != nil {
			return
		}
		session.frames <- f
	}
}

func (s *server) accept() *session {
	s.t.Helper()
	return receive(s.t, s.sessions, "the client to connect")
}

// read gives the client's next frame, which must be of this type.
func (s *session) read(kind string) frame {
	s.t.Helper()
	f := receive(s.t, s.frames, "a frame "+kind)
	if f.Type != kind {
		s.t.Fatalf("got frame %+v, want %q", f, kind)
	}
	return f
}

// acked reads acks until these ids have come, each once and in this order.
func (s *session) acked(ids ...string) {
	s.t.Helper()
	var got []string
	for len(got) < len(ids) {
		f := s.read("ack")
		if len(f.IDs) > 256 {
			s.t.Errorf("%d ids in one frame", len(f.IDs))
		}
		got = append(got, f.IDs...)
	}
	if !slices.Equal(got, ids) {
		s.t.Errorf("acked %v, want %v", got, ids)
	}
}

func (s *session) send(frames ...frame) {
	s.t.Helper()
	for _, f := range frames {
		if err := s.conn.WriteJSON(f); err != nil {
			s.t.Fatalf("send %q: %v", f.Type, err)
		}
	}
}

// welcome reads the hello and answers it.
func (s *session) welcome() frame {
	s.t.Helper()
	hello := s.read("hello")
	s.send(frame{Type: "welcome", Reader: "u1", Resume: "none", Follow: hello.Follow, Mute: hello.Mute})
	return hello
}

// end closes the connection with a code.
func (s *session) end(code int, reason string) {
	s.t.Helper()
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(patience))
}

// ended waits until the client has left.
func (s *session) ended() {
	s.t.Helper()
	if f := receive(s.t, s.frames, "the client to leave"); f.Type != "" {
		s.t.Errorf("frame %+v before the end", f)
	}
}

// id is the n-th message's.
func id(n int) string { return fmt.Sprintf("0001%016x%08x", 0x1000+n, 0) }

// news is the n-th message.
func news(n, attempt int) frame { return frame{Type: "message", ID: id(n), Attempt: attempt} }

// receive gives the next value of c, the zero value of a closed one.
func receive[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// running is a client under test.
type running struct {
	*client.Client
	t      *testing.T
	states chan client.StateChange
	got    chan *client.Message // what the handler was given, unless the test has its own
	stop   context.CancelFunc
	ended  chan error // what Run gave
}

// run starts a client of the server. When the test ends it is stopped.
func run(t *testing.T, s *server, cfg client.Config) *running {
	t.Helper()
	r := &running{t: t, states: make(chan client.StateChange, 1024), got: make(chan *client.Message, 4096), ended: make(chan error, 1)}
	if cfg.URL == "" {
		cfg.URL = s.url
	}
	if cfg.OnMessage == nil {
		cfg.OnMessage = func(_ context.Context, m *client.Message) error { r.got <- m; return nil }
	}
	cfg.OnState = func(change client.StateChange) { r.states <- change }
	var err error
	if r.Client, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	done := make(chan struct{})
	go func() { r.ended <- r.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	return r
}

// until waits for a state.
func (r *running) until(state client.State) client.StateChange {
	r.t.Helper()
	for {
		if change := receive(r.t, r.states, "the state "+string(state)); change.State == state {
			return change
		}
	}
}
