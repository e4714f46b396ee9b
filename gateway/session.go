package gateway

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
)

// session is one connection, from its upgrade on.
//
// Of a reader who has said hello it is live, and then gets messages from its
// pool as they are routed; or it catches up: it reads what its reader has not
// read from the journal, behind its cursor, until nothing is missed any more. It
// begins catching up, and does so again when its queue was full.
//
// Nothing runs for a session while nothing happens on it. One goroutine at a
// time reads: who has its turn. One at a time writes: who has set writing. Both
// hold it open by use.
type session struct {
	// What a delivery touches stands together.
	link    link                          // fixed: the bytes of the connection
	batch   []*frame                      // owned by who writes: on their way out
	sent    int                           // owned by who writes: bytes of batch that are out
	due     time.Duration                 // owned by who writes, and read under mu while blocked: uptime by which batch must be out; 0: it was not begun
	deps    *deps                         // fixed: the gateway's
	reader  journal.Reader                // fixed by the welcome, before the session is attached; 0 until then
	users   atomic.Int32                  // who holds it open, and isOver
	turn    turnstile                     // to read
	blocked atomic.Bool                   // a batch waits for room in the socket; changed under mu
	room    atomic.Bool                   // there was room since the last write began
	queues  atomic.Bool                   // it waits for its turn to read from the journal
	permit  atomic.Pointer[fanout.Permit] // what it may be sent; nil: everything

	mu      sync.Mutex // guards what follows, up to the blank line
	writing bool
	begun   bool // it may catch up: the welcome is queued
	live    bool
	lagging bool // not live because its queue was full
	parted  bool // the client has closed: nothing is waited for behind our close frame
	queue   []*frame
	queued  int                // bytes in queue
	cursor  journal.Seq        // messages up to here were queued or are not this session's
	unacked []journal.ID       // written to this session and not acknowledged on it; the last maxUnacked, or up to twice as many
	faded   span               // what was dropped from unacked
	ending  ending             // zero while it goes on
	missed  journal.Seq        // the last message that came while it was not live
	parked  []answer           // wait for the welcome, and for the cursor to pass them
	stop    context.CancelFunc // ends what a frame has asked for; nil while nothing is under way
	lingers time.Duration      // uptime until which the client's answer to our close frame is waited for; 0: it is not out

	heard   atomic.Int64             // uptime at the last frame
	pinged  atomic.Int64             // uptime at the last ping that went out, or at the start
	expires atomic.Int64             // Unix seconds of the token's end; 0 before the hello
	shown   atomic.Pointer[identity] // of the last token; nil before the hello; written by who has the turn

	gateway  *Gateway     // fixed
	log      *slog.Logger // fixed
	id       string       // fixed
	leave    func()       // fixed: gives its place at the door back
	name     string       // fixed by the welcome: the reader, as its token names it
	replayed journal.Seq  // fixed by the welcome: messages up to here were routed before it attached

	// Owned by who has the turn to read.
	bearer  string      // the upgrade's token, until the hello
	hello   *time.Timer // ends a session that does not say hello; nil once it has
	greeted bool        // it has said hello
	deaf    bool        // what comes is thrown away
	thrown  int         // bytes thrown away
	held    []byte      // the beginning of a frame that is not there whole
	frames  bucket      // of frames that are no acknowledgements
	acks    bucket      // of acknowledged messages: more are read more slowly
}

var started = time.Now()

// uptime is a clock that no change of the wall clock moves.
func uptime() time.Duration { return time.Since(started) }

// answer is a frame that must not overtake the messages up to seq.
type answer struct {
	seq   journal.Seq
	frame *frame
}

// Limits of a session, chosen so that a burst fits and a reader who does not
// read costs little.
const (
	maxQueue     = 512 << 10 // bytes queued before it catches up from the journal instead
	maxQueueLen  = 512
	maxRetries   = 32 << 10 // frames queued, which all sessions share, before retries are left out
	maxBatch     = 64 << 10 // bytes written at once
	catchUpStep  = 64       // messages read from the journal at a time
	writeTimeout = 10 * time.Second
	closeTimeout = 2 * time.Second // for the client's answer to a close frame
	maxFrame     = 16 << 10
	maxUnacked   = 256   // messages that an "upto" need not ask the ledger for
	ackRate      = 5_000 // acknowledged messages a second
)

