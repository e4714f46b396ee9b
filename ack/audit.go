package ack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Report is what the disk says about every message and every reader of its
// audience, counted anew from the records.
type Report struct {
	Since    time.Time   `json:"since"` // of the first message that was counted
	From     journal.Seq `json:"from"`
	Through  journal.Seq `json:"through"`
	Messages uint64      `json:"messages"`
	Nobody   uint64      `json:"messages_for_nobody"`
	Parts
	Late      uint64    `json:"read_after_hand_over"` // of those handed over
	Unsettled uint64    `json:"unsettled_messages"`
	Oldest    time.Time `json:"oldest_unsettled,omitzero"` // when it was committed
	Retracted uint64    `json:"retracted_messages"`
	Whole     bool      `json:"whole"`   // everything that is kept was counted
	Ever      opened    `json:"ever"`    // routed since the beginning
	Expired   expired   `json:"expired"` // of that, what has left with the retention
	AddsUp    bool      `json:"adds_up"`
	Faults    []string  `json:"faults,omitempty"` // the first of them
	Wrong     int       `json:"fault_count"`
}

// mostFaults are named one by one.
const mostFaults = 100

func (r *Report) fault(format string, args ...any) {
	r.AddsUp = false
	if r.Wrong++; r.Wrong <= mostFaults {
		r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
	}
}

// Audit recounts what the disk says, since a time, or for the zero time
// everything that is kept, and holds the records against each other and against
// the totals. What it finds wrong is in the report; the error is ctx's, or that
// of a disk that cannot be read at all.
func (l *Ledger) Audit(ctx context.Context, since time.Time) (Report, error) {
	l.expiry.Lock() // nothing leaves meanwhile
	defer l.expiry.Unlock()
	return Audit(ctx, l.j, since)
}

// Audit is Ledger.Audit of a journal that no ledger works on.
func Audit(ctx context.Context, j *journal.Journal, since time.Time) (Report, error) {
	a := auditor{j: j, since: since, known: roaring.New()}
	a.Whole, a.AddsUp = since.IsZero(), true
	err := j.View(func(v journal.View) error {
		a.v = v
		if err := a.totals(); err != nil {
			return err
		}
		if err := a.messages(ctx); err != nil {
			return err
		}
		return a.strays()
	})
	if err != nil {
		return a.Report, fmt.Errorf("audit: %w", err)
	}
	if a.Whole {
		a.balance()
	}
	return a.Report, nil
}

// auditor goes once through the journal and the accounts.
type auditor struct {
	Report
	j     *journal.Journal
	v     journal.View
	since time.Time
	base  journal.Seq                 // the first entry that is kept
	known *roaring.Bitmap             // messages with an account, counted from base
	ended map[endedAs]*roaring.Bitmap // of the messages that are being counted: whose ends have a time
	skips [skipLevels + 1]struct {
		block  block
		unread *roaring.Bitmap // nil: it has no record
	}
}

func (a *auditor) totals() error {
	err := errors.Join(loadTotals(a.v, keyOpened, &a.Ever), loadTotals(a.v, keyExpired, &a.Expired))
	if errors.Is(err, errDamaged) {
		a.fault("%v", err)
		return nil
	}
	a.Through = a.Ever.Through
	return err
}

// endedAs names those whose copies of a message ended in one way.
type endedAs struct {
	seq journal.Seq
	how ending
}

// auditStep is how many entries are read at a time.
const auditStep = 256

// messages goes through what is routed, in order. A hole or a damaged entry
// ends it: what is behind cannot be told from what is missing.
func (a *auditor) messages(ctx context.Context) error {
	a.base = a.j.Oldest()
	for after := a.base - 1; after < a.Through; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		entries, err := a.j.Range(after, min(after+auditStep, a.Through))
		if err != nil {
			a.fault("%v", err)
			return nil
		}
		if len(entries) == 0 || entries[0].Seq != after+1 {
			a.fault("the entries from %d on are missing from the journal", after+1)
			return nil
		}
		a.times(after+1, entries[len(entries)-1].Seq)
		for _, e := range entries {
			if e.Message != nil && !e.Message.Time.Before(a.since) {
				a.message(e.Seq, e.Message)
			}
			after = e.Seq
		}
	}
	return nil
}

// times reads whose ends have a time, of the messages at some places.
func (a *auditor) times(from, through journal.Seq) {
	a.ended = make(map[endedAs]*roaring.Bitmap)
	err := eachEnd(a.v, from, through, func(seq journal.Seq, x end) {
		as := endedAs{seq, x.how}
		if a.ended[as] == nil {
			a.ended[as] = roaring.New()
		}
		a.ended[as].Or(x.readers)
	})
	if err != nil {
		a.fault("%v", err)
	}
}

