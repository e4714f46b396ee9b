package ack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Backlog keeps which backfilled messages each reader has not read. They were
// news before there were readers, so they have no account in the ledger: there
// is no deadline, nothing is sent again and nothing is handed over. A reader's
// share is one record of two bitmaps over Seqs, whatever the number of messages.
type Backlog struct {
	j *journal.Journal // fixed

	mu       sync.Mutex // guards the rest
	seqs     []journal.Seq
	ids      []journal.ID // of seqs; both sorted
	shares   map[journal.Reader]*share
	released uint64 // counts the shares that have left memory

	unstored []*share // owned by who routes: shares that late has changed and routed has not written
	fault    error    // owned by who routes: what open could not do

	writing sync.Mutex // held while records are made and queued; mu is taken within it
}

// share is one reader's part, in memory for as long as it is not on disk.
type share struct {
	reader journal.Reader
	unread *roaring.Bitmap
	sent   *roaring.Bitmap
	dirty  bool // differs from its record, and from what is on the way to the disk
	writes int  // on their way to the disk
	listed bool // in Backlog.unstored
}

// NewBacklog reads which messages were backfilled. It starts nothing.
func NewBacklog(j *journal.Journal) (*Backlog, error) {
	b := &Backlog{j: j, shares: make(map[journal.Reader]*share)}
	err := j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceBackfill, nil, func(key, value []byte) (bool, error) {
			var rec journal.Backfilled
			err := json.Unmarshal(value, &rec)
			id, fault := journal.ParseID(rec.ID)
			if err = errors.Join(err, fault); err != nil {
				return false, fmt.Errorf("backfilled message %d: %w", journal.SeqOf(key), err)
			}
			b.seqs, b.ids = append(b.seqs, journal.SeqOf(key)), append(b.ids, id)
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load backlog: %w", err)
	}
	return b, nil
}

// has tells whether a message was backfilled.
func (b *Backlog) has(seq journal.Seq) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, found := slices.BinarySearch(b.seqs, seq)
	return found
}

// last is the place of the last message that was backfilled.
func (b *Backlog) last() journal.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seqs) == 0 {
		return 0
	}
	return b.seqs[len(b.seqs)-1]
}

// find gives the place of a backfilled message.
func (b *Backlog) find(id journal.ID) (seq journal.Seq, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := sort.Search(len(b.ids), func(i int) bool { return b.ids[i].Compare(id) >= 0 })
	if at == len(b.ids) || b.ids[at] != id {
		return 0, false
	}
	return b.seqs[at], true
}

// open takes up a message that is routed, for those who follow its tags already.
func (b *Backlog) open(seq journal.Seq, id journal.ID, audience *roaring.Bitmap) {
	if seq > math.MaxUint32 {
		return
	}
	b.mu.Lock()
	if n := len(b.seqs); n == 0 || b.seqs[n-1] < seq { // else it is routed again
		b.seqs, b.ids = append(b.seqs, seq), append(b.ids, id)
	}
	b.mu.Unlock()
	one := roaring.BitmapOf(uint32(seq))
	for it := audience.Iterator(); it.HasNext(); {
		if err := b.late(journal.Reader(it.Next()), one); err != nil {
			b.fault = errors.Join(b.fault, err)
			return
		}
	}
}

// late gives a reader messages, which routed writes.
func (b *Backlog) late(r journal.Reader, seqs *roaring.Bitmap) error {
	return b.changeLater(r, func(s *share) bool {
		s.unread.Or(seqs)
		return true
	})
}

// forget ends what is owed to a reader who was deleted.
func (b *Backlog) forget(r journal.Reader) {
	err := b.changeLater(r, func(s *share) bool {
		all := s.unread.Clone()
		return s.drop(all)
	})
	b.fault = errors.Join(b.fault, err)
}

// changeLater is change that leaves the writing to routed.
func (b *Backlog) changeLater(r journal.Reader, act func(*share) (changed bool)) error {
	s, err := b.change(r, act)
	if err == nil && !s.listed {
		s.listed = true
		b.unstored = append(b.unstored, s)
	}
	return err
}

// routed writes what late has changed. Who routes records behind it how far it
// is: after a crash in between it is done once more, and changes nothing.
func (b *Backlog) routed() error {
	if b.fault != nil {
		return b.fault
	}
	shares := b.unstored
	b.unstored = nil
	for _, s := range shares {
		s.listed = false
	}
	for some := range slices.Chunk(shares, 1000) {
		if err := b.write(some...); err != nil {
			return err
		}
	}
	return nil
}

// sent notes what is being written to a reader, and gives what is not its part.
func (b *Backlog) sent(r journal.Reader, attempts []journal.Attempt) (rest []journal.Attempt, err error) {
	mine := roaring.New()
	for _, a := range attempts {
		if b.has(a.Seq) {
			mine.Add(uint32(a.Seq))
		} else {
			rest = append(rest, a)
		}
	}
	if mine.IsEmpty() {
		return rest, nil
	}
	return rest, b.changeNow(r, func(s *share) bool {
		mine.And(s.unread)
		before := s.sent.GetCardinality()
		s.sent.Or(mine)
		return s.sent.GetCardinality() > before
	})
}

// acked notes what a reader has acknowledged of what it was sent, and gives the
// ids that are not of backfilled messages.
func (b *Backlog) acked(r journal.Reader, ids []journal.ID) (rest []journal.ID, err error) {
	mine := roaring.New()
	for _, id := range ids {
		if seq, ok := b.find(id); ok {
			mine.Add(uint32(seq))
		} else {
			rest = append(rest, id)
		}
	}
	if mine.IsEmpty() {
		return rest, nil
	}
	return rest, b.changeNow(r, func(s *share) bool {
		mine.And(s.sent)
		return s.drop(mine)
	})
}

