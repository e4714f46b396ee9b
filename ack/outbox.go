package ack

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"newswire/fanout/journal"
)

// Next waits until something is to be handed over or cancelled, and gives at
// most limit of it, the oldest first. A copy that was withdrawn before it left
// is given as a cancel, and as a hand-over only once Kafka has that cancel; what
// else its reader has coming waits behind it. What it gave is with the caller
// until Settle; there is one caller. The error is ctx's or the journal's.
func (l *Ledger) Next(ctx context.Context, limit int) ([]HandOver, []Cancel, error) {
	for {
		// Nothing leaves before it is durable: nor is its reader's name known
		// before that.
		if err := l.j.WaitSynced(ctx, l.oldest()); err != nil {
			return nil, nil, err
		}
		l.mu.Lock()
		cancels := l.takeOffLocked(limit)
		flight, ahead := slices.Clone(l.flight), slices.Clone(l.ahead)
		l.mu.Unlock()
		if len(flight)+len(ahead)+len(cancels) > 0 {
			withdrawn, err := l.anyWithdrawn(flight)
			if err != nil {
				return nil, nil, err
			}
			if withdrawn {
				continue // its cancel goes first
			}
			overs, addressed, err := l.describe(flight, ahead, cancels)
			if err == nil {
				err = l.depart(ctx)
			}
			if err != nil || len(overs)+len(addressed) > 0 {
				return overs, addressed, err
			}
			continue // all of it was for readers who were deleted
		}
		if l.oldest() > l.j.Synced() {
			continue // what was oldest before was acknowledged meanwhile
		}
		select {
		case <-l.supply:
		case <-l.j.Broken():
			return nil, nil, l.j.Err()
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// oldest gives the message that the outbox begins with; 0 when it is empty.
func (l *Ledger) oldest() journal.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.outbox {
		if !g.readers.IsEmpty() {
			return g.entry.seq
		}
	}
	return 0
}

// takeOffLocked puts the next batch together: it marks the oldest hand-overs as
// being with the sender, and gives the cancels of what has landed. A batch that
// was never settled did not get there.
func (l *Ledger) takeOffLocked(limit int) []Cancel {
	for _, f := range l.flight {
		l.landLocked(f, InDoubt)
	}
	l.flight, l.ahead = l.flight[:0], l.ahead[:0]
	l.outbox = slices.DeleteFunc(l.outbox, func(g *giveUp) bool { return g.readers.IsEmpty() })
	l.lineUpLocked(limit)
	hurry := min(limit/2, len(l.ahead)+len(l.cancels)) // cancels are in a hurry, and have half of it
	l.flight = l.flight[:min(limit-hurry, len(l.flight))]
	for _, f := range l.flight {
		f.g.flight.Add(uint32(f.reader))
	}
	l.ahead = l.ahead[:min(limit-len(l.flight), len(l.ahead))]
	room := limit - len(l.flight) - len(l.ahead)
	return slices.Clone(l.cancels[:min(room, len(l.cancels))])
}

// describe adds what the records tell to what the sender takes.
func (l *Ledger) describe(flight, ahead []flown, cancels []Cancel) ([]HandOver, []Cancel, error) {
	var overs []HandOver
	var m *journal.Message
	for i, f := range flight {
		e := f.g.entry
		if i == 0 || flight[i-1].g.entry != e { // one message often goes to many readers
			var kept bool
			var err error
			if m, kept, err = l.j.Message(e.seq); err != nil {
				return nil, nil, err
			}
			if !kept {
				return nil, nil, fmt.Errorf("hand over message %s: it is not in the journal", e.id)
			}
		}
		name, known, err := l.names.Name(f.reader)
		if err != nil {
			return nil, nil, err
		}
		if !known {
			l.forget(f)
			continue
		}
		l.mu.Lock()
		_, err = l.entryLocked(e.seq) // it may sleep
		n, first := e.attempts(f.reader)
		l.mu.Unlock()
		if err != nil {
			return nil, nil, err
		}
		reason := f.g.reason
		if n > 0 {
			reason = ReasonAckTimeout // a replay came to it while it waited here
		}
		overs = append(overs, HandOver{
			Seq: e.seq, Reader: f.reader, Name: name, Message: m,
			Reason: reason, Attempts: n, FirstSent: first, Due: f.g.at,
		})
	}
	first, err := l.foretell(ahead)
	if err != nil {
		return nil, nil, err
	}
	addressed, err := l.address(cancels)
	return overs, append(first, addressed...), err
}

// address gives cancels the key of the record that they take back. Those whose
// reader was deleted have nobody left to disturb.
func (l *Ledger) address(cancels []Cancel) (addressed []Cancel, err error) {
	for _, c := range cancels {
		name, known, err := l.names.Name(c.Reader)
		if err != nil {
			return nil, err
		}
		if !known {
			l.mu.Lock()
			l.cancels = slices.DeleteFunc(l.cancels, func(other Cancel) bool { return other == c })
			l.dropCancelLocked(c)
			l.mu.Unlock()
			continue
		}
		c.CeID = CeID(c.ID, name)
		addressed = append(addressed, c)
	}
	return addressed, nil
}

// forget drops a reader who was deleted from a message's audience. An
// acknowledgement that came during the flight has ended the pair already, and
// one that came before the flight has taken it back.
func (l *Ledger) forget(f flown) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := f.g.entry
	same := func(other flown) bool { return other == f }
	l.flight, l.ahead = slices.DeleteFunc(l.flight, same), slices.DeleteFunc(l.ahead, same)
	f.g.flight.Remove(uint32(f.reader))
	if !f.g.readers.CheckedRemove(uint32(f.reader)) {
		return
	}
	e.dropEmpty()
	if e.read.Contains(uint32(f.reader)) {
		e.left--
		l.pairs--
		l.dirtiedLocked(e)
		return
	}
	l.forgetLocked(e, f.reader)
}

// Settle tells what became of the batch that Next gave last: of each hand-over,
// and whether Kafka has acknowledged each cancel. The rest is given again.
func (l *Ledger) Settle(handed []Outcome, cancelled []bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(handed) != len(l.flight) || len(cancelled) > len(l.ahead)+len(l.cancels) {
		return fmt.Errorf("settle %d hand-overs and %d cancels: %d and %d were given",
			len(handed), len(cancelled), len(l.flight), len(l.ahead)+len(l.cancels))
	}
	for i, f := range l.flight {
		l.landLocked(f, handed[i])
	}
	l.flight = l.flight[:0]
	cancelled = l.toldLocked(cancelled)
	var rest []Cancel
	for i, c := range l.cancels {
		if i >= len(cancelled) || !cancelled[i] {
			rest = append(rest, c)
			continue
		}
		l.dropCancelLocked(c)
	}
	l.cancels = rest
	l.offer()
	return nil
}

// landLocked ends one hand-over. An acknowledgement that came during the
// flight wins unless Kafka is known to have the record; only if it is known not
// to have it, the cancel is not needed.
func (l *Ledger) landLocked(f flown, o Outcome) {
	e, r, handed := f.g.entry, uint32(f.reader), o == Taken
	f.g.flight.Remove(r)
	acked := e.read.Contains(r)
	if handed || acked || o == Refused && !f.doubted {
		e.certain(f.reader)
	}
	if !handed && !acked {
		return // stays given up, and is given again
	}
	f.g.readers.Remove(r)
	if handed {
		now := time.Now()
		e.handed.Add(r)
		e.hands.note(now)
		e.end(endHanded, r, now)
		if e.retracted && !acked && !f.g.told.Contains(r) {
			l.cancelLocked(e, f.reader, CauseRetracted)
		}
	} else if o == Refused && !f.doubted {
		l.uncancelLocked(e, f.reader) // there is nothing to take back
	}
	e.left--
	l.pairs--
	e.dropEmpty()
	l.dirtiedLocked(e)
}

// cancelLocked tells the compensation service not to send what it was given.
func (l *Ledger) cancelLocked(e *entry, r journal.Reader, cause string) {
	c := Cancel{Seq: e.seq, Reader: r, ID: e.id, Cause: cause}
	l.cancels = append(l.cancels, c)
	if len(l.added) == 0 {
		l.poke()
	}
	l.added = append(l.added, c)
	l.offer()
}

// uncancelLocked takes a cancel back that Kafka has not been told yet.
func (l *Ledger) uncancelLocked(e *entry, r journal.Reader) {
	l.cancels = slices.DeleteFunc(l.cancels, func(c Cancel) bool {
		ours := c.Seq == e.seq && c.Reader == r
		if ours {
			l.dropCancelLocked(c)
		}
		return ours
	})
}

func (l *Ledger) dropCancelLocked(c Cancel) {
	l.added = append(l.added, Cancel{Seq: c.Seq, Reader: c.Reader}) // no cause: deletes the record
	l.poke()
}

func cancelKey(c Cancel) []byte {
	return binary.BigEndian.AppendUint32(journal.SpaceCancels.Seq(c.Seq), uint32(c.Reader))
}

func storeCancel(u *journal.Update, c Cancel) {
	if c.Cause == "" {
		u.Delete(cancelKey(c))
		return
	}
	u.Set(cancelKey(c), append([]byte(c.ID.String()), c.Cause...))
}

func decodeCancel(key, value []byte) (Cancel, error) {
	if len(key) != 1+8+4 || len(value) < maxIDText {
		return Cancel{}, fmt.Errorf("cancel %x: %w", key, errDamaged)
	}
	id, err := journal.ParseID(string(value[:maxIDText]))
	if err != nil {
		return Cancel{}, fmt.Errorf("cancel %x: %w", key, errDamaged)
	}
	return Cancel{
		Seq:    journal.SeqOf(key),
		Reader: journal.Reader(binary.BigEndian.Uint32(key[9:])),
		ID:     id,
		Cause:  string(value[maxIDText:]),
	}, nil
}

// count is how many readers wait for the sender.
func count(outbox []*giveUp) (n int) {
	for _, g := range outbox {
		n += int(g.readers.GetCardinality())
	}
	return n
}
