package gateway

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
)

// Guests are readers without a token, where Config.Anonymous lets them in: over
// WebSocket alone, with sets that end with the session. They are in no account;
// what they get is matched by the crowd, live and from the journal.

// isGuest tells a guest's number from a reader's.
func isGuest(r journal.Reader) bool { return r >= fanout.FirstGuest }

// guestReach is how many places of the journal a guest may go back. Each of them
// is looked at, so a guest who goes back further is told of a gap instead.
const guestReach = 50_000

// guestBook is the ledger as sessions see it: guests stand in no account, and
// have not read what the crowd matches them to behind their cursor.
type guestBook struct {
	Ledger
	crowd *fanout.Crowd
	j     Journal
}

func (b *guestBook) Sent(r journal.Reader, attempts []journal.Attempt) error {
	if isGuest(r) {
		return nil
	}
	return b.Ledger.Sent(r, attempts)
}

func (b *guestBook) SentToMany(a journal.Attempt, readers []journal.Reader) error {
	if slices.ContainsFunc(readers, isGuest) {
		readers = slices.DeleteFunc(slices.Clone(readers), isGuest)
	}
	if len(readers) == 0 {
		return nil
	}
	return b.Ledger.SentToMany(a, readers)
}

func (b *guestBook) Unsent(r journal.Reader, attempts []journal.Attempt) error {
	if isGuest(r) {
		return nil
	}
	return b.Ledger.Unsent(r, attempts)
}

func (b *guestBook) Ack(r journal.Reader, ids []journal.ID) error {
	if isGuest(r) {
		return nil
	}
	return b.Ledger.Ack(r, ids)
}

func (b *guestBook) Receive(acks []journal.Receipt) error {
	ofGuest := func(r journal.Receipt) bool { return isGuest(r.Reader) }
	if slices.ContainsFunc(acks, ofGuest) {
		acks = slices.DeleteFunc(slices.Clone(acks), ofGuest)
	}
	if len(acks) == 0 {
		return nil
	}
	return b.Ledger.Receive(acks)
}

func (b *guestBook) Unread(r journal.Reader, after journal.Seq, limit int) (unread []journal.Attempt, through journal.Seq, err error) {
	if !isGuest(r) {
		return b.Ledger.Unread(r, after, limit)
	}
	upto := b.crowd.At()
	after = max(after, b.j.Oldest()-1) // Next would wait behind what is no longer kept
	for after < upto && len(unread) < limit {
		entries, err := b.j.Next(context.Background(), after, 256) // it waits for the sync of a large commit at most
		if err != nil {
			return nil, 0, err
		}
		for _, e := range entries {
			if e.Seq > upto || len(unread) == limit {
				break
			}
			if after = e.Seq; e.Message != nil && b.crowd.Wants(r, e.Seq, e.Message) {
				unread = append(unread, journal.Attempt{Seq: e.Seq, N: 1, Replay: true})
			}
		}
		if entries[0].Seq > upto { // what lay between is no longer kept
			after = upto
		}
	}
	return unread, after, nil
}

// welcomeGuest lets in who has no token. What is routed from then on is matched
// with its sets; with an after in its hello it gets from the journal what
// matches behind that.
func (g *Gateway) welcomeGuest(s *session, hello clientFrame) bool {
	resume, after, err := g.resume(hello)
	if err != nil {
		g.refuseHello(s, err)
		return false
	}
	crowd := g.pools.crowd
	s.reader = crowd.Number()
	s.expires.Store(math.MaxInt64)
	g.pools.of(s.reader).attach(s, 0)
	edited, refused := g.editGuest(s.reader, fanout.Edit{SetFollow: hello.Follow, SetMute: hello.Mute})
	if refused != nil {
		edited, _ = g.editGuest(s.reader, fanout.Edit{})
	}
	after = max(after, g.deps.journal.Oldest()-1)
	switch {
	case hello.After == nil: // it begins with what is new
		after = edited.Seq
	case edited.Seq > after+guestReach:
		resume, after = "gap", edited.Seq-guestReach
	}
	s.replayed = edited.Seq
	s.mu.Lock()
	s.cursor = after
	s.mu.Unlock()
	s.begin(g.welcomeFrames(s, hello, edited, refused, resume, time.Time{})...)
	return true
}

// editGuest changes a guest's sets.
func (g *Gateway) editGuest(number journal.Reader, e fanout.Edit) (fanout.Edited, *refusal) {
	edited, err := g.pools.crowd.Edit(number, e, g.cfg.Limits.TagsPerReader)
	return edited, refusalOf(err)
}

// refusalOf is what a change is refused for; nil when it is not.
func refusalOf(err error) *refusal {
	var badTag *fanout.ErrTag
	var tooMany *fanout.ErrTagLimit
	switch {
	case errors.As(err, &badTag):
		return &refusal{"bad_tag", badTag.Error()}
	case errors.As(err, &tooMany):
		return &refusal{"too_many_tags", tooMany.Error()}
	}
	return nil
}