// read notes what a poll has brought, and gives what is not its part.
func (b *Backlog) read(r journal.Reader, seqs []journal.Seq) (rest []journal.Seq, err error) {
	mine := roaring.New()
	for _, seq := range seqs {
		if b.has(seq) {
			mine.Add(uint32(seq))
		} else {
			rest = append(rest, seq)
		}
	}
	if mine.IsEmpty() {
		return rest, nil
	}
	return rest, b.changeNow(r, func(s *share) bool { return s.drop(mine) })
}

// unread gives the first messages behind a place that a reader has not read.
func (b *Backlog) unread(r journal.Reader, after journal.Seq, limit int) (found []journal.Attempt, err error) {
	b.mu.Lock()
	n := len(b.seqs)
	none := n == 0 || b.seqs[n-1] <= after
	b.mu.Unlock()
	if none {
		return nil, nil
	}
	oldest := b.j.Oldest()
	_, err = b.change(r, func(s *share) bool {
		it := s.unread.Iterator()
		it.AdvanceIfNeeded(uint32(max(after+1, oldest)))
		for it.HasNext() && len(found) < limit {
			found = append(found, journal.Attempt{Seq: journal.Seq(it.Next()), N: 1, Replay: true})
		}
		return false
	})
	return found, err
}

// change lets act have a reader's share, under the lock. What it says it has
// changed stays in memory until write has written it.
func (b *Backlog) change(r journal.Reader, act func(*share) (changed bool)) (*share, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.shares[r] == nil {
		before := b.released
		b.mu.Unlock()
		s, err := b.load(r)
		b.mu.Lock()
		if err != nil {
			return nil, err
		}
		if b.shares[r] == nil && b.released == before { // else what was read may be old by now
			b.shares[r] = s
		}
	}
	s := b.shares[r]
	if act(s) {
		s.dirty = true
	}
	b.releaseLocked(s)
	return s, nil
}

// changeNow is change that writes at once.
func (b *Backlog) changeNow(r journal.Reader, act func(*share) (changed bool)) error {
	s, err := b.change(r, act)
	if err != nil {
		return err
	}
	return b.write(s)
}

// write queues the records of shares that differ from them. The records are
// made in the order in which they are queued.
func (b *Backlog) write(shares ...*share) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	var u journal.Update
	var written []*share
	b.mu.Lock()
	for _, s := range shares {
		if s.dirty {
			s.dirty = false
			s.writes++
			s.store(&u)
			written = append(written, s)
		}
	}
	b.mu.Unlock()
	if len(written) == 0 {
		return nil
	}
	// Not with the caller's context: what is queued is what memory says.
	err := b.j.Apply(context.Background(), u, func(error) { // an error is the journal's end, and so ours
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range written {
			s.writes--
			b.releaseLocked(s)
		}
	})
	if err != nil {
		return fmt.Errorf("write backlog: %w", err)
	}
	return nil
}

// releaseLocked lets a share leave memory that is on disk.
func (b *Backlog) releaseLocked(s *share) {
	if s.writes == 0 && !s.dirty && b.shares[s.reader] == s {
		delete(b.shares, s.reader)
		b.released++
	}
}

func (b *Backlog) load(r journal.Reader) (*share, error) {
	s := &share{reader: r, unread: roaring.New(), sent: roaring.New()}
	err := b.j.View(func(v journal.View) error {
		value, ok, err := v.Get(journal.SpaceBacklog.Reader(r))
		if err != nil || !ok {
			return err
		}
		d := decoder{journal.Decoder{Rest: value}}
		d.version()
		s.unread, s.sent = d.bitmap(), d.bitmap()
		if !d.Whole() {
			return errDamaged
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read backlog of reader %d: %w", r, err)
	}
	return s, nil
}

// drop forgets messages that were read.
func (s *share) drop(seqs *roaring.Bitmap) (changed bool) {
	before := s.unread.GetCardinality()
	s.unread.AndNot(seqs)
	s.sent.AndNot(seqs)
	return s.unread.GetCardinality() < before
}

func (s *share) store(u *journal.Update) {
	key := journal.SpaceBacklog.Reader(s.reader)
	if s.unread.IsEmpty() {
		u.Delete(key)
		return
	}
	u.Set(key, appendBitmap(appendBitmap([]byte{recordVersion}, s.unread), s.sent))
}

// Expire forgets messages that are no longer kept, and, when none is, what
// readers had not read of them.
func (b *Backlog) Expire(ctx context.Context) error {
	oldest := b.j.Oldest()
	b.mu.Lock()
	gone, _ := slices.BinarySearch(b.seqs, oldest)
	expired := slices.Clone(b.seqs[:gone])
	b.seqs, b.ids = slices.Clone(b.seqs[gone:]), slices.Clone(b.ids[gone:])
	none := len(b.seqs) == 0
	b.mu.Unlock()
	if gone == 0 {
		return nil
	}
	var keys [][]byte
	for _, seq := range expired {
		keys = append(keys, journal.SpaceBackfill.Seq(seq))
	}
	if none {
		err := b.j.View(func(v journal.View) error {
			return v.Scan(journal.SpaceBacklog, nil, func(key, _ []byte) (bool, error) {
				keys = append(keys, bytes.Clone(key))
				return true, nil
			})
		})
		if err != nil {
			return fmt.Errorf("expire backlog: %w", err)
		}
	}
	for some := range slices.Chunk(keys, 5000) {
		var u journal.Update
		for _, key := range some {
			u.Delete(key)
		}
		if err := b.j.ApplySync(ctx, u); err != nil {
			return fmt.Errorf("expire backlog: %w", err)
		}
	}
	return nil
}