// offer queues a routed message. It never blocks: a session whose queue is full
// leaves the live path and reads from the journal when its socket drains. mine
// tells that the caller is to write now.
func (s *session) offer(f *frame) (mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending.code != 0 || f.attempt.Seq <= s.cursor:
	case s.live && !s.mayGet(f.message): // it stays owed to the reader
		s.cursor = f.attempt.Seq
	case !s.live:
		s.missed = f.attempt.Seq
	case s.fullLocked():
		s.live, s.missed, s.lagging = false, f.attempt.Seq, true
		s.deps.m.lagging.Inc()
	default:
		s.cursor = f.attempt.Seq
		s.queueLocked(f)
		return s.claimLocked()
	}
	return false
}

// retry queues a further attempt, behind the welcome. A session that has not
// come to the message yet leaves it out, for it is about to be replayed; so does
// one that holds very many, whose reader the ledger asks about again. mine tells
// that the caller is to write now.
func (s *session) retry(f *frame) (mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code != 0 || !s.live && f.attempt.Seq > s.cursor || len(s.queue) >= maxRetries || !s.mayGet(f.message) {
		return false
	}
	if !s.begun {
		s.parked = append(s.parked, answer{f.attempt.Seq, f})
		return false
	}
	s.queueLocked(f)
	return s.claimLocked()
}

// mayGet tells whether the session's token covers a message.
func (s *session) mayGet(m *journal.Message) bool {
	permit := s.permit.Load()
	return permit == nil || permit.Covers(m)
}

// mayFollow gives what the session's token covers.
func (s *session) mayFollow() fanout.Permit {
	if permit := s.permit.Load(); permit != nil {
		return *permit
	}
	return nil
}

// limit sets what the session may be sent.
func (s *session) limit(permit fanout.Permit) {
	if permit == nil {
		s.permit.Store(nil)
	} else {
		s.permit.Store(&permit)
	}
}

// answer queues a reply that stands behind the welcome and the messages up to
// seq.
func (s *session) answer(seq journal.Seq, f *frame) {
	s.change(func() {
		switch {
		case s.ending.code != 0:
		case s.begun && (s.live || s.cursor >= seq):
			s.queueLocked(f)
		default:
			s.parked = append(s.parked, answer{seq, f})
		}
	})
}

// say queues a reply that depends on no message.
func (s *session) say(v any) { s.answer(0, controlFrame(v)) }

// ping queues a ping unless the session is writing, when the socket's own
// back-pressure tells more.
func (s *session) ping() (queued bool) {
	s.change(func() {
		if queued = s.ending.code == 0 && !s.writing; queued {
			s.queueLocked(pingFrame)
		}
	})
	return queued
}

// pong answers a client's ping. A client that does not read what it asked for
// gets no more: the last pong it finds tells enough.
func (s *session) pong(data string) {
	s.change(func() {
		if s.ending.code == 0 && !s.fullLocked() {
			s.queueLocked(&frame{wire: wireFrame(opPong, []byte(data))})
		}
	})
}

func (s *session) fullLocked() bool {
	return s.queued >= maxQueue || len(s.queue) >= maxQueueLen
}

func (s *session) queueLocked(f *frame) {
	s.queue = append(s.queue, f)
	s.queued += len(f.wire)
}

// begin lets a session that was attached catch up behind its first frames.
func (s *session) begin(welcome ...*frame) {
	s.change(func() {
		if s.ending.code != 0 {
			return // nothing stands behind a goodbye
		}
		for _, f := range welcome {
			s.queueLocked(f)
		}
		s.begun = true
	})
}

// change acts under the lock, and writes what is there to be written then.
func (s *session) change(act func()) {
	s.mu.Lock()
	act()
	mine := s.claimLocked()
	s.mu.Unlock()
	if mine {
		s.startWriting()
	}
}

// behindLocked tells whether there is more to be read from the journal.
func (s *session) behindLocked() bool { return s.ending.code == 0 && s.begun && !s.live }
