// Package gatewaytest has a reader that records: it says hello, keeps every
// frame it gets with its time, and acknowledges or not as the test wants. It
// knows the protocol from its description alone and shares no code with the
// gateway, so that it can tell when they differ.
package gatewaytest

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// patience is how long a test waits for what should come at once; far more
// than it takes on a busy machine.
const patience = 2 * time.Minute

// Options say who connects, and how it behaves.
type Options struct {
	URL     string // ws://host:port/v1/ws
	Token   string
	After   string   // "" leaves it out
	Follow  []string // nil leaves it out
	Mute    []string // nil leaves it out
	Silent  bool     // do not acknowledge
	Origin  string
	NoHello bool                  // the test says the first frame itself
	OnFrame func(*Reader, *Frame) // called for each frame, on the reading goroutine; may be nil

	Header        http.Header // added to the upgrade request
	Stalled       bool        // read nothing until Resume
	ReceiveBuffer int         // the kernel's, in bytes; 0 leaves it as it is
	From          string      // local address to connect from; "" leaves it to the system
	TLS           *tls.Config // for a wss URL
}

// Frame is what the server said, and when it came.
type Frame struct {
	At     time.Time
	Raw    []byte
	Type   string          `json:"type"`
	Ref    string          `json:"ref"`
	Code   json.RawMessage `json:"code"` // of an error: a string, of a bye: a number
	Reason string          `json:"reason"`

	Session string   `json:"session"` // welcome
	Reader  string   `json:"reader"`
	Resume  string   `json:"resume"`
	Follow  []string `json:"follow"` // welcome, subscriptions
	Mute    []string `json:"mute"`
	Expires string   `json:"expires"`

	ID        string          `json:"id"` // message
	Action    string          `json:"action"`
	Tags      []string        `json:"tags"`
	Source    string          `json:"source"`
	Key       json.RawMessage `json:"key"`
	Time      time.Time       `json:"time"`
	Attempt   int             `json:"attempt"`
	Replay    bool            `json:"replay"`
	Data      map[string]any  `json:"data"`
	Truncated bool            `json:"truncated"`
}

// Reader is one connection.
type Reader struct {
	t    testing.TB
	o    Options
	conn *websocket.Conn
	flow chan struct{} // closed by Resume, which begins the reading
	once sync.Once     // closes flow

	writeMu sync.Mutex // guards writes to conn

	mu     sync.Mutex // guards the rest
	frames []Frame
	grown  chan struct{} // closed and replaced when frames grows or the connection ends
	acked  []string      // ids, in the order in which they were acknowledged by itself
	closed bool
	end    *websocket.CloseError // nil when the connection broke without a close frame
}

// Dial connects and says hello. It does not wait for the welcome. A refused
// upgrade ends the test; TryDial gives it back.
func Dial(t testing.TB, o Options) *Reader {
	t.Helper()
	r, status, err := TryDial(t, o)
	if err != nil {
		t.Fatalf("connect reader: %v (HTTP status %d)", err, status)
	}
	return r
}

// TryDial is Dial that gives back why the upgrade was refused.
func TryDial(t testing.TB, o Options) (r *Reader, status int, err error) {
	dialer := websocket.Dialer{Subprotocols: []string{"newswire.v1"}, HandshakeTimeout: patience}
	dialer.TLSClientConfig = o.TLS
	dialer.NetDial = func(network, address string) (net.Conn, error) {
		var d net.Dialer
		if o.ReceiveBuffer > 0 {
			d.Control = receiveBuffer(o.ReceiveBuffer)
		}
		if o.From != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.From)}
		}
		return d.Dial(network, address)
	}
	header := o.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if o.Origin != "" {
		header.Set("Origin", o.Origin)
	}
	conn, resp, err := dialer.Dial(o.URL, header)
	if resp != nil {
		status = resp.StatusCode
	}
	if err != nil {
		return nil, status, err
	}
	r = &Reader{t: t, o: o, conn: conn, grown: make(chan struct{}), flow: make(chan struct{})}
	t.Cleanup(r.Close)
	if !o.Stalled {
		r.Resume()
	}
	go r.read()
	if !o.NoHello {
		hello := map[string]any{"type": "hello", "token": o.Token}
		if o.After != "" {
			hello["after"] = o.After
		}
		if o.Follow != nil {
			hello["follow"] = o.Follow
		}
		if o.Mute != nil {
			hello["mute"] = o.Mute
		}
		r.Send(hello)
	}
	return r, status, nil
}

// read keeps what comes until the connection ends.
func (r *Reader) read() {
	<-r.flow
	for {
		_, raw, err := r.conn.ReadMessage()
		if err != nil {
			r.mu.Lock()
			var closed *websocket.CloseError
			if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
				r.end = closed
			}
			r.closed = true
			r.growLocked()
			r.mu.Unlock()
			return
		}
		f := Frame{At: time.Now(), Raw: raw}
		if err := json.Unmarshal(raw, &f); err != nil {
			r.t.Errorf("the server sent what is no JSON: %q: %v", raw, err)
		}
		r.mu.Lock()
		r.frames = append(r.frames, f)
		r.growLocked()
		r.mu.Unlock()
		if f.Type == "message" && !r.o.Silent && r.trySend(map[string]any{"type": "ack", "id": f.ID}) == nil {
			r.mu.Lock()
			r.acked = append(r.acked, f.ID)
			r.mu.Unlock()
		}
		if r.o.OnFrame != nil {
			r.o.OnFrame(r, &f)
		}
	}
}

