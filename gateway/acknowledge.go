package gateway

import (
	"bytes"
	"context"
	"slices"
	"time"

	"newswire/fanout/journal"
)

// ackFrame is what an acknowledgement says. Malformed ids are left out: they
// acknowledge nothing, as unknown ones.
type ackFrame struct {
	ids  []journal.ID
	upto journal.ID
	all  bool // upto says something
}

// parseAck reads an acknowledgement as clients write it, one for each message
// that is delivered, without decoding JSON in general. plain is false for every
// other frame, which may be an acknowledgement all the same. ids is room.
func parseAck(raw []byte, ids []journal.ID) (f ackFrame, plain bool) {
	f.ids = ids
	p := plainJSON{rest: raw}
	seen := ""
	if !p.next('{') {
		return f, false
	}
	for {
		key, ok := p.text()
		if !ok || !p.next(':') {
			return f, false
		}
		switch string(key) {
		case "type":
			seen += "t"
			ok = p.word("ack")
		case "id":
			seen += "i"
			ok = p.id(&f.ids)
		case "ids":
			seen += "s"
			ok = p.list(&f.ids)
		case "upto":
			seen += "u"
			var one []journal.ID
			if ok = p.id(&one); len(one) > 0 {
				f.upto, f.all = one[0], true
			}
		default:
			return f, false
		}
		switch {
		case !ok:
			return f, false
		case p.next(','):
			continue
		}
		break
	}
	if !p.next('}') || !p.end() {
		return f, false
	}
	return f, seen == "ti" || seen == "ts" || seen == "tu" // each key once, with the type before it
}

// plainJSON reads JSON without escapes; whatever else it meets is not ok.
type plainJSON struct{ rest []byte }

func (p *plainJSON) space() { p.rest = bytes.TrimLeft(p.rest, " \t\r\n") }

// next takes a character, if it comes next.
func (p *plainJSON) next(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plainJSON) end() bool {
	p.space()
	return len(p.rest) == 0
}

