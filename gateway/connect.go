package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
	"newswire/gateway/tokens"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

// subprotocol is the only one that is spoken.
const subprotocol = "newswire.v1"

// helloTimeout is how long a client has for its first frame.
const helloTimeout = 5 * time.Second

// serveSocket upgrades a connection and hands it to a goroutine of its own, so
// that net/http's buffers are freed.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(websocket.Subprotocols(r), subprotocol) {
		g.deps.m.refusedAs("subprotocol").Inc()
		problem(w, http.StatusBadRequest, "subprotocol", "the subprotocol "+subprotocol+" was not offered")
		return
	}
	if !g.allowedOrigin(r) {
		g.deps.m.refusedAs("origin").Inc()
		problem(w, http.StatusForbidden, "origin", "the origin is not on the list gateway.origins")
		return
	}
	if g.verifier.Ready() != nil {
		g.deps.m.refusedAs("unavailable").Inc()
		refuseToken(w, tokens.ErrUnavailable)
		return
	}
	if !g.enter() {
		g.door.refuse(w, http.StatusServiceUnavailable, time.Second, "draining", "this server is going away")
		return
	}
	leave, ok := g.door.admit(w, r)
	if !ok {
		g.running.Done()
		return
	}
	conn, err := g.upgrader.Upgrade(w, r, nil)
	if err != nil {
		leave()
		g.running.Done()
		return // answered by upgradeError
	}
	bearer := bearerToken(r)
	go func() {
		defer g.running.Done()
		defer leave()
		g.serveConn(conn, bearer)
	}()
}

// enter counts a connection in; false once the drain has begun.
func (g *Gateway) enter() bool {
	g.entrance.Lock()
	defer g.entrance.Unlock()
	if g.draining.Load() {
		return false
	}
	g.running.Add(1)
	return true
}

// serveConn takes the hello and then serves the session until it ends.
func (g *Gateway) serveConn(conn *websocket.Conn, bearer string) {
	ctx, stop := context.WithCancel(g.life)
	defer stop()
	defer context.AfterFunc(g.life, func() { _ = conn.NetConn().Close() })()
	s := &session{
		id: newSessionID(), conn: conn, net: conn.NetConn(), deps: g.deps, log: g.log,
		limiter: newLimiter(g.cfg.Limits.FramesPerSecond), acks: rate.NewLimiter(ackRate, ackRate), ctx: ctx, stop: stop,
	}
	defer s.flushing.Wait() // nothing of a session outlives it
	defer conn.Close()      // ends a write that is stuck
	now := int64(uptime())
	s.heard.Store(now)
	s.pinged.Store(now)
	stay := context.AfterFunc(g.open, func() { s.end(endDraining, time.Second) }) // whoever has not said hello by then
	welcome := g.greet(s, bearer)
	stay()
	if welcome {
		defer g.pools.of(s.reader).detach(s)
		if g.draining.Load() { // it came in while the others were sent away
			s.end(endDraining, time.Second)
		}
		g.hear(s)
	}
	s.linger()
}

// linger lets the client read the goodbye before the connection closes: closing
// with input unread would make the kernel throw the goodbye away.
func (s *session) linger() {
	_ = s.net.SetReadDeadline(time.Now().Add(closeTimeout))
	_, _ = io.Copy(io.Discard, io.LimitReader(s.net, 1<<20))
}

// newSessionID makes a name for logs.
func newSessionID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// greet takes the hello and attaches the session; false when it was ended.
func (g *Gateway) greet(s *session, bearer string) bool {
	if err := s.conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return false
	}
	raw, err := s.receive()
	if err != nil {
		var late net.Error // gorilla hides os.ErrDeadlineExceeded
		if errors.As(err, &late) && late.Timeout() {
			s.end(endHelloTimeout, 0)
		} else {
			s.readFailed(err)
		}
		return false
	}
	_ = s.conn.SetReadDeadline(time.Time{}) // before it is attached: its end sets another
	var hello clientFrame
	if json.Unmarshal(raw, &hello) != nil || hello.Type != "hello" {
		s.end(endBadFrame, 0)
		return false
	}
	token := hello.Token
	if token == "" {
		token = bearer
	}
	who, err := g.identify(s.ctx, token)
	if err != nil {
		g.log.Debug("token refused", "why", err, "session", s.id)
		s.end(endingFor(err))
		return false
	}
	return g.welcome(s, who, hello)
}

