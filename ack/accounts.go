package ack

import (
	"cmp"
	"errors"
	"slices"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Accounts is the ledger with the backlog beside it: what routes and what
// delivers need not know which of the two a message belongs to.
type Accounts struct {
	*Ledger
	backlog *Backlog
}

// NewAccounts puts them together. It starts nothing.
func NewAccounts(l *Ledger, b *Backlog) *Accounts { return &Accounts{l, b} }

// Open is Ledger.Open. A backfilled message has no account.
func (a *Accounts) Open(u *journal.Update, seq journal.Seq, m *journal.Message, audience *roaring.Bitmap) {
	if m.Backfilled {
		a.backlog.open(seq, m.ID, audience)
		audience = roaring.New()
	}
	a.Ledger.Open(u, seq, m, audience)
}

// Late gives a reader backfilled messages that were routed before it followed
// anything.
func (a *Accounts) Late(r journal.Reader, seqs *roaring.Bitmap) error {
	return a.backlog.late(r, seqs)
}

// Forget is Ledger.Forget.
func (a *Accounts) Forget(r journal.Reader) {
	a.backlog.forget(r)
	a.Ledger.Forget(r)
}

// Routed writes what Open and Late have left to write, and adds to u, which has
// what Open added since the last call, how much that makes in all.
func (a *Accounts) Routed(u *journal.Update) error {
	a.Ledger.Routed(u)
	return a.backlog.routed()
}

// Opened is Ledger.Opened.
func (a *Accounts) Opened() journal.Seq { return max(a.Ledger.Opened(), a.backlog.last()) }

// Sent is Ledger.Sent.
func (a *Accounts) Sent(r journal.Reader, attempts []journal.Attempt) error {
	rest, err := a.backlog.sent(r, attempts)
	if err != nil || len(rest) == 0 {
		return err
	}
	return a.Ledger.Sent(r, rest)
}

// SentToMany is Ledger.SentToMany.
func (a *Accounts) SentToMany(at journal.Attempt, readers []journal.Reader) error {
	if !a.backlog.has(at.Seq) {
		return a.Ledger.SentToMany(at, readers)
	}
	for _, r := range readers {
		if _, err := a.backlog.sent(r, []journal.Attempt{at}); err != nil {
			return err
		}
	}
	return nil
}

// Unsent is Ledger.Unsent. Of a backfilled message only an acknowledgement
// matters, which nobody makes who has not got it.
func (a *Accounts) Unsent(r journal.Reader, attempts []journal.Attempt) error {
	return a.Ledger.Unsent(r, attempts)
}

// Ack is Ledger.Ack.
func (a *Accounts) Ack(r journal.Reader, ids []journal.ID) error {
	rest, err := a.backlog.acked(r, ids)
	if err != nil || len(rest) == 0 {
		return err
	}
	return a.Ledger.Ack(r, rest)
}

// Receive is Ledger.Receive. What was backfilled is taken out of receipts.
func (a *Accounts) Receive(receipts []journal.Receipt) error {
	if a.backlog.last() == 0 {
		return a.Ledger.Receive(receipts)
	}
	var fault error
	rest := slices.DeleteFunc(receipts, func(one journal.Receipt) bool {
		if _, ok := a.backlog.find(one.ID); !ok {
			return false
		}
		_, err := a.backlog.acked(one.Reader, []journal.ID{one.ID})
		fault = errors.Join(fault, err)
		return true
	})
	return errors.Join(fault, a.Ledger.Receive(rest))
}

// Read is Ledger.Read.
func (a *Accounts) Read(r journal.Reader, seqs []journal.Seq) error {
	rest, err := a.backlog.read(r, seqs)
	if err != nil || len(rest) == 0 {
		return err
	}
	return a.Ledger.Read(r, rest)
}

// Unread is Ledger.Unread, with what was backfilled.
func (a *Accounts) Unread(r journal.Reader, after journal.Seq, limit int) (found []journal.Attempt, through journal.Seq, err error) {
	old, err := a.backlog.unread(r, after, limit)
	if err != nil {
		return nil, 0, err
	}
	found, through, err = a.Ledger.Unread(r, after, limit)
	if err != nil || len(old) == 0 {
		return found, through, err
	}
	if len(found) < limit { // it has said all, and knows nothing of what was backfilled
		through = max(through, old[len(old)-1].Seq)
	}
	found = append(found, slices.DeleteFunc(old, func(at journal.Attempt) bool { return at.Seq > through })...)
	slices.SortFunc(found, func(x, y journal.Attempt) int { return cmp.Compare(x.Seq, y.Seq) })
	if len(found) >= limit {
		found = found[:limit]
		through = found[limit-1].Seq
	}
	return found, through, nil
}
