package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// pool holds the sessions of some readers. Work comes over one channel, in
// journal order, so a reader's messages and the answers that stand between them
// keep their order.
type pool struct {
	deps *deps
	work chan func(*pool) // Pools sends, run receives; never closed
	pass pass             // owned by run

	mu     sync.Mutex // guards the rest
	online *roaring.Bitmap
	here   map[journal.Reader]*attendance
	left   map[journal.Reader]time.Time // who went, or polled, within lately
	polls  map[journal.Reader][]waitingPoll
}

// waitingPoll is a poll that waits for news.
type waitingPoll struct {
	news   chan struct{}
	permit fanout.Permit // of its token
}

// attendance is a reader's sessions, oldest first, and since when there is one.
type attendance struct {
	since    time.Time
	sessions []*session
}

// poolQueue is how many deliveries may wait for a pool before the router waits.
const poolQueue = 1024

// mostAtOnce bounds what a pool takes before it writes: what waits leaves in one
// system call for each socket.
const mostAtOnce = 256

func newPool(d *deps) *pool {
	return &pool{
		deps: d, work: make(chan func(*pool), poolQueue),
		pass:   pass{index: make(map[*frame]int)},
		online: roaring.New(),
		here:   make(map[journal.Reader]*attendance),
		left:   make(map[journal.Reader]time.Time),
		polls:  make(map[journal.Reader][]waitingPoll),
	}
}

func (p *pool) run(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case act := <-p.work:
			act(p)
			p.takeMore()
			p.pass.write(p.deps)
		case now := <-tick.C:
			p.forget(now)
		case <-ctx.Done():
			return
		}
	}
}

// takeMore does what waits already.
func (p *pool) takeMore() {
	for range mostAtOnce - 1 {
		select {
		case act := <-p.work:
			act(p)
		default:
			return
		}
	}
}

// attach adds a session. It gives the oldest ones when the reader has more than
// limit that go on; 0 means no limit.
func (p *pool) attach(s *session, limit int) (surplus []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.here[s.reader]
	if a == nil {
		a = &attendance{since: time.Now()}
		p.here[s.reader] = a
		p.online.Add(uint32(s.reader))
		delete(p.left, s.reader)
	}
	a.sessions = append(a.sessions, s)
	if limit == 0 || len(a.sessions) <= limit {
		return nil
	}
	for _, s := range a.sessions {
		if !s.ended() { // others are about to go
			surplus = append(surplus, s)
		}
	}
	return surplus[:max(0, len(surplus)-limit)]
}

func (p *pool) detach(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.here[s.reader]
	if a == nil {
		return
	}
	a.sessions = slices.DeleteFunc(a.sessions, func(other *session) bool { return other == s })
	if len(a.sessions) == 0 {
		delete(p.here, s.reader)
		if !isGuest(s.reader) {
			p.left[s.reader] = time.Now()
		}
		if p.polls[s.reader] == nil {
			p.online.Remove(uint32(s.reader))
		}
	}
}

// deliver offers a routed message to the sessions of its audience.
func (p *pool) deliver(d *delivery) {
	sessions, polls := p.reach(d.Audience)
	for _, s := range sessions {
		if s.offer(d.frame()) {
			p.claimed(s)
		}
	}
	wake(polls)
}

// wake has polls that wait look again.
func wake(polls []chan struct{}) {
	for _, news := range polls {
		select {
		case news <- struct{}{}:
		default: // it knows already
		}
	}
}

// claimed takes up a session that the pool is to write to.
func (p *pool) claimed(s *session) {
	if s.link.waits() {
		s.startWriting()
	} else {
		p.pass.dirty = append(p.pass.dirty, s)
	}
}

// reach copies out who of some readers is here, so that nothing is sent under
// the lock.
func (p *pool) reach(readers *roaring.Bitmap) (sessions []*session, polls []chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.online.IsEmpty() || !p.online.Intersects(readers) {
		return nil, nil
	}
	for it := roaring.And(p.online, readers).Iterator(); it.HasNext(); {
		r := journal.Reader(it.Next())
		if a := p.here[r]; a != nil {
			sessions = append(sessions, a.sessions...)
		}
		for _, poll := range p.polls[r] {
			polls = append(polls, poll.news)
		}
	}
	return sessions, polls
}

// sessionsOf gives one reader's sessions.
func (p *pool) sessionsOf(r journal.Reader) []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.here[r]; a != nil {
		return slices.Clone(a.sessions)
	}
	return nil
}

func (p *pool) all() (sessions []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.here {
		sessions = append(sessions, a.sessions...)
	}
	return sessions
}

// tidyEvery is how often a pool forgets who left long ago.
const tidyEvery = 10 * time.Second

func (p *pool) forget(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r, at := range p.left {
		if now.Sub(at) > p.deps.ackTimeout+time.Minute {
			delete(p.left, r)
		}
	}
}

// presence adds to connected and changed what it knows about some readers.
func (p *pool) presence(of, connected *roaring.Bitmap, changed map[journal.Reader]time.Time, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for it := roaring.And(of, p.online).Iterator(); it.HasNext(); {
		r := journal.Reader(it.Next())
		if a := p.here[r]; a != nil {
			connected.Add(uint32(r))
			if a.since.After(since) {
				changed[r] = a.since
			}
		}
	}
	for r, at := range p.left {
		if at.After(since) && of.Contains(uint32(r)) && p.here[r] == nil {
			changed[r] = at
		}
	}
}