func (r *Reader) growLocked() {
	close(r.grown)
	r.grown = make(chan struct{})
}

// Send says something; v is encoded unless it is a []byte.
func (r *Reader) Send(v any) {
	r.t.Helper()
	if err := r.trySend(v); err != nil {
		r.t.Errorf("send %v: %v", v, err)
	}
}

func (r *Reader) trySend(v any) error {
	raw, ok := v.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			return err
		}
	}
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	return r.conn.WriteMessage(websocket.TextMessage, raw)
}

// Close breaks the connection without a goodbye, as a lost network does.
func (r *Reader) Close() {
	_ = r.conn.Close()
	r.Resume()
}

// Frames gives what came so far.
func (r *Reader) Frames() []Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.frames)
}

// Messages gives the messages that came so far, repeats included.
func (r *Reader) Messages() []Frame {
	return slices.DeleteFunc(r.Frames(), func(f Frame) bool { return f.Type != "message" })
}

// Acked gives the ids that the reader has acknowledged by itself. What was
// written may still have been lost with the connection.
func (r *Reader) Acked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.acked)
}

// IDs gives the messages' ids in the order in which each first came.
func (r *Reader) IDs() (ids []string) {
	seen := make(map[string]bool)
	for _, m := range r.Messages() {
		if !seen[m.ID] {
			seen[m.ID] = true
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Until waits for a frame that is wanted and gives it; frames that came before
// count too.
func (r *Reader) Until(what string, want func(Frame) bool) Frame {
	r.t.Helper()
	f, err := r.until(patience, want)
	if err != nil {
		r.t.Fatalf("waiting for %s: %v; got %s", what, err, r.summary())
	}
	return f
}

func (r *Reader) until(long time.Duration, want func(Frame) bool) (Frame, error) {
	deadline := time.After(long)
	for next := 0; ; {
		r.mu.Lock()
		frames, grown, closed := r.frames, r.grown, r.closed
		r.mu.Unlock()
		for ; next < len(frames); next++ {
			if want(frames[next]) {
				return frames[next], nil
			}
		}
		if closed {
			return Frame{}, errors.New("the connection ended")
		}
		select {
		case <-grown:
		case <-deadline:
			return Frame{}, fmt.Errorf("nothing after %s", long)
		}
	}
}

// Welcome waits for the welcome.
func (r *Reader) Welcome() Frame {
	r.t.Helper()
	return r.Until("the welcome", func(f Frame) bool { return f.Type == "welcome" })
}

// WaitMessages waits until n different messages have come and gives their first
// frames, in order.
func (r *Reader) WaitMessages(n int) []Frame {
	r.t.Helper()
	return r.WaitMessagesFor(n, patience)
}

// WaitMessagesFor is WaitMessages with a patience of its own.
func (r *Reader) WaitMessagesFor(n int, long time.Duration) []Frame {
	r.t.Helper()
	var first []Frame
	seen := make(map[string]bool)
	if n == 0 {
		return nil
	}
	_, err := r.until(long, func(f Frame) bool {
		if f.Type == "message" && !seen[f.ID] {
			seen[f.ID] = true
			first = append(first, f)
		}
		return len(first) == n
	})
	if err != nil {
		r.t.Fatalf("waiting for %d messages: %v; got %d", n, err, len(first))
	}
	return first
}

// Ask sends a frame with a ref and waits for the answer to it.
func (r *Reader) Ask(ref string, frame map[string]any) Frame {
	r.t.Helper()
	frame["ref"] = ref
	r.Send(frame)
	return r.Until("the answer to "+ref, func(f Frame) bool { return f.Ref == ref })
}

// Sync asks for a pong and waits for it: what the server had queued for this
// connection before has come when it returns.
func (r *Reader) Sync() {
	r.t.Helper()
	r.Ask(fmt.Sprintf("sync-%d", time.Now().UnixNano()), map[string]any{"type": "ping"})
}

// Ended waits for the end of the connection and gives the close code; 0 when
// it broke without one.
func (r *Reader) Ended() (code int, reason string) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		grown, closed, end := r.grown, r.closed, r.end
		r.mu.Unlock()
		if closed && end != nil {
			return end.Code, end.Text
		}
		if closed {
			return 0, ""
		}
		select {
		case <-grown:
		case <-deadline:
			r.t.Fatalf("the connection goes on; got %s", r.summary())
		}
	}
}

func (r *Reader) summary() string {
	kinds := make(map[string]int)
	for _, f := range r.Frames() {
		kinds[f.Type]++
	}
	return fmt.Sprint(kinds)
}
