package ack

import (
	"time"

	"newswire/fanout/journal"
)

// Ack notes that a reader has acknowledged messages. Acknowledging twice, or
// what was not sent to this reader, changes nothing.
func (l *Ledger) Ack(r journal.Reader, ids []journal.ID) error {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if err := l.receiveLocked(r, id, now); err != nil {
			return err
		}
	}
	return nil
}

// Receive is Ack for many readers.
func (l *Ledger) Receive(receipts []journal.Receipt) error {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range receipts {
		if err := l.receiveLocked(one.Reader, one.ID, now); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) receiveLocked(r journal.Reader, id journal.ID, now time.Time) error {
	seq, ok := l.ids[id]
	if !ok {
		l.mu.Unlock()
		place, err := l.j.Find(id)
		l.mu.Lock()
		if err != nil {
			return err
		}
		if !place.Exact {
			l.m.acks[howUnknown].Inc()
			return nil
		}
		seq = place.Seq
	}
	return l.ackLocked(r, seq, now)
}

func (l *Ledger) ackLocked(r journal.Reader, seq journal.Seq, now time.Time) error {
	e, err := l.entryLocked(seq)
	if err != nil {
		return err
	}
	if e == nil || !e.audience.Contains(uint32(r)) {
		l.m.acks[howUnknown].Inc()
		return nil
	}
	if !e.sent.Contains(uint32(r)) {
		l.m.acks[howUnknown].Inc()
		return nil
	}
	l.readLocked(e, r, now, howInTime)
	return nil
}

// Read notes that a poll has brought messages to a reader.
func (l *Ledger) Read(r journal.Reader, seqs []journal.Seq) error {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range seqs {
		e, err := l.entryLocked(seq)
		if err != nil {
			return err
		}
		if e != nil && e.audience.Contains(uint32(r)) {
			l.readLocked(e, r, now, howPolled)
		}
	}
	return nil
}

// readLocked moves one pair to its final state, or tells the compensation
// service when Kafka has it already.
func (l *Ledger) readLocked(e *entry, r journal.Reader, now time.Time, how how) {
	if e.forgotten.Contains(uint32(r)) {
		l.m.acks[howUnknown].Inc() // a session that has outlived its reader
		return
	}
	if !e.read.CheckedAdd(uint32(r)) {
		l.m.acks[howAgain].Inc()
		return
	}
	e.reads.note(now)
	e.end(endRead, uint32(r), now)
	switch {
	case e.handed.Contains(uint32(r)):
		how = howLate
		l.cancelLocked(e, r, CauseAcked)
	case e.flying(r):
		how = howLate                    // Settle decides: Kafka's answer makes it handed over
		l.cancelLocked(e, r, CauseAcked) // now, for a crash may come before the answer
	default:
		if e.takeBack(r) {
			how = howLate
		}
		if e.certain(r) { // no more, for it is told either way
			how = howLate
			l.cancelLocked(e, r, CauseAcked)
		}
		e.left--
		l.pairs--
	}
	l.m.acks[how].Inc()
	if how == howInTime {
		l.m.ackTime.Observe(now.Sub(e.opened).Seconds())
	}
	l.dirtiedLocked(e)
}
