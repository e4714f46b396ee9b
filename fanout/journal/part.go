package journal

import (
	"context"
	"slices"
)

// part is what one call of Spool stores. To sort, encode and compress it takes
// as long as to read it from the stream; so it is done behind the call, by Run,
// and by whoever needs it sooner.
type part struct {
	spool    *spool
	item     *item
	messages []Message // the next four are fixed; nil when packed
	first    uint64    // number of the first of them in the commit
	rows     []Row
	told     uint64 // generation of the last of them
	packed   bool   // guarded by Journal.mu
}

// partsToPack is how many parts wait for Run until Spool packs one itself.
const partsToPack = 2

// size is about what it takes in memory.
func (p *part) size() (bytes int) {
	for i := range p.messages {
		bytes += p.messages[i].recordSize()
	}
	for _, r := range p.rows {
		bytes += r.cost()
	}
	return bytes
}

// packParts packs what Spool leaves to it, until ctx ends.
func (j *Journal) packParts(ctx context.Context) {
	for {
		select {
		case p := <-j.toPack:
			j.pack(p)
		case <-ctx.Done():
			return
		}
	}
}

// packAll packs what was spooled up to now.
func (j *Journal) packAll() {
	j.mu.Lock()
	var last *part
	if n := len(j.unpacked); n > 0 {
		last = j.unpacked[n-1]
	}
	j.mu.Unlock()
	if last != nil {
		j.pack(last)
	}
}

// lockPacked locks mu with all packed that was spooled up to now.
func (j *Journal) lockPacked() {
	j.mu.Lock()
	if len(j.unpacked) > 0 {
		j.mu.Unlock()
		j.packAll()
		j.mu.Lock()
	}
}

// pack returns when a part is packed, and those before it, which it does one
// by one: blocks stand in the order of their messages.
func (j *Journal) pack(p *part) {
	for j.packNext(p) {
	}
}

// packNext packs the first part that is not, unless p is.
func (j *Journal) packNext(p *part) (more bool) {
	j.packing.Lock()
	defer j.packing.Unlock()
	j.mu.Lock()
	if p.packed {
		j.mu.Unlock()
		return false
	}
	next := j.unpacked[0]
	j.mu.Unlock()
	messages, err := packMessages(next.messages)
	if err != nil {
		panic("pack a commit: " + err.Error()) // they were checked
	}
	sets := packRows(next.rows)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unpacked = slices.Delete(j.unpacked, 0, 1)
	next.storeLocked(j, messages, sets)
	return next != p
}

// storeLocked makes the part's item of what it was packed to. From now on it
// is found by who looks for it.
func (p *part) storeLocked(j *Journal, messages []packed, sets []*rowBlock) {
	it, s, n := p.item, p.spool, p.first
	for _, m := range messages {
		b := block{first: n, last: n + m.count - 1, from: m.from}
		n += m.count
		s.blocks = append(s.blocks, b)
		it.update.setLarge(b.at(s.id), m.value)
		j.unwritten = append(j.unwritten, unwritten{s.id, b.last, m.value})
	}
	number(sets, s.id, p.told)
	for _, b := range sets {
		it.update.Set(b.key(), b.value)
	}
	j.addSetsLocked(sets)
	it.blocks, it.states = len(messages), sets
	p.messages, p.rows, p.packed = nil, nil, true
	j.queued += it.update.size - it.size // it takes less room now
	it.size = it.update.size
	j.wakeWritersLocked()
}
