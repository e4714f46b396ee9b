package torture

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"newswire/cmd/newswire/internal/checker"
)

// door is where readers find the engine, whichever process it is.
type door struct {
	address string // host:port of the gateway
	book    *book
	broken  func(format string, args ...any) // told what no engine may say
}

// reader is one recording reader. Its devices connect, follow, mute,
// acknowledge or forget to, vanish and come back, until the run ends.
type reader struct {
	door
	name  string
	token string
	claim []string // tags that the token covers; nil: all

	mu       sync.Mutex // guards the rest
	sessions []*session // that were welcomed
	sets     []checker.SetChange
	follow   []string // as the engine last said
	mute     []string
	last     string // the last id that came to any device
	doubt    *doubt // nil: the engine's sets are known
}

// doubt is a change whose answer did not come: the next welcome tells.
type doubt struct {
	change       checker.SetChange
	follow, mute []string // before it
}

// session is one connection as it is recorded.
type session struct {
	r      *reader
	conn   *websocket.Conn
	manner manner
	began  time.Time // welcomed

	writeMu sync.Mutex // guards writes to conn, held while what is written is noted

	mu       sync.Mutex // guards the rest
	frames   []checker.Frame
	acks     []checker.Ack
	perhaps  []checker.Ack          // of what was on its way while all up to a later one was acknowledged
	covered  map[string]bool        // ids in acks
	unheard  map[string]int         // by a ping's ref: so many of acks were sent before
	upto     string                 // the greatest id up to which all was acknowledged
	held     []arrival              // not acknowledged yet
	answers  map[string]chan answer // nil once read has ended
	asked    int                    // pings and changes
	finished chan struct{}          // closed by read
}

// arrival is a message that came.
type arrival struct {
	id string
	at time.Time
}

// answer is the server's answer to a ref, and how many messages came before it.
type answer struct {
	told
	at     time.Time
	before int
}

// manner is how a device behaves on one connection.
type manner int

const (
	prompt    manner = iota // acknowledges each message at once
	batching                // several together
	upto                    // all up to one
	forgetful               // every third not at all
	late                    // after the hand-over
	silent                  // not at all
	manners
)

// words that readers follow and mute by.
var vocabulary = []string{"tech", "sport", "art", "law", "press", "wind", "sea", "town", "moon", "general"}

// someTags gives up to most different tags.
func someTags(random *rand.Rand, most int) []string { return someOf(vocabulary, random, most) }

func someOf(words []string, random *rand.Rand, most int) []string {
	tags := make([]string, 0, most)
	for range random.IntN(most + 1) {
		if tag := words[random.IntN(len(words))]; !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// someTags gives up to most different tags that the reader may follow.
func (r *reader) someTags(random *rand.Rand, most int) []string {
	if r.claim != nil {
		return someOf(r.claim, random, most)
	}
	return someTags(random, most)
}

// device connects again and again until ctx ends. Only the first device of a
// reader changes its sets.
func (r *reader) device(ctx context.Context, random *rand.Rand, first bool) {
	for ctx.Err() == nil {
		s, err := r.connect(ctx, random, first)
		if err != nil {
			wait(ctx, time.Duration(20+random.IntN(100))*time.Millisecond)
			continue
		}
		s.live(ctx, random, first)
		_ = s.conn.Close() // without a goodbye, as a lost network
		<-s.finished
		if random.IntN(3) == 0 {
			wait(ctx, time.Duration(random.IntN(4000))*time.Millisecond)
		}
	}
}

// connect says hello and waits for the welcome.
func (r *reader) connect(ctx context.Context, random *rand.Rand, first bool) (*session, error) {
	dialer := websocket.Dialer{Subprotocols: []string{"newswire.v1"}, HandshakeTimeout: patience}
	conn, resp, err := dialer.DialContext(ctx, "ws://"+r.address+"/v1/ws", http.Header{"Authorization": {"Bearer " + r.token}})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusTooManyRequests {
			r.broken("reader %s: the upgrade was answered with %s", r.name, resp.Status)
		}
		return nil, err
	}
	s := &session{r: r, conn: conn, manner: manner(random.IntN(int(manners))), covered: make(map[string]bool), unheard: make(map[string]int), answers: make(map[string]chan answer), finished: make(chan struct{})}
	hello := map[string]any{"type": "hello"}
	var change *checker.SetChange
	r.mu.Lock()
	if r.last != "" && random.IntN(4) == 0 {
		hello["after"] = r.last
	}
	if first && r.doubt == nil && (len(r.sets) == 0 || random.IntN(4) == 0) {
		change = &checker.SetChange{Follow: r.someTags(random, 4), Mute: someTags(random, 1)}
		if random.IntN(6) == 0 {
			change.Follow = append(change.Follow, "*")
		}
		hello["follow"], hello["mute"] = change.Follow, change.Mute
		r.intendLocked(*change)
	}
	r.mu.Unlock()
	welcomed := s.expect("welcome")
	go s.read()
	if err := s.send(hello); err != nil {
		return nil, s.abandon(err)
	}
	a, err := s.await(welcomed)
	if err != nil {
		return nil, s.abandon(err)
	}
	s.began = a.at
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions = append(r.sessions, s)
	if first { // to another device the engine may speak of a moment before or behind a change
		r.welcomedLocked(a, change != nil, len(r.sessions)-1)
	}
	return s, nil
}

// abandon ends a connection that did not come to be a session. What came on it
// came before the welcome, which nothing may.
func (s *session) abandon(why error) error {
	_ = s.conn.Close()
	<-s.finished
	if len(s.frames) > 0 {
		s.r.broken("reader %s: messages came before the welcome", s.r.name)
	}
	return why
}

// intendLocked notes a change that is about to be asked for.
func (r *reader) intendLocked(c checker.SetChange) {
	c.Asked = time.Now()
	r.doubt = &doubt{c, r.follow, r.mute}
}

// came notes the last id that came to any device.
func (r *reader) came(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, id)
}

