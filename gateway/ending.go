package gateway

import "time"

// ending is how a session ends: the close code, and the reason that stands in
// the close frame, the bye and the metric.
type ending struct {
	code   int
	reason string
}

// The endings there are. 4000 to 4499 mean "reconnect", 4500 to 4999 "stop".
var (
	endLeft            = ending{1000, "client_left"}
	endLost            = ending{1006, "connection_lost"}
	endTooBig          = ending{1009, "frame_too_big"}
	endDraining        = ending{1012, "draining"}
	endTokenExpired    = ending{4001, "token_expired"}
	endHelloTimeout    = ending{4008, "hello_timeout"}
	endSlowReader      = ending{4009, "slow_reader"}
	endSilent          = ending{4010, "silent"}
	endRateLimited     = ending{4029, "rate_limited"}
	endFault           = ending{4050, "internal"}
	endUnavailable     = ending{4053, "unavailable"}
	endBadFrame        = ending{4500, "bad_frame"}
	endUnauthorized    = ending{4501, "unauthorized"}
	endForbidden       = ending{4503, "forbidden"}
	endForgotten       = ending{4510, "forgotten"}
	endTooManySessions = ending{4529, "too_many_sessions"}
)

var endings = []ending{
	endLeft, endLost, endTooBig, endDraining, endTokenExpired, endHelloTimeout, endSlowReader, endSilent, endRateLimited,
	endFault, endUnavailable, endBadFrame, endUnauthorized, endForbidden, endForgotten, endTooManySessions,
}

// end says goodbye. The first ending counts. The connection closes when the
// client has answered, or has had closeTimeout for it.
func (s *session) end(e ending, retryAfter time.Duration) {
	s.change(func() {
		if s.ending.code != 0 {
			return
		}
		s.queueLocked(controlFrame(byeFrame{"bye", e.code, e.reason, retryAfter.Milliseconds()}))
		s.queueLocked(closeFrame(e.code, e.reason))
		s.endLocked(e)
	})
}

// reply ends a session with a close frame that gorilla has made: the answer to
// the client's, or to what is no WebSocket.
func (s *session) reply(wire []byte, e ending) {
	s.change(func() {
		if s.ending.code == 0 {
			s.queue, s.queued = nil, 0
			s.queueLocked(&frame{wire: wire, last: true})
			s.endLocked(e)
		}
	})
}

// part notes that the client has closed: when our close frame is out, the
// connection is.
func (s *session) part() {
	s.mu.Lock()
	s.parted = true
	out := s.lingers != 0 || s.ending.code != 0 && !s.writing
	s.mu.Unlock()
	if out {
		s.hangUp()
	}
}

// drop ends a session to which nothing is said any more, and closes it.
func (s *session) drop(e ending) {
	s.mu.Lock()
	if s.ending.code == 0 {
		s.endLocked(e)
	}
	s.queue, s.queued = nil, 0
	s.mu.Unlock()
	s.hangUp()
}

// lose ends a session that cannot be written to any more. What its client has
// said before is heard first; then the connection closes.
func (s *session) lose() {
	s.mu.Lock()
	if s.ending.code == 0 {
		s.endLocked(endLost)
	}
	s.queue, s.queued = nil, 0
	s.lingers = uptime() + closeTimeout
	s.mu.Unlock()
	if s.turn.take() && s.use() { // else who reads looks once more
		go s.gateway.attend(s, readOn)
	}
}

// fail ends a session because of a fault on our side.
func (s *session) fail(err error) {
	if !s.ended() {
		s.log.Error("session failed", "session", s.id, "err", err)
	}
	s.end(endFault, time.Second)
}

func (s *session) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending.code != 0
}

func (s *session) endLocked(e ending) {
	s.ending = e
	if s.stop != nil {
		s.stop()
	}
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

// isOver stands in users when the connection is to be closed.
const isOver = 1 << 30

// use keeps the connection open until done; false when it is over.
func (s *session) use() bool {
	for {
		n := s.users.Load()
		if n&isOver != 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// done gives back what use gave. Who is the last behind hangUp closes.
func (s *session) done() {
	if s.users.Add(-1) == isOver {
		s.close()
	}
}

// hangUp ends the connection, at once for the client; here as soon as nobody
// uses it any more.
func (s *session) hangUp() {
	if s.users.Or(isOver)&isOver == 0 {
		s.link.shut()
		s.done() // what accept gave
	}
}

// close is the end of a session; nobody uses it any more.
func (s *session) close() {
	s.link.close()
	s.takeBack()
	if s.reader != 0 {
		s.gateway.pools.of(s.reader).detach(s)
	}
	if isGuest(s.reader) {
		s.gateway.pools.crowd.Leave(s.reader)
	}
	s.gateway.present.remove(s)
	s.leave()
	s.gateway.running.Done()
}
