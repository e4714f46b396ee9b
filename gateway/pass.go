package gateway

import (
	"slices"

	"newswire/fanout/journal"
)

// pass is how a pool writes: what it was handed meanwhile goes to each session
// in one system call, and is recorded once for all of them. Owned by the pool's
// goroutine.
type pass struct {
	dirty []*session // claimed: to be written to
	sends []sending  // what their batches hold
	index map[*frame]int

	joined []*frame // the batch whose bytes are wire
	wire   []byte
}

// sending is one attempt on its way to some readers.
type sending struct {
	frame *frame
	to    []journal.Reader
}

// mostJoined is how large a buffer is kept.
const mostJoined = 4 * maxBatch

// mostNoted is how many sessions are written to between two records of it: few
// enough to be in the processor's cache still when they are written to.
const mostNoted = 256

// write writes to the dirty sessions until none has anything more.
func (p *pass) write(d *deps) {
	for some := range slices.Chunk(p.dirty, mostNoted) {
		for len(some) > 0 {
			some = p.round(d, some)
		}
	}
	clear(p.dirty)
	p.dirty = p.dirty[:0]
	p.joined, p.wire = p.joined[:0], p.wire[:0]
	if cap(p.wire) > mostJoined {
		p.wire = nil
	}
}

// round writes one batch to each of some sessions, and gives those that may have
// more.
func (p *pass) round(d *deps, some []*session) (more []*session) {
	some = p.gather(some)
	if err := p.note(d); err != nil {
		for _, s := range some {
			s.unnoted(err)
			s.done()
		}
		return nil
	}
	return slices.DeleteFunc(some, func(s *session) bool {
		goOn := s.send(p.join(s.batch))
		if !goOn {
			s.done()
		}
		return !goOn
	})
}

// gather takes the sessions' next batches, and leaves those without.
func (p *pass) gather(some []*session) (with []*session) {
	for i := range p.sends {
		p.sends[i].frame, p.sends[i].to = nil, p.sends[i].to[:0]
	}
	p.sends = p.sends[:0]
	clear(p.index)
	return slices.DeleteFunc(some, func(s *session) bool {
		if !s.next() {
			s.done()
			return true
		}
		at := 0
		for _, f := range s.batch {
			if f.message != nil {
				at = p.sending(f, at)
				p.sends[at].to = append(p.sends[at].to, s.reader)
				at++
			}
		}
		return false
	})
}

// sending finds where a frame stands in sends: mostly at the place behind the
// last one's, for readers get much the same.
func (p *pass) sending(f *frame, guess int) int {
	if guess < len(p.sends) && p.sends[guess].frame == f {
		return guess
	}
	if at, ok := p.index[f]; ok {
		return at
	}
	at := len(p.sends)
	p.index[f] = at
	if at < cap(p.sends) {
		p.sends = p.sends[:at+1] // with the room of the pass before
		p.sends[at].frame = f
	} else {
		p.sends = append(p.sends, sending{frame: f})
	}
	return at
}

// note records the batches before their first byte is written.
func (p *pass) note(d *deps) error {
	for _, s := range p.sends {
		if err := d.ledger.SentToMany(s.frame.attempt, s.to); err != nil {
			return err
		}
	}
	return nil
}

// join gives the bytes of a batch.
func (p *pass) join(batch []*frame) []byte {
	if len(batch) == 1 {
		return batch[0].wire
	}
	if !slices.Equal(p.joined, batch) {
		p.joined = append(p.joined[:0], batch...)
		p.wire = appendWire(p.wire[:0], batch)
	}
	return p.wire
}