// settleLocked notes that the change in doubt took effect, with what the engine
// said then, or that it did not.
func (r *reader) settleLocked(a answer, session int) {
	c := r.doubt.change
	r.doubt = nil
	c.Follow, c.Mute, c.Answered, c.Session, c.Before = a.Follow, a.Mute, a.at, session, a.before
	r.sets = append(r.sets, c)
	r.follow, r.mute = a.Follow, a.Mute
}

// welcomedLocked holds a welcome against what is known of the reader's sets.
func (r *reader) welcomedLocked(a answer, asked bool, session int) {
	d := r.doubt
	switch {
	case d == nil || !asked && same(a.Follow, d.follow) && same(a.Mute, d.mute):
		if d == nil && (!same(a.Follow, r.follow) || !same(a.Mute, r.mute)) {
			r.broken("reader %s: follows %q and mutes %q, the welcome says %q and %q", r.name, r.follow, r.mute, a.Follow, a.Mute)
		}
		if d != nil && same(d.change.Follow, d.follow) && same(d.change.Mute, d.mute) {
			r.doubt = nil // it changes nothing, either way
			return
		}
		r.doubt = nil // it never got there
	default:
		if !same(a.Follow, d.change.Follow) || !same(a.Mute, d.change.Mute) {
			r.broken("reader %s: asked for %q and %q, the answer is %q and %q", r.name, d.change.Follow, d.change.Mute, a.Follow, a.Mute)
		}
		r.settleLocked(a, session)
	}
}

// same compares sets.
func same(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// read keeps what comes until the connection ends.
func (s *session) read() {
	defer close(s.finished)
	for {
		_, raw, err := s.conn.ReadMessage()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, to := range s.answers {
				close(to)
			}
			s.answers = nil
			return
		}
		s.take(time.Now(), raw)
	}
}

func (s *session) take(at time.Time, raw []byte) {
	var f told
	if err := json.Unmarshal(raw, &f); err != nil {
		s.r.broken("reader %s: the server said %.100q: %v", s.r.name, raw, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := f.Ref
	switch f.Type {
	case "message":
		frame, err := s.r.book.frame(at, f)
		if err != nil {
			s.r.broken("reader %s: %v", s.r.name, err)
			return
		}
		s.frames = append(s.frames, frame)
		s.held = append(s.held, arrival{f.ID, at})
		if f.ID <= s.upto {
			s.perhaps = append(s.perhaps, checker.Ack{ID: f.ID, At: at})
		}
		s.r.came(f.ID)
	case "welcome":
		ref = "welcome"
	case "pong":
		for n := range s.unheard[f.Ref] {
			if s.acks[n].Heard.IsZero() {
				s.acks[n].Heard = at
			}
		}
		delete(s.unheard, f.Ref)
	case "error":
		s.r.broken("reader %s: the server said %s", s.r.name, raw)
	}
	if to, ok := s.answers[ref]; ok {
		delete(s.answers, ref)
		to <- answer{f, at, len(s.frames)}
	}
}

// expect gives a channel that gets the answer to a ref, and is closed when the
// connection ends before, or has ended: the kernel takes what is sent on one that
// the engine's death has closed.
func (s *session) expect(ref string) <-chan answer {
	to := make(chan answer, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		close(to)
	} else {
		s.answers[ref] = to
	}
	return to
}

var errGone = errors.New("the connection ended")

// await waits for an answer also when the run ends: or nobody would know what
// has become of the question. The answer stands behind messages: behind a large
// backlog it comes late, but messages come.
func (s *session) await(from <-chan answer) (answer, error) {
	for came, before := 0, -1; came > before; {
		select {
		case a, ok := <-from:
			if !ok {
				return answer{}, errGone
			}
			return a, nil
		case <-time.After(patience):
			s.mu.Lock()
			came, before = len(s.frames), came
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.r.broken("reader %s: no answer and no message within %s on a connection of %s, which goes on; open are %q; %d messages came; %d pongs are due",
		s.r.name, patience, s.conn.LocalAddr(), slices.Collect(maps.Keys(s.answers)), len(s.frames), len(s.unheard))
	return answer{}, errGone
}

func (s *session) send(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	return s.conn.WriteMessage(websocket.TextMessage, raw)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// record gives the reader's part of the history. It has ended.
func (r *reader) record(lives []checker.Life) checker.Reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := checker.Reader{Name: r.name, Claim: r.claim, Sets: slices.Clone(r.sets)}
	for n := range h.Sets {
		h.Sets[n].Life = lifeAt(lives, h.Sets[n].Answered)
		if at := h.Sets[n].Session; at >= 0 {
			h.Sets[n].Life = lifeAt(lives, r.sessions[at].began)
		}
	}
	for _, s := range r.sessions {
		h.Sessions = append(h.Sessions, checker.Session{Life: lifeAt(lives, s.began), Began: s.began, Frames: s.frames, Acks: append(s.acks, s.perhaps...)})
	}
	return h
}

// lifeAt is the last life that had begun by then.
func lifeAt(lives []checker.Life, at time.Time) int {
	n := len(lives) - 1
	for n > 0 && lives[n].Start.After(at) {
		n--
	}
	return n
}
