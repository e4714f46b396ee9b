package journal

import (
	"bytes"
	"fmt"
)

// Place says where an ID stands in the journal.
type Place struct {
	Seq   Seq  // the last message that is not newer than the ID; 0 when none is
	Exact bool // that message has this very ID
	Gone  bool // what came behind the ID is no longer kept
	Ahead bool // the ID is newer than the journal
}

// Find looks an ID up.
func (j *Journal) Find(id ID) (p Place, err error) {
	j.mu.Lock()
	if id.Compare(j.lastID) > 0 {
		defer j.mu.Unlock()
		return Place{Seq: j.at.Head, Ahead: true}, nil
	}
	recent := j.recentLocked(id)
	x, spooled := j.extents.before(id)
	oldest, expired := j.oldest, j.expiredID
	j.mu.Unlock()
	if recent.Seq > 0 && (!spooled || recent.Seq > x.last()) {
		return recent, nil
	}
	if spooled && id.Compare(x.through) < 0 {
		p, err = j.findIn(x, id, oldest)
	} else {
		err = j.View(func(v View) (err error) {
			p, err = v.findPlain(id, oldest > 1 || !expired.IsZero())
			return err
		})
		if spooled && p.Seq <= x.last() {
			p = Place{Seq: x.last(), Exact: id == x.through}
		}
	}
	if err != nil {
		return Place{}, fmt.Errorf("find message %s: %w", id, err)
	}
	if p.Gone && !expired.IsZero() && id.Compare(expired) >= 0 {
		return Place{}, nil // it has gone itself, but nothing behind it has
	}
	return p, nil
}

// recentLocked finds an ID among the messages that are not synced, which are
// only in memory.
func (j *Journal) recentLocked(id ID) Place {
	synced := j.synced.At()
	for i := len(j.tail) - 1; i >= 0 && j.tail[i].Seq > synced; i-- {
		if m := j.tail[i].Message; m != nil && m.ID.Compare(id) <= 0 {
			return Place{Seq: j.tail[i].Seq, Exact: m.ID == id}
		}
	}
	return Place{}
}

// findPlain finds an ID among the messages on disk that were not spooled; late
// tells that earlier ones are no longer kept, or never were.
func (v View) findPlain(id ID, late bool) (Place, error) {
	key, value, ok, err := v.last(spaceIDs, idKey(id))
	if err != nil || !ok {
		return Place{Gone: err == nil && late}, err
	}
	return Place{Seq: SeqOf(append([]byte{0}, value...)), Exact: bytes.Equal(key, idKey(id))}, nil
}

// findIn finds an ID within an extent.
func (j *Journal) findIn(x extent, id ID, oldest Seq) (Place, error) {
	b, ok := x.blocks.upto(id)
	if !ok {
		return Place{Gone: true}, nil // it began before the ID, so that part has gone
	}
	o, err := j.open(x.spool, b)
	if err != nil || o == nil {
		return Place{Gone: err == nil}, err
	}
	n, exact, ok, err := o.upto(id)
	if err != nil || !ok || x.first+Seq(n) < oldest {
		return Place{Gone: err == nil}, err
	}
	return Place{Seq: x.first + Seq(n), Exact: exact}, nil
}

// MessageByID gives a message; to the one who spools a commit, those of it
// too, which are nobody else's yet.
func (j *Journal) MessageByID(id ID) (m *Message, ok bool, err error) {
	j.lockPacked()
	s := j.spool
	if s == nil || id.Compare(s.from) < 0 || id.Compare(s.through) > 0 {
		j.mu.Unlock()
		p, err := j.Find(id)
		if err != nil || !p.Exact {
			return nil, false, err
		}
		return j.Message(p.Seq)
	}
	x := extent{first: 1, spool: s.id, blocks: s.blocks} // 1: numbers begin with 0, and 0 is no Seq
	j.mu.Unlock()
	p, err := j.findIn(x, id, 0)
	if err != nil || !p.Exact {
		return nil, false, err
	}
	return j.spooledMessage(x, p.Seq)
}

// spooledMessage reads a message of a spooled commit.
func (j *Journal) spooledMessage(x extent, seq Seq) (m *Message, ok bool, err error) {
	n := uint64(seq - x.first)
	b, ok := x.blocks.holding(n)
	if !ok {
		return nil, false, nil
	}
	o, err := j.open(x.spool, b)
	if err != nil || o == nil {
		return nil, false, err
	}
	e, err := decodeEntry(seq, o.record(n))
	return e.Message, e.Message != nil, err
}
