package ack

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Outcome is what is known of a hand-over that was with the sender.
type Outcome uint8

// The outcomes there are.
const (
	InDoubt Outcome = iota // Kafka may have it or not: no answer came, or one that leaves it open
	Refused                // Kafka does not have it
	Taken                  // Kafka has it
)

// Between Kafka's taking of a record and our knowledge of it lie an answer that
// may be lost and a process that may end. So what leaves is noted on disk
// before, and a copy whose outcome is not known is *in doubt*, over restarts: it
// is given to Kafka again, unless its reader acknowledges first. Then the
// acknowledgement wins, and the cancel goes out in case Kafka has the copy.

// departure is the note of a batch, until each of its copies has come to an end.
type departure struct {
	serial uint64
	copies []departed
}

// departed is one copy that may be in Kafka.
type departed struct {
	seq    journal.Seq
	reader journal.Reader
}

func (d departure) key() []byte { return journal.SpaceDepartures.Seq(journal.Seq(d.serial)) }

func (d departure) encode() []byte {
	b := binary.AppendUvarint([]byte{recordVersion}, uint64(len(d.copies)))
	for _, c := range d.copies {
		b = binary.AppendUvarint(b, uint64(c.seq))
		b = binary.AppendUvarint(b, uint64(c.reader))
	}
	return b
}

func decodeDeparture(key, value []byte) (departure, error) {
	r := decoder{journal.Decoder{Rest: value}}
	r.version()
	d := departure{serial: uint64(journal.SeqOf(key))}
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		d.copies = append(d.copies, departed{journal.Seq(r.Uvarint()), journal.Reader(r.Uvarint())})
	}
	if !r.Whole() {
		return departure{}, errDamaged
	}
	return d, nil
}

// loadDepartures takes up which copies are in doubt.
func (l *Ledger) loadDepartures(v journal.View) error {
	return v.Scan(journal.SpaceDepartures, nil, func(key, value []byte) (bool, error) {
		d, err := decodeDeparture(key, value)
		if err != nil {
			return false, fmt.Errorf("hand-overs under way %x: %w", key, err)
		}
		for _, c := range d.copies {
			if e := l.entries[c.seq]; e != nil && !e.ended(c.reader) {
				e.doubtful(c.reader)
			}
		}
		l.departures, l.departed = append(l.departures, d), d.serial
		return true, nil
	})
}

// depart makes durable that the batch which the sender is about to get may be
// in Kafka from now on.
func (l *Ledger) depart(ctx context.Context) error {
	l.mu.Lock()
	var d departure
	for i := range l.flight {
		f := &l.flight[i]
		e := f.g.entry
		if f.doubted = e.inDoubt(f.reader); !f.doubted {
			e.doubtful(f.reader)
			d.copies = append(d.copies, departed{e.seq, f.reader})
		}
	}
	if len(d.copies) == 0 {
		l.mu.Unlock()
		return nil
	}
	l.departed++
	d.serial = l.departed
	l.departures = append(l.departures, d)
	l.mu.Unlock()
	var u journal.Update
	u.Set(d.key(), d.encode())
	return l.j.ApplySync(ctx, u)
}

// arrived gives an update that removes the notes of departures whose copies have
// all come to an end, durably.
func (l *Ledger) arrived() (u journal.Update) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.departures = slices.DeleteFunc(l.departures, func(d departure) bool {
		if u.Full() || !l.landedLocked(d) {
			return false
		}
		u.Delete(d.key())
		return true
	})
	return u
}

// landedLocked tells that every copy of a departure has come to an end, durably.
func (l *Ledger) landedLocked(d departure) bool {
	return !slices.ContainsFunc(d.copies, func(c departed) bool {
		e := l.entries[c.seq]
		return e != nil && (e.inDoubt(c.reader) || e.dirty || e.writing > 0)
	})
}

// inDoubt tells that Kafka may have a reader's copy.
func (e *entry) inDoubt(r journal.Reader) bool { return e.doubt != nil && e.doubt.Contains(uint32(r)) }

func (e *entry) doubtful(r journal.Reader) {
	if e.doubt == nil {
		e.doubt = roaring.New()
	}
	e.doubt.Add(uint32(r))
}

// certain tells whether a reader's copy was in doubt, which it is no more.
func (e *entry) certain(r journal.Reader) bool {
	return e.doubt != nil && e.doubt.CheckedRemove(uint32(r))
}

// ended tells that nothing more becomes of a reader's copy.
func (e *entry) ended(r journal.Reader) bool {
	return e.read.Contains(uint32(r)) || e.handed.Contains(uint32(r)) || e.forgotten.Contains(uint32(r))
}