// text takes a string of letters that stand for themselves.
func (p *plainJSON) text() (text []byte, ok bool) {
	if !p.next('"') {
		return nil, false
	}
	for i, c := range p.rest {
		switch {
		case c == '"':
			text, p.rest = p.rest[:i], p.rest[i+1:]
			return text, true
		case c < 0x20 || c >= 0x80 || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

func (p *plainJSON) word(want string) bool {
	text, ok := p.text()
	return ok && string(text) == want
}

// id takes a string and adds it to ids if it is one.
func (p *plainJSON) id(ids *[]journal.ID) bool {
	text, ok := p.text()
	if !ok {
		return false
	}
	if id, err := journal.ParseID(string(text)); err == nil {
		*ids = append(*ids, id)
	}
	return true
}

func (p *plainJSON) list(ids *[]journal.ID) bool {
	if !p.next('[') {
		return false
	}
	if p.next(']') {
		return true
	}
	for {
		if !p.id(ids) {
			return false
		}
		if !p.next(',') {
			return p.next(']')
		}
	}
}

// handleAck takes acknowledgements, which go to the ledger with those of other
// sessions. Too many are read more slowly.
func (g *Gateway) handleAck(s *session, e *ears, f ackFrame) (work func(context.Context)) {
	if f.all && s.fadedUpto(f.upto) {
		return func(ctx context.Context) { g.ackUpto(ctx, s, f.upto) }
	}
	if f.all {
		f.ids = append(f.ids, s.upto(f.upto)...)
	}
	if wait := s.slow(max(1, len(f.ids))); wait > 0 { // one that says nothing costs as much
		ids := slices.Clone(f.ids)
		return func(ctx context.Context) { g.ackLater(ctx, s, ids, wait) }
	}
	if len(f.ids) == 0 {
		return nil
	}
	for _, id := range f.ids {
		e.acks = append(e.acks, journal.Receipt{Reader: s.reader, ID: id})
	}
	e.from = append(e.from, s)
	s.acked(f.ids)
	return nil
}

// acknowledge is handleAck of a frame that was decoded.
func (g *Gateway) acknowledge(ctx context.Context, s *session, f clientFrame) {
	ids := parseIDs(append(f.IDs, f.ID))
	g.ackLater(ctx, s, ids, s.slow(max(1, len(ids))))
	if upto, err := journal.ParseID(f.Upto); err == nil {
		g.ackUpto(ctx, s, upto)
	}
}

// slow counts acknowledged messages and gives how long the next are to wait.
func (s *session) slow(n int) time.Duration {
	return s.acks.take(min(n, ackRate), ackRate, ackRate)
}

// ackLater gives the ledger one session's acknowledgements.
func (g *Gateway) ackLater(ctx context.Context, s *session, ids []journal.ID, wait time.Duration) {
	if wait > 0 {
		pause := time.NewTimer(wait)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done(): // the session has ended: what was read of it counts
			if wait > closeTimeout {
				return
			}
		}
	}
	if len(ids) == 0 {
		return
	}
	if err := g.deps.ledger.Ack(s.reader, ids); err != nil {
		s.fail(err)
		return
	}
	s.acked(ids)
}

// ackUpto acknowledges what was written to a session up to id. For what has faded
// from its memory the ledger is asked: between two messages that a session was
// written it was written all that its reader had not read, as far as its token
// covers that.
func (g *Gateway) ackUpto(ctx context.Context, s *session, id journal.ID) {
	ids := s.upto(id)
	if s.fadedUpto(id) {
		s.mu.Lock()
		faded := s.faded
		s.mu.Unlock()
		if faded.last.Compare(id) > 0 {
			faded.last = id
		}
		old, err := g.unreadIn(s.reader, faded, s.mayGet)
		if err != nil {
			s.fail(err)
			return
		}
		ids = append(ids, old...)
	}
	g.ackLater(ctx, s, ids, s.slow(max(1, len(ids))))
}

// span is messages by their ids, both ends included; the zero span is empty.
type span struct{ first, last journal.ID }

func (sp *span) widen(by []journal.ID) {
	for _, id := range by {
		if sp.first.IsZero() || id.Compare(sp.first) < 0 {
			sp.first = id
		}
		if id.Compare(sp.last) > 0 {
			sp.last = id
		}
	}
}

// fadedUpto tells whether up to id there is more than unacked holds.
func (s *session) fadedUpto(id journal.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.faded.first.IsZero() && s.faded.first.Compare(id) <= 0
}

// unreadIn gives what a reader has not read within a span, as far as want does
// not leave it out.
func (g *Gateway) unreadIn(reader journal.Reader, sp span, want func(*journal.Message) bool) (ids []journal.ID, err error) {
	place, err := g.deps.journal.Find(sp.first)
	if err != nil {
		return nil, err
	}
	for after := max(place.Seq, 1) - 1; ; {
		unread, through, err := g.deps.ledger.Unread(reader, after, 256)
		if err != nil {
			return nil, err
		}
		for _, a := range unread {
			m, kept, err := g.deps.journal.Message(a.Seq)
			switch {
			case err != nil:
				return nil, err
			case kept && m.ID.Compare(sp.last) > 0:
				return ids, nil
			case kept && m.ID.Compare(sp.first) >= 0 && want(m):
				ids = append(ids, m.ID)
			}
		}
		if len(unread) < 256 {
			return ids, nil
		}
		after = through
	}
}

func parseIDs(texts []string) (ids []journal.ID) {
	for _, text := range texts {
		if id, err := journal.ParseID(text); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// acked forgets that messages wait for an acknowledgement on this session.
func (s *session) acked(ids []journal.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(ids) > 4: // not a search for each
		gone := make(map[journal.ID]bool, len(ids))
		for _, id := range ids {
			gone[id] = true
		}
		s.unacked = slices.DeleteFunc(s.unacked, func(id journal.ID) bool { return gone[id] })
	case len(s.unacked) > 0:
		s.unacked = slices.DeleteFunc(s.unacked, func(id journal.ID) bool { return slices.Contains(ids, id) }) // who was sent it again has it twice
	}
	if len(s.unacked) == 0 && cap(s.unacked) > keptFrames {
		s.unacked = nil // an idle session keeps no buffer
	}
}

// upto gives the messages up to id that were written to this session and not
// acknowledged on it.
func (s *session) upto(id journal.ID) (ids []journal.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.unacked {
		if other.Compare(id) <= 0 {
			ids = append(ids, other)
		}
	}
	return ids
}
