package ack

import (
	"encoding/json"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// The totals are the other side of the books: what was ever opened, and what
// has left with the retention. What is kept must be the difference, whatever
// its records say by themselves.

var (
	keyOpened  = journal.SpaceTotals.Key([]byte("opened")...)
	keyExpired = journal.SpaceTotals.Key([]byte("expired")...)
)

// opened counts what was routed. Its record is written with the accounts.
type opened struct {
	Since    time.Time   `json:"since"`    // the first message was routed
	Through  journal.Seq `json:"through"`  // the last message that was routed
	Messages uint64      `json:"messages"` // those that nobody got, too
	Accounts uint64      `json:"accounts"` // messages with an audience
	Pairs    uint64      `json:"pairs"`    // of message and reader
}

// expired counts what has left with the retention. Its record is written as it
// leaves.
type expired struct {
	Messages  uint64 `json:"messages"`
	Accounts  uint64 `json:"accounts"`
	Pairs     uint64 `json:"pairs"`
	Acked     uint64 `json:"acked"`
	Handed    uint64 `json:"handed_over"`
	Forgotten uint64 `json:"forgotten"`
}

// openedLocked counts a message in; Routed writes the count.
func (l *Ledger) openedLocked(seq journal.Seq, audience *roaring.Bitmap, now time.Time) {
	t := &l.totals
	if t.Since.IsZero() {
		t.Since = now.UTC()
	}
	l.opened, t.Through = seq, seq
	t.Messages++
	if n := audience.GetCardinality(); n > 0 {
		t.Accounts++
		t.Pairs += n
	}
}

// Routed adds to u, which has what Open added since the last call, how much that
// makes in all.
func (l *Ledger) Routed(u *journal.Update) {
	l.mu.Lock()
	defer l.mu.Unlock()
	storeTotals(u, keyOpened, l.totals)
}

// expire counts a message out; e is nil when nobody got it.
func (x *expired) expire(e *entry) {
	x.Messages++
	if e == nil {
		return
	}
	p := e.parts()
	x.Accounts++
	x.Pairs += p.Pairs
	x.Acked += p.Acked
	x.Handed += p.Handed
	x.Forgotten += p.Forgotten
}

func storeTotals(u *journal.Update, key []byte, totals any) {
	value, err := json.Marshal(totals)
	if err != nil { // numbers and a time
		panic(err)
	}
	u.Set(key, value)
}

func loadTotals(v journal.View, key []byte, totals any) error {
	value, ok, err := v.Get(key)
	if err != nil || !ok {
		return err
	}
	if err := json.Unmarshal(value, totals); err != nil {
		return fmt.Errorf("totals %q: %w: %w", key[1:], errDamaged, err)
	}
	return nil
}

// recorded is the last message whose account is on disk.
func (l *Ledger) recorded() (journal.Seq, error) {
	var t opened
	err := l.j.View(func(v journal.View) error { return loadTotals(v, keyOpened, &t) })
	return t.Through, err
}

// Parts divides the pairs of a message by what became of them. A copy that was
// handed over and then read stays handed over.
type Parts struct {
	Pairs     uint64 `json:"pairs"`
	Acked     uint64 `json:"acked"`
	Handed    uint64 `json:"handed_over"`
	Forgotten uint64 `json:"forgotten"` // the reader was deleted first
	Pending   uint64 `json:"pending"`
}

func (p *Parts) add(other Parts) {
	p.Pairs += other.Pairs
	p.Acked += other.Acked
	p.Handed += other.Handed
	p.Forgotten += other.Forgotten
	p.Pending += other.Pending
}

func (e *entry) parts() Parts {
	p := Parts{
		Pairs: e.audience.GetCardinality(), Handed: e.handed.GetCardinality(), Forgotten: e.forgotten.GetCardinality(),
		Pending: e.pending(e.audience).GetCardinality(),
	}
	p.Acked = e.read.GetCardinality() - e.read.AndCardinality(e.handed)
	return p
}
