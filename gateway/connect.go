package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
	"newswire/gateway/tokens"

	"github.com/gorilla/websocket"
)

// subprotocol is the only one that is spoken.
const subprotocol = "newswire.v1"

// helloTimeout is how long a client has for its first frame.
const helloTimeout = 5 * time.Second

// serveSocket upgrades a connection and leaves it to the poller, so that
// net/http's goroutine and buffers are freed.
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
	g.accept(conn.NetConn(), g.newSession(leave, bearerToken(r)))
}

func (g *Gateway) newSession(leave func(), bearer string) *session {
	s := &session{gateway: g, deps: g.deps, log: g.log, id: newSessionID(), leave: leave, bearer: bearer}
	now := int64(uptime())
	s.heard.Store(now)
	s.pinged.Store(now)
	return s
}

// accept begins a session: it has so long to say hello. Of gorilla's connection
// nothing is needed any more.
func (g *Gateway) accept(conn net.Conn, s *session) {
	s.users.Store(2) // until it hangs up, and while it is accepted: its descriptor stays its own
	defer s.done()
	poller, polled, err := g.adopt(conn)
	if err != nil {
		g.log.Error("session cannot be polled", "session", s.id, "err", err)
	}
	if s.link = polled; poller == nil {
		s.link = waiting{conn, g.deps.writeTimeout}
	}
	s.hello = time.AfterFunc(helloTimeout, func() { s.end(endHelloTimeout, 0) })
	g.present.add(s)
	if poller == nil {
		s.turn.take()
		if s.use() { // else the drain was quicker
			go g.attend(s, readOn)
		}
	} else if err := poller.watch(polled, s); err != nil {
		s.fail(err)
		s.hangUp()
	}
	if g.draining.Load() { // it came in while the others were sent away
		s.end(endDraining, time.Second)
	}
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

// newSessionID makes a name for logs.
func newSessionID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// greet takes the hello and attaches the session; false when it was ended.
func (g *Gateway) greet(ctx context.Context, s *session, raw []byte) bool {
	var hello clientFrame
	if decodeJSON(raw, &hello) != nil || hello.Type != "hello" {
		s.end(endBadFrame, 0)
		return false
	}
	token := hello.Token
	if token == "" {
		token = s.bearer
	}
	s.bearer = ""
	if token == "" && g.cfg.Anonymous {
		return g.welcomeGuest(s, hello)
	}
	who, err := g.identify(ctx, token)
	if err != nil {
		g.log.Debug("token refused", "why", err, "session", s.id)
		s.end(endingFor(err))
		return false
	}
	return g.welcome(ctx, s, who, hello)
}

// resume reads where a hello's client stopped: what lies behind after is new to
// it. The error is journal.ErrMalformedID, or a fault on our side.
func (g *Gateway) resume(hello clientFrame) (resume string, after journal.Seq, err error) {
	if hello.After == nil {
		return "none", 0, nil
	}
	id, err := journal.ParseID(*hello.After)
	if err != nil {
		return "", 0, err
	}
	place, err := g.deps.journal.Find(id)
	switch {
	case err != nil:
		return "", 0, err
	case place.Ahead:
		return "gap", 0, nil // an id of another journal says nothing about this one
	case place.Gone:
		return "gap", place.Seq, nil
	}
	return "complete", place.Seq, nil
}

// refuseHello ends a session whose hello cannot be followed.
func (g *Gateway) refuseHello(s *session, err error) {
	if errors.Is(err, journal.ErrMalformedID) {
		s.end(endBadFrame, 0)
	} else {
		s.fail(err)
	}
}

// welcome applies the hello, attaches the session, and answers once a row
// committed from now on will be pushed.
func (g *Gateway) welcome(ctx context.Context, s *session, who identity, hello clientFrame) bool {
	resume, after, err := g.resume(hello)
	if err != nil {
		g.refuseHello(s, err)
		return false
	}
	s.name = who.Reader
	s.show(who)
	s.limit(who.Permit)
	edit := fanout.Edit{SetFollow: hello.Follow, SetMute: hello.Mute}
	edited, refused, err := g.edit(ctx, s, who, edit)
	if refused != nil { // the sets stay as they are
		edited, _, err = g.edit(ctx, s, who, fanout.Edit{})
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
	if _, _, err := g.edit(ctx, s, who, fanout.Edit{}); err != nil { // a narrower token may have come before it was attached
		s.fail(err)
		return false
	}
	s.replayed = g.deps.ledger.Opened() // what others have by now is no news any more
	s.begin(g.welcomeFrames(s, hello, edited, refused, resume, who.Expires)...)
	if edited.Changed {
		g.tellOthers(s, edited)
	}
	return true
}

// welcomeFrames are the welcome and, where the hello's tags were refused, why.
func (g *Gateway) welcomeFrames(s *session, hello clientFrame, edited fanout.Edited, refused *refusal, resume string, expires time.Time) []*frame {
	welcome := welcomeFrame{
		Type: "welcome", Session: s.id, Reader: s.name,
		Follow: listed(edited.Sets.Follow), Mute: listed(edited.Sets.Mute), Resume: resume,
		AckTimeoutMS: g.cfg.AckTimeout.Milliseconds(), PingMS: g.deps.pingEvery.Milliseconds(),
	}
	if !expires.IsZero() {
		welcome.Expires = expires.UTC().Format(time.RFC3339)
	}
	frames := []*frame{controlFrame(welcome)}
	if refused != nil {
		frames = append(frames, controlFrame(refused.frame(hello.Ref)))
	}
	return frames
}

// listed makes a list that JSON prints as [] when empty.
func listed(tags []string) []string {
	if tags == nil {
		return []string{}
	}
	return tags
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
