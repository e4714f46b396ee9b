package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"newswire/fanout/journal"
)

// What is remembered of rows that wait for their time, beside their states. The
// name of a table begins with no zero byte, so nothing here is taken for a row.
//
// The first space has a key for each row, which begins with its time, so that
// those whose time has come are the first ones. The second has what the row
// will say, in pieces.
var (
	dueSpace  = []byte("\x00due\x00")
	bodySpace = []byte("\x00body\x00")
)

// bodyPiece is how many bytes of what a row will say one record takes: two of
// them, as a spooled commit may need, stay below what Badger checks whole.
const bodyPiece = 200 << 10

// dueKey makes the key under which a row is found when its time has come. It
// sorts as the times do.
func dueKey(due instant, key []byte) []byte {
	b := slices.Clone(dueSpace)
	b = binary.BigEndian.AppendUint64(b, uint64(due)^1<<63)
	return append(b, key...)
}

// splitDue reads a key that dueKey made.
func splitDue(b []byte) (due instant, key []byte, err error) {
	const fixed = 8
	if !bytes.HasPrefix(b, dueSpace) || len(b) < len(dueSpace)+fixed {
		return 0, nil, errRowState
	}
	b = b[len(dueSpace):]
	return instant(binary.BigEndian.Uint64(b) ^ 1<<63), b[fixed:], nil
}

func bodyKey(key []byte, piece int) []byte {
	b := append(slices.Clone(bodySpace), key...)
	return binary.BigEndian.AppendUint16(b, uint16(piece))
}

// body is what a row will say: whether its data is cut, then the data.
func (a *article) body() []byte {
	b := make([]byte, 1, 1+len(a.data))
	if a.truncated {
		b[0] = 1
	}
	return append(b, a.data...)
}

// waiting makes the state of a row that waits, with the records beside it.
func (a *article) waiting(key []byte) (*rowState, iter.Seq2[[]byte, []byte]) {
	body := a.body()
	s := &rowState{due: a.due, hashes: a.hashes, tags: a.tags, pieces: (len(body) + bodyPiece - 1) / bodyPiece}
	return s, func(yield func(key, record []byte) bool) {
		if !yield(dueKey(a.due, key), []byte{1}) {
			return
		}
		n := 0
		for piece := range slices.Chunk(body, bodyPiece) {
			if !yield(bodyKey(key, n), piece) {
				return
			}
			n++
		}
	}
}

func (b *rowBook) put(key, record []byte) {
	if b.beside == nil {
		b.beside = make(map[string][]byte)
	}
	b.beside[string(key)] = record
}

// wait remembers a row until its time comes.
func (b *rowBook) wait(key []byte, next *article) {
	s, records := next.waiting(key)
	for k, record := range records {
		b.put(k, record)
	}
	b.set(key, s)
	b.waiting++
	b.waited = true
}

// stop forgets what a row waits for and would say; its state is the caller's.
func (b *rowBook) stop(key []byte, s *rowState) {
	b.put(dueKey(s.due, key), nil)
	for n := range s.pieces {
		b.put(bodyKey(key, n), nil)
	}
	b.waiting--
}

// kept gives what a row that waits will say.
func (b *rowBook) kept(key []byte, s *rowState) (data json.RawMessage, truncated bool, err error) {
	var body []byte
	for n := range s.pieces {
		k := bodyKey(key, n)
		piece, mine := b.beside[string(k)]
		if !mine {
			if piece, _, err = b.journal.Row(k); err != nil {
				return nil, false, err
			}
		}
		if piece == nil {
			return nil, false, fmt.Errorf("row %q: what it will say has a hole: %w", key, errRowState)
		}
		body = append(body, piece...)
	}
	if len(body) == 0 {
		return nil, false, fmt.Errorf("row %q: what it will say is missing: %w", key, errRowState)
	}
	return body[1:], body[0] == 1, nil
}

// lastKept is kept for values that a change leaves out: nil when it is not
// whole, or when the transaction has taken it away already.
func (b *rowBook) lastKept(key []byte, s *rowState) (json.RawMessage, error) {
	if record, mine := b.beside[string(dueKey(s.due, key))]; mine && record == nil {
		return nil, nil
	}
	data, truncated, err := b.kept(key, s)
	if err != nil || truncated {
		return nil, err
	}
	return data, nil
}

// errEnough ends a reading of rows that need not go on.
var errEnough = errors.New("enough was read")

