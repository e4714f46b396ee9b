package ack

import (
	"encoding/binary"
	"fmt"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Who has not read a settled message stands on disk, message by message. So
// that the few that one reader has missed among a hundred thousand are found at
// once, blocks of 16, 256 and 4,096 places have a record of who has not read
// all of them: a search passes over the blocks that the reader is not in. Such
// a record is made when everything in its block is settled; as nobody unreads,
// it may say too much later, never too little.
const (
	skipLevels = 3
	skipBits   = 4 // a block holds 16 of the level below
)

// block is so many places, counted from 0 on its level; level 1 is the lowest.
type block struct {
	level int
	n     uint64
}

func blockOf(level int, seq journal.Seq) block {
	return block{level, uint64(seq) >> (skipBits * level)}
}

func (b block) first() journal.Seq { return journal.Seq(b.n << (skipBits * b.level)) }
func (b block) last() journal.Seq  { return journal.Seq((b.n+1)<<(skipBits*b.level)) - 1 }
func (b block) parent() block      { return block{b.level + 1, b.n >> skipBits} }

func (b block) key() []byte {
	return binary.BigEndian.AppendUint64(journal.SpaceSkips.Key(byte(b.level)), b.n)
}

// skips is what is known of the blocks that have no record yet.
type skips struct {
	busy  map[block]int // guarded by Ledger.mu: accounts of level-1 blocks that are not settled on disk
	ready []block       // guarded by Ledger.mu: of level 1, to be summed up

	partial map[block]*partialSkip // owned by Run: blocks of which a part has a record
}

type partialSkip struct {
	parts  int
	unread *roaring.Bitmap
}

// passBlocksLocked notes that the messages up to seq are known: the blocks
// before it get no more accounts.
func (l *Ledger) passBlocksLocked(seq journal.Seq) {
	for b := blockOf(1, l.opened); b.last() < seq; b.n++ {
		if l.skips.busy[b] == 0 {
			l.skips.ready = append(l.skips.ready, b)
		}
	}
}

// countLocked notes an account that is not settled.
func (l *Ledger) countLocked(e *entry) {
	e.counted = true
	l.skips.busy[blockOf(1, e.seq)]++
}

// uncountLocked notes that an account is settled on disk.
func (l *Ledger) uncountLocked(e *entry) {
	if !e.counted {
		return
	}
	e.counted = false
	b := blockOf(1, e.seq)
	if l.skips.busy[b]--; l.skips.busy[b] > 0 {
		return
	}
	delete(l.skips.busy, b)
	if b.last() < l.opened {
		l.skips.ready = append(l.skips.ready, b)
		l.poke()
	}
}

// loadSkips finds the blocks that have no record.
func (l *Ledger) loadSkips(v journal.View) error {
	oldest := l.j.Oldest()
	for b := blockOf(skipLevels, oldest); b.first() <= l.opened; b.n++ {
		if _, err := l.loadSkip(v, b, oldest); err != nil {
			return err
		}
	}
	return nil
}

// loadSkip gives a block's record, or else sees to what it is made of.
func (l *Ledger) loadSkip(v journal.View, b block, oldest journal.Seq) (unread *roaring.Bitmap, err error) {
	if b.last() < oldest {
		return roaring.New(), nil
	}
	ok, err := v.Peek(b.key(), func(value []byte) (err error) {
		unread, err = decodeUnread(value)
		return err
	})
	if err != nil || ok {
		return unread, err
	}
	if b.level == 1 {
		if b.last() < l.opened && l.skips.busy[b] == 0 {
			l.skips.ready = append(l.skips.ready, b)
		}
		return nil, nil
	}
	p := &partialSkip{unread: roaring.New()}
	for child := (block{b.level - 1, b.n << skipBits}); child.parent() == b && child.first() <= l.opened; child.n++ {
		unread, err := l.loadSkip(v, child, oldest)
		if err != nil {
			return nil, err
		}
		if unread != nil {
			p.parts++
			p.unread.Or(unread)
		}
	}
	if p.parts == 1<<skipBits { // it was stopped before it could write this one
		var u journal.Update
		l.storeSkip(&u, b, p.unread)
		l.unsaved = append(l.unsaved, u)
		return p.unread, nil
	}
	if p.parts > 0 {
		l.skips.partial[b] = p
	}
	return nil, nil
}

// mostSums is how many blocks are summed up at a time: deadlines wait meanwhile.
const mostSums = 256

// sumUp makes the records of blocks in which everything is settled.
func (l *Ledger) sumUp(recorded journal.Seq) error {
	l.mu.Lock()
	var due, rest []block
	for _, b := range l.skips.ready {
		if b.last() <= recorded && len(due) < mostSums {
			due = append(due, b)
		} else {
			rest = append(rest, b)
		}
	}
	l.skips.ready = rest
	l.mu.Unlock()
	updates := l.unsaved
	l.unsaved = nil
	var u journal.Update
	for _, b := range due {
		unread := roaring.New()
		err := l.j.View(func(v journal.View) error {
			return v.Look(journal.SpaceUnread.Seq(b.first()), journal.SpaceUnread.Seq(b.last()), func(key, value []byte) (bool, error) {
				m, err := decodeUnread(value)
				if err != nil {
					return false, fmt.Errorf("unread of %d: %w", journal.SeqOf(key), err)
				}
				unread.Or(m)
				return true, nil
			})
		})
		if err != nil {
			return err
		}
		l.storeSkip(&u, b, unread)
		l.joinSkip(&u, b, unread)
		if u.Full() {
			updates, u = append(updates, u), journal.Update{}
		}
	}
	for _, u := range append(updates, u) {
		if err := l.apply(u, nil); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) storeSkip(u *journal.Update, b block, unread *roaring.Bitmap) {
	unread.RunOptimize()
	u.Set(b.key(), appendBitmap(nil, unread))
}

// joinSkip adds a block's record to those above it.
func (l *Ledger) joinSkip(u *journal.Update, b block, unread *roaring.Bitmap) {
	if b.level == skipLevels {
		return
	}
	up := b.parent()
	p := l.skips.partial[up]
	if p == nil {
		p = &partialSkip{unread: roaring.New()}
		if oldest := blockOf(b.level, l.j.Oldest()); oldest.parent() == up { // what has expired is unread by nobody
			p.parts = int(oldest.n - up.n<<skipBits)
		}
		l.skips.partial[up] = p
	}
	p.parts++
	p.unread.Or(unread)
	if p.parts == 1<<skipBits {
		delete(l.skips.partial, up)
		l.storeSkip(u, up, p.unread)
		l.joinSkip(u, up, p.unread)
	}
}

// search looks for one reader's unread messages among those on disk.
type search struct {
	v      journal.View
	reader uint32
	known  [skipLevels + 1]struct { // by level: the last block that was looked at
		block block
		in    bool // the reader may be in it
	}
}

// passes tells whether a block can be passed over.
func (s *search) passes(b block) (bool, error) {
	known := &s.known[b.level]
	if known.block == b {
		return !known.in, nil
	}
	known.block, known.in = b, true
	_, err := s.v.Peek(b.key(), func(value []byte) (err error) {
		known.in, err = holds(value, s.reader)
		return err
	})
	return !known.in, err
}

// find gives the first of them, at most limit, from one place to another.
func (s *search) find(from, through journal.Seq, limit int) (seqs []journal.Seq, err error) {
next:
	for from <= through && len(seqs) < limit {
		for level := skipLevels; level > 0; level-- {
			b := blockOf(level, from)
			over, err := s.passes(b)
			if err != nil {
				return nil, err
			}
			if over {
				from = b.last() + 1
				continue next
			}
		}
		last := blockOf(1, from).last()
		err := s.v.Look(journal.SpaceUnread.Seq(from), journal.SpaceUnread.Seq(last), func(key, value []byte) (bool, error) {
			in, err := holds(value, s.reader)
			if err != nil {
				return false, fmt.Errorf("unread of %d: %w", journal.SeqOf(key), err)
			}
			if in {
				seqs = append(seqs, journal.SeqOf(key))
			}
			return len(seqs) < limit, nil
		})
		if err != nil {
			return nil, err
		}
		from = last + 1
	}
	return seqs, nil
}

// holds tells whether a stored bitmap has a reader, without taking it apart.
func holds(value []byte, r uint32) (bool, error) {
	d := journal.Decoder{Rest: value}
	var m roaring.Bitmap
	if raw := d.Bytes(); raw == nil || !d.Whole() {
		return false, errDamaged
	} else if _, err := m.FromUnsafeBytes(raw); err != nil {
		return false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return m.Contains(r), nil
}

func decodeUnread(value []byte) (*roaring.Bitmap, error) {
	d := decoder{journal.Decoder{Rest: value}}
	m := d.bitmap()
	if !d.Whole() {
		return nil, errDamaged
	}
	return m, nil
}
