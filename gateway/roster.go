package gateway

import (
	"context"
	"sync"
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

// watch looks after the sessions until ctx ends.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, s := range g.present.all() {
				s.look(now, uptime())
			}
		case <-ctx.Done():
			return
		}
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
	switch silent := up - time.Duration(s.heard.Load()); {
	case unanswered:
		s.hangUp()
	case expires == 0: // it has not said hello, or waits for its welcome
	case now.Unix() >= expires:
		s.end(endTokenExpired, 0)
	case silent > 2*every:
		s.drop(endSilent)
	case up-time.Duration(s.pinged.Load()) >= every-lookEvery/2: // the nearest look
		s.pinged.Store(int64(up))
		s.ping()
	}
}