// dueBy calls each for the rows that wait for a time up to one, in the order of
// their times and then of their keys, as it stands when dueBy is called: each
// may change the book.
func (b *rowBook) dueBy(upto instant, each func(due instant, key []byte) error) error {
	tell := func(entry []byte) error {
		due, key, err := splitDue(entry)
		switch {
		case err != nil:
			return err
		case due > upto:
			return errEnough
		}
		return each(due, key)
	}
	err := overlaid(b.journal, dueSpace, maps.All(b.beside), func(entry, record []byte) error {
		if record == nil {
			return nil
		}
		return tell(entry)
	}, func(entry, _ []byte) error { return tell(entry) })
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// decideWaiting is decide for a row that waits, before the change or behind it.
func (a *assembler) decideWaiting(r *relation, key []byte, was *rowState, next *article, ordinal uint32) error {
	present, changed := a.rows.changed.get(key)
	gone := changed && present == nil // deleted, and now it comes back
	if was.waits() && next.waits() && !gone && was.tellsLike(next) {
		a.count(rowUnchanged)
		return nil
	}
	if was.waits() {
		if !gone {
			a.rows.stop(key, was)
			a.rows.set(key, nil)
		}
		was = nil
	}
	if !next.waits() {
		return a.decide(r, key, nil, next, ordinal)
	}
	if len(r.key) == 0 {
		a.count(rowUnkeyed)
		return nil
	}
	if was != nil { // it is news no longer, and will be again
		if err := a.decide(r, key, was, nil, ordinal); err != nil {
			return err
		}
	}
	a.count(rowWaiting)
	a.bytes += len(next.data)
	a.rows.wait(key, next)
	return nil
}

// tellsLike tells whether a row waits for the same time, to say the same.
func (s *rowState) tellsLike(next *article) bool {
	return s.due == next.due && slices.Equal(s.hashes, next.hashes) && slices.Equal(s.tags, next.tags)
}

// duePrefix marks the message that the listener writes into the log when a
// time that rows wait for has come. Whoever else writes one changes nothing
// before its time: what counts is when the server committed it.
const duePrefix = "newswire.due"

// releasedKey is the key of the record that tells when rows went out last.
var releasedKey = []byte("\x00released\x00")

// sameMoment is how far commits may stand in another order than their times:
// PostgreSQL takes the time first, and the place then.
const sameMoment = instant(10 * time.Second / time.Microsecond)

// now is when the open transaction was committed, and not before the rows that
// have gone out before it: an article that is news does not wait again because
// of a clock's last digits.
func (a *assembler) now() instant {
	at := instantOf(a.open.Time)
	if a.released > at && a.released-at < sameMoment {
		return a.released
	}
	return at
}

// recall reads when rows went out last, and what was backfilled.
func (a *assembler) recall() error {
	p, err := readProgress(a.journal)
	if err != nil {
		return err
	}
	a.backfilled = p.at
	record, ok, err := a.journal.Row(releasedKey)
	if err != nil || !ok {
		return err
	}
	if len(record) != 8 {
		return fmt.Errorf("when articles went out last: %w", errRowState)
	}
	a.released = instant(binary.BigEndian.Uint64(record))
	return nil
}

// release publishes the rows whose time has come with the open transaction.
func (a *assembler) release(ctx context.Context) error {
	if a.open == nil {
		return fmt.Errorf("message %q outside of a transaction: %w", duePrefix, ErrMalformed)
	}
	a.due = a.open.LSN
	if a.repeat {
		return nil
	}
	if err := a.resolve(ctx); err != nil { // what was changed before
		return err
	}
	return a.rows.dueBy(instantOf(a.open.Time), func(due instant, key []byte) error {
		if err := a.releaseRow(due, key); err != nil {
			return err
		}
		return a.spillAfter(ctx, 1, nil)
	})
}

func (a *assembler) releaseRow(due instant, key []byte) error {
	s, err := a.rows.get(key, a.open.LSN)
	if err != nil {
		return err
	}
	source, rest, _ := bytes.Cut(key, []byte{0})
	t := a.named(string(source))
	switch {
	case !s.waits() || s.due != due: // left by a first fill that did not end
		a.rows.stop(key, &rowState{due: due})
		return nil
	case t == nil: // no longer configured
		a.rows.stop(key, s)
		a.rows.set(key, nil)
		return nil
	}
	data, truncated, err := a.rows.kept(key, s)
	if err != nil {
		return err
	}
	if at := instantOf(a.open.Time); a.released != at {
		a.released = at
		a.rows.put(releasedKey, binary.BigEndian.AppendUint64(nil, uint64(at)))
	}
	id := journal.ID{Epoch: a.epoch, LSN: a.open.LSN, Ordinal: a.next()}
	a.count(rowPublish)
	a.rows.stop(key, s)
	a.rows.set(key, &rowState{id: id, hashes: s.hashes, tags: s.tags})
	a.add(journal.Message{
		ID: id, Action: journal.Publish, Tags: s.tags, Source: t.name.String(),
		Key: bytes.Clone(rest), Time: a.open.Time, Data: data, Truncated: truncated,
	})
	return nil
}

// named finds a table by its name as messages tell it.
func (a *assembler) named(source string) *table {
	for n, t := range a.tables {
		if n.String() == source {
			return t
		}
	}
	return nil
}
