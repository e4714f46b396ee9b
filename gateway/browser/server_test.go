package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"newswire/gateway/browser/browsertest"
)

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
	Resume  string   `json:"resume,omitempty"`
	Expires string   `json:"expires,omitempty"`
	Code    any      `json:"code,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Message string   `json:"message,omitempty"`
	Retry   int      `json:"retry_after_ms,omitempty"`
}

// fakeServer is the gateway's side of the protocol under the test's control:
// what the client does is checked against frames that a test sends itself,
// also those that the real gateway sends once in a year.
type fakeServer struct {
	t        *testing.T
	sessions chan *session // ServeHTTP sends, accept receives; never closed
	blocked  atomic.Bool   // no handshake gets through
}

func newFakeServer(t *testing.T) *fakeServer {
	return &fakeServer{t: t, sessions: make(chan *session, 16)}
}

// session is one connection of the client.
type session struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan frame // the reading goroutine sends, and closes it at the end
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.blocked.Load() {
		w.WriteHeader(http.StatusForbidden)
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
	session := &session{t: s.t, conn: conn, frames: make(chan frame, 1024)}
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

// accept gives the client's next connection.
func (s *fakeServer) accept() *session {
	s.t.Helper()
	select {
	case session := <-s.sessions:
		return session
	case <-time.After(browsertest.Patience):
		s.t.Fatal("the client did not connect")
		return nil
	}
}

// none checks that the client has not connected again.
func (s *fakeServer) none() {
	s.t.Helper()
	select {
	case <-s.sessions:
		s.t.Error("the client connected again")
	default:
	}
}

// read gives the client's next frame, which must be of this type.
func (s *session) read(kind string) frame {
	s.t.Helper()
	select {
	case f, open := <-s.frames:
		if !open {
			s.t.Fatalf("the connection ended, want a frame %q", kind)
		}
		if f.Type != kind {
			s.t.Fatalf("got frame %+v, want %q", f, kind)
		}
		return f
	case <-time.After(browsertest.Patience):
		s.t.Fatalf("no frame came, want %q", kind)
	}
	return frame{}
}

// acked reads acks until these ids have come, each once and no other.
func (s *session) acked(ids ...string) {
	s.t.Helper()
	var got []string
	for len(got) < len(ids) {
		f := s.read("ack")
		if len(f.IDs) > 256 {
			s.t.Errorf("%d ids in one frame of acks", len(f.IDs))
		}
		got = append(got, f.IDs...)
	}
	if !slices.Equal(got, ids) {
		s.t.Errorf("acked %v, want %v", got, ids)
	}
}

// ended waits until the client has left.
func (s *session) ended() {
	s.t.Helper()
	for {
		select {
		case f, open := <-s.frames:
			if !open {
				return
			}
			s.t.Errorf("frame %+v before the end", f)
		case <-time.After(browsertest.Patience):
			s.t.Fatal("the client did not leave")
		}
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
	s.send(frame{Type: "welcome", Resume: "none", Follow: hello.Follow, Mute: hello.Mute})
	return hello
}

// end closes the connection with a code.
func (s *session) end(code int, reason string) {
	s.t.Helper()
	err := s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(browsertest.Patience))
	if err != nil {
		s.t.Fatalf("close with %d: %v", code, err)
	}
}

// id is the n-th message's.
func id(n int) string { return fmt.Sprintf("0001%016x%08x", 0x1000+n, 0) }

// news is the n-th message.
func news(n, attempt int) frame { return frame{Type: "message", ID: id(n), Attempt: attempt} }

// token carries the subject that the client keeps its cursor under; the
// signature is nobody's, since only the real gateway looks at it.
func token(payload string) string { return "e30." + payload + ".c2ln" }
