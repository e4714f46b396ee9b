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

// delivery is a message on its way to all pools; its frame is encoded once,
// when the first session wants it.
type delivery struct {
	fanout.Delivery
	frame func() *frame
}

// Pools reach every reader who is connected.
type Pools struct {
	deps  *deps
	pools []*pool
	crowd *fanout.Crowd // nil unless guests come in
}

// Run carries what the router and the ledger hand on, until ctx ends.
func (ps *Pools) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, p := range ps.pools {
		running.Go(func() { p.run(ctx) })
		running.Go(func() { ps.deps.behind.work(ctx) })
	}
	running.Wait()
	return nil
}

func (ps *Pools) of(r journal.Reader) *pool { return ps.pools[int(r)%len(ps.pools)] }

// do lets a reader's pool act behind everything that was handed on before.
func (ps *Pools) do(ctx context.Context, r journal.Reader, act func(*pool)) error {
	select {
	case ps.of(r).work <- act:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Deliver queues a routed message for those of its audience who are connected.
// It waits while a pool has too much to do.
func (ps *Pools) Deliver(d fanout.Delivery) {
	if ps.crowd != nil {
		if guests := ps.crowd.Match(d.Seq, d.Message); guests != nil {
			d.Audience = roaring.Or(d.Audience, guests)
		}
	}
	if d.Audience.IsEmpty() {
		return
	}
	shared := &delivery{d, sync.OnceValue(func() *frame {
		return messageFrame(d.Message, journal.Attempt{Seq: d.Seq, N: 1})
	})}
	for _, p := range ps.pools {
		p.work <- func(p *pool) { p.deliver(shared) }
	}
}

// Resend queues attempt n of a message for those of readers who are connected.
func (ps *Pools) Resend(seq journal.Seq, n int, readers *roaring.Bitmap) {
	m, kept, err := ps.deps.journal.Message(seq)
	if err != nil || !kept {
		ps.deps.log.Error("message cannot be sent again", "seq", seq, "err", err)
		return
	}
	f := messageFrame(m, journal.Attempt{Seq: seq, N: n})
	for _, p := range ps.pools {
		p.work <- func(p *pool) {
			sessions, _ := p.reach(readers)
			for _, s := range sessions {
				if s.retry(f) {
					p.claimed(s)
				}
			}
		}
	}
}

// Presence tells which of some readers are connected, and of those who came or
// went, or polled, within lately, when that was.
func (ps *Pools) Presence(of *roaring.Bitmap, lately time.Duration) (connected *roaring.Bitmap, changed map[journal.Reader]time.Time) {
	connected, changed = roaring.New(), make(map[journal.Reader]time.Time)
	since := time.Now().Add(-lately)
	for _, p := range ps.pools {
		p.presence(of, connected, changed, since)
	}
	return connected, changed
}

// Connected gives the readers who are here now, guests not among them.
func (ps *Pools) Connected() *roaring.Bitmap {
	here := roaring.New()
	for _, p := range ps.pools {
		p.mu.Lock()
		here.Or(p.online)
		p.mu.Unlock()
	}
	here.RemoveRange(uint64(fanout.FirstGuest), 1<<32)
	return here
}

// sessions gives every session there is.
func (ps *Pools) sessions() (all []*session) {
	for _, p := range ps.pools {
		all = append(all, p.all()...)
	}
	return all
}

// polled notes that a reader has asked: it counts as connected until one ack
// timeout from now, and leaves then.
func (ps *Pools) polled(r journal.Reader) {
	p := ps.of(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.here[r] == nil {
		p.left[r] = time.Now().Add(p.deps.ackTimeout)
	}
}

// widen adds to a permit what the reader's sessions that go on may follow, but
// for one, and its polls that wait.
func (ps *Pools) widen(r journal.Reader, permit fanout.Permit, but *session) fanout.Permit {
	p := ps.of(r)
	for _, s := range p.sessionsOf(r) {
		if s != but && permit != nil && !s.ended() {
			permit = permit.Or(s.mayFollow())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, poll := range p.polls[r] {
		permit = permit.Or(poll.permit)
	}
	return permit
}

// awaitNews gives a channel that gets a token when a message is routed to the
// reader, until stop is called; permit is what the reader's token covers.
func (ps *Pools) awaitNews(r journal.Reader, permit fanout.Permit) (news <-chan struct{}, stop func()) {
	p := ps.of(r)
	ch := make(chan struct{}, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls[r] = append(p.polls[r], waitingPoll{ch, permit})
	p.online.Add(uint32(r))
	return ch, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.polls[r] = slices.DeleteFunc(p.polls[r], func(other waitingPoll) bool { return other.news == ch })
		if len(p.polls[r]) == 0 {
			delete(p.polls, r)
			if p.here[r] == nil {
				p.online.Remove(uint32(r))
			}
		}
	}
}

// wakePolls has every poll that waits look again, also at whether it may.
func (ps *Pools) wakePolls() {
	for _, p := range ps.pools {
		var polls []chan struct{}
		p.mu.Lock()
		for _, of := range p.polls {
			for _, poll := range of {
				polls = append(polls, poll.news)
			}
		}
		p.mu.Unlock()
		wake(polls)
	}
}

// Count gives the number of sessions.
func (ps *Pools) Count() int { return len(ps.sessions()) }
