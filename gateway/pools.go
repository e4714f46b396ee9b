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
