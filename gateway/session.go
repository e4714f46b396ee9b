package gateway

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"newswire/fanout/journal"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

// session is one connection of a reader who has said hello.
//
// It is live, and then gets messages from its pool as they are routed; or it
// catches up: it reads what its reader has not read from the journal, behind
// its cursor, until nothing is missed any more. It begins catching up, and does
// so again when its queue was full. One goroutine at a time writes, and only
// while there is something to write.
type session struct {
	id      string                   // fixed
	name    string                   // fixed: the reader, as its token names it
	reader  journal.Reader           // fixed
	conn    *websocket.Conn          // read by the goroutine that serves the connection
	net     net.Conn                 // under conn; all frames are written here, by flush
	shown   atomic.Pointer[identity] // of the last token; nil before the hello; written by who serves the connection
	deps    *deps                    // fixed
	limiter *rate.Limiter            // of frames that are no acknowledgements
	acks    *rate.Limiter            // of acknowledged messages: more are read more slowly
	log     *slog.Logger

	ctx  context.Context // ends with the session
	stop context.CancelFunc

	heard   atomic.Int64 // uptime at the last frame
	pinged  atomic.Int64 // uptime at the last ping
	expires atomic.Int64 // Unix seconds of the token's end

	flushing sync.WaitGroup // flush, while it runs

	mu       sync.Mutex // guards the rest
	queue    []frame
	queued   int // bytes in queue
	writing  bool
	begun    bool // it may catch up: the welcome is queued
	live     bool
	lagging  bool         // not live because its queue was full
	cursor   journal.Seq  // messages up to here were queued or are not this session's
	missed   journal.Seq  // the last message that came while it was not live
	replayed journal.Seq  // messages up to here were routed before it attached
	parked   []answer     // wait for the cursor to pass them
	unacked  []journal.ID // written to this session and not acknowledged on it
	ending   ending       // zero while it goes on
}

var started = time.Now()

// uptime is a clock that no change of the wall clock moves.
func uptime() time.Duration { return time.Since(started) }

// answer is a frame that must not overtake the messages up to seq.
type answer struct {
	seq   journal.Seq
	frame frame
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
	maxUnacked   = 10_000 // messages that an "upto" reaches back
	ackRate      = 5_000  // acknowledged messages a second
)

// offer queues a routed message. It never blocks: a session whose queue is full
// leaves the live path and reads from the journal when its socket drains.
func (s *session) offer(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending.code != 0 || f.attempt.Seq <= s.cursor:
	case !s.live:
		s.missed = f.attempt.Seq
	case s.fullLocked():
		s.live, s.missed, s.lagging = false, f.attempt.Seq, true
		s.deps.m.lagging.Inc()
	default:
		s.cursor = f.attempt.Seq
		s.queueLocked(f)
	}
}

// retry queues a further attempt. A session that has not come to the message
// yet leaves it out, for it is about to be replayed; so does one that holds very
// many, whose reader the ledger asks about again.
func (s *session) retry(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code == 0 && (s.live || f.attempt.Seq <= s.cursor) && len(s.queue) < maxRetries {
		s.queueLocked(f)
	}
}

// answer queues a reply that stands behind the messages up to seq.
func (s *session) answer(seq journal.Seq, f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending.code != 0:
	case s.live || s.cursor >= seq:
		s.queueLocked(f)
	default:
		s.parked = append(s.parked, answer{seq, f})
	}
}

// say queues a reply that depends on no message.
func (s *session) say(v any) { s.answer(0, controlFrame(v)) }

// ping queues a ping unless the session is writing, when the socket's own
// back-pressure tells more.
func (s *session) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code == 0 && !s.writing {
		s.queueLocked(pingFrame())
	}
}

// pong answers a client's ping. A client that does not read what it asked for
// gets no more: the last pong it finds tells enough.
func (s *session) pong(data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code == 0 && !s.fullLocked() {
		s.queueLocked(frame{wire: wireFrame(opPong, []byte(data))})
	}
}

func (s *session) fullLocked() bool {
	return s.queued >= maxQueue || len(s.queue) >= maxQueueLen
}

func (s *session) queueLocked(f frame) {
	s.queue = append(s.queue, f)
	s.queued += len(f.wire)
	s.kickLocked()
}

// kickLocked sees to it that someone writes.
func (s *session) kickLocked() {
	if !s.writing {
		s.writing = true
		s.flushing.Go(s.flush)
	}
}

// begin lets a session that was attached catch up behind its first frames.
func (s *session) begin(welcome ...frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code != 0 {
		return // nothing stands behind a goodbye
	}
	for _, f := range welcome {
		s.queueLocked(f)
	}
	s.begun = true
	s.kickLocked()
}

// end says goodbye and closes. The first ending counts.
func (s *session) end(e ending, retryAfter time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code != 0 {
		return
	}
	bye := controlFrame(byeFrame{"bye", e.code, e.reason, retryAfter.Milliseconds()})
	s.queueLocked(bye)
	s.queueLocked(closeFrame(e.code, e.reason))
	s.endLocked(e)
}

// quit ends a session to which nothing is said any more.
func (s *session) quit(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code == 0 {
		s.queue, s.queued = nil, 0
		s.endLocked(e)
	}
}

// drop is quit that closes the connection too; the read loop ends with it.
func (s *session) drop(e ending) {
	s.quit(e)
	_ = s.net.Close()
}

// fail ends a session because of a fault on our side.
func (s *session) fail(err error) {
	if s.ctx.Err() == nil {
		s.log.Error("session failed", "session", s.id, "err", err)
	}
	s.end(endFault, time.Second)
}

func (s *session) endLocked(e ending) {
	s.ending = e
	s.stop()
	s.parked = nil
	s.keepsUpLocked()
	s.deps.m.closed[e].Inc()
}

// keepsUpLocked ends the lagging of a session, if it was.
func (s *session) keepsUpLocked() {
	if s.lagging {
		s.lagging = false
		s.deps.m.lagging.Dec()
	}
}
