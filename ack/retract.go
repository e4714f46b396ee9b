package ack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// row names a row of a table: a hash of source and key, so long that two rows
// never share one.
type row [16]byte

func rowOf(m *journal.Message) (r row) {
	h := sha256.New()
	h.Write([]byte(m.Source))
	h.Write([]byte{0})
	h.Write(m.Key)
	copy(r[:], h.Sum(nil))
	return r
}

// historyKey is the key of the note that a row's message has an account. With
// it the messages of a row are found for as long as they are kept.
func historyKey(r row, seq journal.Seq) []byte {
	return append(journal.SpaceHistory.Key(r[:]...), journal.SpaceHistory.Seq(seq)[1:]...)
}

// retraction is a withdrawn article: what readers were handed over of it, and
// have not read, is to be taken back. It is worked off behind the router, a
// part at a time; its record stays until then, and a start begins it again.
type retraction struct {
	seq    journal.Seq   // fixed; of the message that withdraws it
	row    row           // fixed
	listed bool          // rest is known; owned by Run, as what follows
	rest   []journal.Seq // earlier messages of the row, not worked off
	next   uint32        // reader of the first of rest to go on with
}

// maxCancels is how many cancels retractions may let wait in memory.
const maxCancels = 10_000

// mostWithdrawn is how many retractions are worked off at a time: deadlines
// wait meanwhile.
const mostWithdrawn = 10_000

// historyLocked notes what a new message means for earlier and later ones of
// its row.
func (l *Ledger) historyLocked(u *journal.Update, seq journal.Seq, m *journal.Message, e *entry) {
	row := rowOf(m)
	if m.Action == journal.Retract { // a retraction is not withdrawn itself
		u.Set(journal.SpaceRetracts.Seq(seq), bytes.Clone(row[:]))
		l.addRetractLocked(&retraction{seq: seq, row: row})
		l.poke()
		return
	}
	if e != nil {
		u.Set(historyKey(row, seq), nil)
		e.row = row
		l.rows[row] = append(l.rows[row], seq)
	}
}

// forgetRowLocked lets go of what historyLocked noted in memory.
func (l *Ledger) forgetRowLocked(e *entry) {
	if e.row == (row{}) {
		return
	}
	l.rows[e.row] = slices.DeleteFunc(l.rows[e.row], func(seq journal.Seq) bool { return seq == e.seq })
	if len(l.rows[e.row]) == 0 {
		delete(l.rows, e.row)
	}
}

func (l *Ledger) addRetractLocked(t *retraction) {
	l.retracts = append(l.retracts, t)
	l.leaving[t.row] = t.seq
}

// loadRetracts takes up the retractions that were not worked off.
func (l *Ledger) loadRetracts(v journal.View) error {
	return v.Scan(journal.SpaceRetracts, nil, func(key, value []byte) (bool, error) {
		t := &retraction{seq: journal.SeqOf(key)}
		if copy(t.row[:], value) < len(t.row) {
			return false, fmt.Errorf("retraction %d: %w", t.seq, errDamaged)
		}
		l.addRetractLocked(t)
		return true, nil
	})
}

// retractable tells that a retraction can be worked on.
func (l *Ledger) retractableLocked() bool { return len(l.retracts) > 0 && len(l.cancels) < maxCancels }

// workOff goes on with retractions that are recorded, until too many cancels
// wait or it has done enough. done are those that have ended: once their
// cancels are written, their records may go.
func (l *Ledger) workOff(recorded journal.Seq) (done []journal.Seq, err error) {
	for {
		l.mu.Lock()
		able := l.retractableLocked() && l.retracts[0].seq <= recorded && len(done) < mostWithdrawn
		var t *retraction
		if able {
			t = l.retracts[0]
		}
		l.mu.Unlock()
		if !able {
			return done, nil
		}
		if !t.listed {
			if t.rest, err = l.history(t); err != nil {
				return nil, fmt.Errorf("find what message %d withdraws: %w", t.seq, err)
			}
			t.listed = true
		}
		for len(t.rest) > 0 {
			whole, err := l.recall(t)
			if err != nil {
				return nil, fmt.Errorf("withdraw message %d: %w", t.rest[0], err)
			}
			if !whole {
				return done, nil
			}
			t.rest, t.next = t.rest[1:], 0
		}
		l.mu.Lock()
		l.retracts = l.retracts[1:]
		if l.leaving[t.row] == t.seq {
			delete(l.leaving, t.row)
		}
		l.mu.Unlock()
		done = append(done, t.seq)
	}
}

// history gives the messages of a row before the one that withdraws it. Those
// whose note is not on disk yet are in memory: an account leaves memory behind
// its note.
func (l *Ledger) history(t *retraction) (seqs []journal.Seq, err error) {
	l.mu.Lock()
	seqs = slices.Clone(l.rows[t.row])
	l.mu.Unlock()
	err = l.j.View(func(v journal.View) error {
		return v.Look(historyKey(t.row, 0), historyKey(t.row, t.seq), func(key, _ []byte) (bool, error) {
			seqs = append(seqs, journal.SeqOf(key[len(t.row):]))
			return true, nil
		})
	})
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	return slices.DeleteFunc(seqs, func(seq journal.Seq) bool { return seq >= t.seq }), err
}

// recall takes back what was handed over of one message; what is with the
// sender is taken back as it lands, and the rest before it leaves. False when
// too many cancels wait.
func (l *Ledger) recall(t *retraction) (whole bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.entryLocked(t.rest[0])
	if err != nil || e == nil {
		return err == nil, err // no longer kept
	}
	l.withdrawLocked(e)
	it := roaring.AndNot(e.handed, e.read).Iterator()
	for it.AdvanceIfNeeded(t.next); it.HasNext(); {
		t.next = it.Next()
		if len(l.cancels) >= maxCancels {
			return false, nil
		}
		l.cancelLocked(e, journal.Reader(t.next), CauseRetracted)
	}
	return true, nil
}