// welcome applies the hello, attaches the session, and answers once a row
// committed from now on will be pushed.
func (g *Gateway) welcome(s *session, who identity, hello clientFrame) bool {
	resume, after := "none", journal.Seq(0)
	if hello.After != nil {
		id, err := journal.ParseID(*hello.After)
		if err != nil {
			s.end(endBadFrame, 0)
			return false
		}
		place, err := g.deps.journal.Find(id)
		if err != nil {
			s.fail(err)
			return false
		}
		if resume, after = "complete", place.Seq; place.Gone || place.Ahead {
			resume = "gap"
		}
		if place.Ahead {
			after = 0 // an id of another journal says nothing about this one
		}
	}
	s.name = who.Reader
	s.show(who)
	edit := fanout.Edit{SetFollow: hello.Follow, SetMute: hello.Mute}
	edited, refused, err := g.edit(s.ctx, who, edit)
	if refused != nil { // the sets stay as they are
		edited, _, err = g.edit(s.ctx, who, fanout.Edit{})
	}
	if err != nil {
		s.fail(err)
		return false
	}
	s.reader, s.cursor = edited.Reader, after
	for _, oldest := range g.pools.of(s.reader).attach(s, g.cfg.Limits.SessionsPerReader) {
		oldest.end(endTooManySessions, 0)
	}
	if g.endRevoked(s) { // meanwhile
		return true
	}
	s.replayed = g.deps.ledger.Opened() // what others have by now is no news any more
	frames := []frame{controlFrame(welcomeFrame{
		Type: "welcome", Session: s.id, Reader: s.name,
		Follow: listed(edited.Sets.Follow), Mute: listed(edited.Sets.Mute), Resume: resume,
		AckTimeoutMS: g.cfg.AckTimeout.Milliseconds(), PingMS: g.deps.pingEvery.Milliseconds(),
		Expires: who.Expires.UTC().Format(time.RFC3339),
	})}
	if refused != nil {
		frames = append(frames, controlFrame(refused.frame(hello.Ref)))
	}
	s.begin(frames...)
	if edited.Changed {
		g.tellOthers(s, edited)
	}
	return true
}

// listed makes a list that JSON prints as [] when empty.
func listed(tags []string) []string {
	if tags == nil {
		return []string{}
	}
	return tags
}

// receive reads one text frame.
func (s *session) receive() ([]byte, error) {
	kind, r, err := s.conn.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		return nil, errNotText
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxFrame+1))
	if err == nil && len(raw) > maxFrame {
		return nil, errTooBig
	}
	return raw, err
}

var (
	errNotText = errors.New("binary frame")
	errTooBig  = errors.New("frame over 16 KiB")
)

// hear reads what the client says until the connection ends.
func (g *Gateway) hear(s *session) {
	s.conn.SetPongHandler(func(string) error {
		s.heard.Store(int64(uptime()))
		return nil
	})
	s.conn.SetPingHandler(func(data string) error {
		s.heard.Store(int64(uptime()))
		if !s.limiter.Allow() {
			s.end(endRateLimited, time.Second)
			return nil
		}
		s.pong(data)
		return nil
	})
	for {
		raw, err := s.receive()
		if err != nil {
			s.readFailed(err)
			return
		}
		s.heard.Store(int64(uptime()))
		g.handle(s, raw)
	}
}

// readFailed ends the session for the reason that reading did.
func (s *session) readFailed(err error) {
	switch {
	case errors.Is(err, errTooBig), errors.Is(err, websocket.ErrReadLimit):
		s.end(endTooBig, 0)
	case errors.Is(err, errNotText):
		s.end(endBadFrame, 0)
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived):
		s.drop(endLeft)
	default:
		s.drop(endLost)
	}
}

func newLimiter(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), 2*perSecond)
}

// bearerToken gives the token of an Authorization header, or nothing.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func upgradeError(w http.ResponseWriter, _ *http.Request, status int, reason error) {
	problem(w, status, "upgrade", reason.Error())
}
