package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// roster is every connection there is, from its upgrade to its end.
type roster struct {
	mu       sync.Mutex // guards sessions
	sessions map[*session]struct{}
}

func (r *roster) add(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s] = struct{}{}
}

func (r *roster) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
}

func (r *roster) all() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*session, 0, len(r.sessions))
	for s := range r.sessions {
		all = append(all, s)
	}
	return all
}

// lookEvery is how often all sessions are looked after. No session has a timer
// of its own, except for its hello.
const lookEvery = time.Second

// mostAway is how long a process may not have run, paused or without a
// processor, before its sessions are given that time again: what they have said
// meanwhile is still to be read.
const mostAway = 5 * time.Second

// watch looks after the sessions until ctx ends.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := uptime()
	for {
		select {
		case now := <-tick.C:
			up := uptime()
			g.lookAfter(now, up, up-last)
			last = up
		case <-ctx.Done():
			return
		}
	}
}

// lookAfter looks after the sessions, away after the last time.
func (g *Gateway) lookAfter(now time.Time, up, away time.Duration) {
	for _, s := range g.present.all() {
		if away > mostAway {
			s.postpone(away, up)
		}
		s.look(now, up)
	}
}

// postpone moves a session's deadlines by a time in which nobody looked.
func (s *session) postpone(by, up time.Duration) {
	for _, at := range []*atomic.Int64{&s.heard, &s.pinged} {
		at.Store(min(at.Load()+int64(by), int64(up)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked.Load() {
		s.due += by
	}
	if s.lingers != 0 {
		s.lingers += by
	}
}

// look ends a session that is silent, whose token has expired, whose write has
// missed its deadline or whose goodbye was not answered; it pings the others.
func (s *session) look(now time.Time, up time.Duration) {
	s.late(up)
	s.mu.Lock()
	unanswered := s.lingers != 0 && up > s.lingers
	s.mu.Unlock()
	expires, every := s.expires.Load(), s.deps.pingEvery
	switch heard, pinged := s.heard.Load(), time.Duration(s.pinged.Load()); {
	case unanswered:
		s.hangUp()
	case expires == 0: // it has not said hello, or waits for its welcome
	case now.Unix() >= expires:
		s.end(endTokenExpired, 0)
	case s.queues.Load(): // what is said to it now would wait, too
	case heard < int64(pinged): // a ping that is not answered has its time
		if up-pinged > every {
			s.drop(endSilent)
		}
	case up-pinged >= every-lookEvery/2 && s.ping(): // the nearest look
		s.pinged.Store(int64(up))
	}
}