// message counts one message, and holds its records against each other.
func (a *auditor) message(seq journal.Seq, m *journal.Message) {
	if a.Messages++; a.Messages == 1 {
		a.Since, a.From = m.Time, seq
	}
	e, ok, err := loadEntry(a.v, seq)
	switch {
	case err != nil:
		a.fault("message %s: %v", m.ID, err)
		a.known.Add(uint32(seq - a.base))
		return
	case !ok:
		a.Nobody++
		return
	}
	a.known.Add(uint32(seq - a.base))
	p := e.parts()
	a.Parts.add(p)
	a.Late += e.read.AndCardinality(e.handed)
	if e.retracted {
		a.Retracted++
	}
	if e.id != m.ID {
		a.fault("message %s: its account is that of %s", m.ID, e.id)
	}
	for how, what := range map[ending]string{endRead: "have read it", endHanded: "were handed over", endForgotten: "were forgotten"} {
		set, timed := e.have(how), a.ended[endedAs{seq, how}]
		if timed == nil {
			timed = roaring.New()
		}
		if n := set.GetCardinality() - set.AndCardinality(timed); n > 0 { // a crash may leave the time of an end that it took back
			a.fault("message %s: %d readers %s at no known time", m.ID, n, what)
		}
		if n := set.GetCardinality() - set.AndCardinality(e.audience); n > 0 {
			a.fault("message %s: %d readers %s who are not in its audience", m.ID, n, what)
		}
	}
	if p.Acked+p.Handed+p.Forgotten+p.Pending != p.Pairs {
		a.fault("message %s: %d acked, %d handed over, %d forgotten and %d pending are not its %d readers",
			m.ID, p.Acked, p.Handed, p.Forgotten, p.Pending, p.Pairs)
	}
	if err := a.state(e, m, p); err != nil {
		a.fault("message %s: %v", m.ID, err)
	}
}

// state checks the records that depend on whether an account is settled.
func (a *auditor) state(e *entry, m *journal.Message, p Parts) error {
	_, open, err := a.v.Get(journal.SpaceOpen.Seq(e.seq))
	if err != nil {
		return err
	}
	if open {
		a.Unsettled++
		if a.Oldest.IsZero() || m.Time.Before(a.Oldest) {
			a.Oldest = m.Time
		}
		return nil
	}
	if p.Pending > 0 {
		return fmt.Errorf("%d readers are pending, but nothing waits for them", p.Pending)
	}
	stored := roaring.New()
	if _, err := a.v.Peek(journal.SpaceUnread.Seq(e.seq), func(value []byte) (err error) {
		stored, err = decodeUnread(value)
		return err
	}); err != nil {
		return err
	}
	unread := e.unread()
	if !unread.Equals(stored) {
		return fmt.Errorf("%d readers have not read it, but %d would get it when they come back", unread.GetCardinality(), stored.GetCardinality())
	}
	for level := 1; level <= skipLevels; level++ {
		b := blockOf(level, e.seq)
		skip, err := a.skip(b)
		if err != nil {
			return err
		}
		if skip != nil && unread.AndCardinality(skip) != unread.GetCardinality() {
			return fmt.Errorf("the search for the unread would pass over it: places %d to %d are said to hold nothing of %d readers",
				b.first(), b.last(), unread.GetCardinality()-unread.AndCardinality(skip))
		}
	}
	return nil
}

// skip gives the record of a block; nil when it has none.
func (a *auditor) skip(b block) (*roaring.Bitmap, error) {
	known := &a.skips[b.level]
	if known.block == b {
		return known.unread, nil
	}
	known.block, known.unread = b, nil
	_, err := a.v.Peek(b.key(), func(value []byte) (err error) {
		known.unread, err = decodeUnread(value)
		return err
	})
	return known.unread, err
}

// strays looks for records of messages that have no account. Those before the
// journal's first entry are about to be removed.
func (a *auditor) strays() error {
	if !a.Whole {
		return nil
	}
	names := map[journal.Space]string{
		journal.SpaceAudience: "audience", journal.SpaceProgress: "progress", journal.SpaceSends: "attempts", journal.SpaceEnds: "times of ends",
		journal.SpaceOpen: "note that it is open", journal.SpaceUnread: "list of who has not read it",
	}
	for space, name := range names {
		err := a.v.Keys(space, func(key []byte) (bool, error) {
			seq := journal.SeqOf(key)
			if seq >= a.base && (seq > a.Through || !a.known.Contains(uint32(seq-a.base))) {
				a.fault("place %d has a record (%s) but no message with an account", seq, name)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// balance holds what was counted against what was ever routed.
func (a *auditor) balance() {
	accounts := a.Messages - a.Nobody
	for _, b := range []struct {
		what                string
		kept, expired, ever uint64
	}{
		{"messages", a.Messages, a.Expired.Messages, a.Ever.Messages},
		{"messages with an audience", accounts, a.Expired.Accounts, a.Ever.Accounts},
		{"pairs of message and reader", a.Pairs, a.Expired.Pairs, a.Ever.Pairs},
	} {
		if b.kept+b.expired != b.ever {
			a.fault("%d %s are kept and %d have expired, but %d were routed", b.kept, b.what, b.expired, b.ever)
		}
	}
}
