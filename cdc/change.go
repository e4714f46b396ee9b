package cdc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"

	"newswire/fanout/journal"
)

// deletion is a row that the open transaction has deleted. When the same key
// is inserted again behind it, the two are one change: so a row moves between
// partitions, and so many a CMS saves.
type deletion struct {
	was     *rowState
	message int // its retract in the commit's messages; -1 when it made none
}

// change is one row change of a mapped table as the stream tells it, with the
// ordinals that it takes.
type change struct {
	relation *relation
	ordinal  uint32
	row      *pglogrepl.TupleData // as it is now; nil: it was deleted
	key      []byte               // of row
	inserted bool
	old      *pglogrepl.TupleData // what the stream tells of it before; nil: nothing
	whole    bool                 // old has every column
	left     []byte               // the key that it had and has no longer; nil: none
	leaving  uint32               // the ordinal of that
	former   memory               // of the row under that key, where it has another now; empty until it is told
	answer   *answer              // to the query for its tags; nil when it was not asked
}

// target finds the table of a row change, of which rows[0] must be told. r is
// nil when the change makes nothing by itself; the ordinal is its own either way.
func (a *assembler) target(id uint32, rows ...*pglogrepl.TupleData) (r *relation, ordinal uint32, err error) {
	s, ordinal, err := a.change(id)
	if err != nil || a.repeat {
		return nil, ordinal, err
	}
	if err := a.touch(s, ordinal, rows); err != nil {
		return nil, ordinal, err
	}
	switch {
	case !s.mapped():
		return nil, ordinal, nil
	case s.misfit != nil:
		return nil, ordinal, s.misfit
	case rows[0] == nil || len(rows[0].Columns) != len(s.relation.columns):
		return nil, ordinal, fmt.Errorf("row of %s without its %d columns: %w", s.relation.table.name, len(s.relation.columns), ErrMalformed)
	}
	return s.relation, ordinal, nil
}

func (a *assembler) insert(ctx context.Context, m *pglogrepl.InsertMessage) error {
	r, ordinal, err := a.target(m.RelationID, m.Tuple)
	if err != nil || r == nil {
		return err
	}
	key, err := r.rowKey(m.Tuple)
	if err != nil {
		return err
	}
	return a.take(ctx, change{relation: r, ordinal: ordinal, row: m.Tuple, key: key, inserted: true})
}

func (a *assembler) update(ctx context.Context, m *pglogrepl.UpdateMessage) error {
	r, ordinal, err := a.target(m.RelationID, m.NewTuple, m.OldTuple)
	if err != nil || r == nil {
		return err
	}
	if len(r.key) == 0 {
		a.count(rowUnkeyed)
		return nil
	}
	c := change{relation: r, ordinal: ordinal, row: m.NewTuple, old: m.OldTuple}
	if c.key, err = r.rowKey(m.NewTuple); err != nil {
		return err
	}
	before, whole := r.oldKey(m.OldTupleType, m.OldTuple, c.key)
	c.whole = whole
	if !bytes.Equal(before, c.key) { // a changed key is two changes
		c.left, c.leaving, c.ordinal = before, ordinal, a.next()
	}
	return a.take(ctx, c)
}

func (a *assembler) delete(ctx context.Context, m *pglogrepl.DeleteMessage) error {
	r, ordinal, err := a.target(m.RelationID, m.OldTuple)
	if err != nil || r == nil {
		return err
	}
	if len(r.key) == 0 {
		a.count(rowUnkeyed)
		return nil
	}
	key, whole := r.oldKey(m.OldTupleType, m.OldTuple, nil)
	if key == nil {
		a.count(rowUnkeyed)
		return nil
	}
	return a.take(ctx, change{relation: r, old: m.OldTuple, whole: whole, left: key, leaving: ordinal})
}

// take says what a change means, at once or, where a query tells the tags, once
// it is known what it says.
func (a *assembler) take(ctx context.Context, c change) error {
	if err := a.absorb(&c); err != nil || c.left == nil && c.row == nil {
		return err
	}
	if c.relation.table.query != nil {
		a.await(c)
		return nil
	}
	return a.tell(ctx, &c)
}

// tell says what a change means.
func (a *assembler) tell(ctx context.Context, c *change) error {
	if c.left != nil {
		if c.row != nil { // before it is forgotten
			var err error
			if c.former, err = a.remembered(c.left, true); err != nil {
				return err
			}
		}
		if err := a.leave(c); err != nil {
			return err
		}
	}
	switch {
	case c.inserted:
		return a.tellInserted(ctx, c)
	case c.row != nil:
		return a.tellUpdated(ctx, c)
	}
	return nil
}

func (a *assembler) tellInserted(ctx context.Context, c *change) error {
	v := &a.values
	*v = rowValues{relation: c.relation, row: c.row, key: c.relation.keyObject(c.key), at: a.now(), answer: c.answer}
	d, again := a.deleted[string(c.key)]
	if again {
		v.was = d.was
	}
	next, err := v.article(a.skippedTag)
	if errors.Is(err, errRowGone) {
		a.leaveOut(ctx, c, err)
		return nil
	}
	if err != nil {
		return err
	}
	if again {
		if d.message >= 0 {
			a.open.Messages[d.message].Action = "" // taken back
		}
		delete(a.deleted, string(c.key))
	}
	return a.decide(c.relation, c.key, v.was, next, c.ordinal)
}

func (a *assembler) tellUpdated(ctx context.Context, c *change) error {
	own, err := a.remembered(c.key, false)
	if err != nil {
		return err
	}
	was := own.state
	if c.left != nil {
		own = c.former // the row is that one, whatever had this key before
	}
	v := &a.values
	*v = rowValues{relation: c.relation, row: c.row, key: c.relation.keyObject(c.key), at: a.now(), was: was, before: own.state, answer: c.answer,
		last: own.data, reread: a.readAgain(ctx, c.relation, c.row)}
	if c.whole {
		v.old = c.old
		if was == nil && c.left == nil {
			if was, err = a.told(c.relation, c.old); err != nil {
				return err
			}
			v.was = was
		}
	}
	next, err := v.article(a.skippedTag)
	if errors.Is(err, errRowGone) || errors.Is(err, errNoValue) {
		a.leaveOut(ctx, c, err)
		return nil
	}
	if err != nil {
		return err
	}
	return a.decide(c.relation, c.key, was, next, c.ordinal)
}

// told makes the state that an old row in the stream tells, of a row that
// nothing was remembered of; nil where a query would have had to be asked then.
func (a *assembler) told(r *relation, old *pglogrepl.TupleData) (*rowState, error) {
	if r.table.query != nil {
		return nil, nil
	}
	v := &rowValues{relation: r, row: old, at: a.now(), reread: func(int) ([]byte, bool, error) { return nil, false, errNoValue }}
	was, err := v.article(func(tagFate) {})
	if err != nil || was == nil || was.waits() {
		return nil, err
	}
	return &rowState{hashes: was.hashes, tags: was.tags}, nil
}

// leave takes a row away that has been deleted, or has another key now.
func (a *assembler) leave(c *change) error {
	was, err := a.rows.get(c.left, a.open.LSN)
	if err == nil && was == nil && c.whole {
		was, err = a.told(c.relation, c.old)
	}
	if err != nil {
		return err
	}
	d := deletion{was: was, message: -1}
	if was != nil && !was.waits() {
		d.message = len(a.open.Messages)
	}
	if err := a.decide(c.relation, c.left, was, nil, c.leaving); err != nil {
		return err
	}
	if a.deleted == nil {
		a.deleted = make(map[string]deletion)
	}
	a.deleted[string(c.left)] = d
	return nil
}

func (a *assembler) truncate(ctx context.Context, m *pglogrepl.TruncateMessage) error {
	for _, id := range m.RelationIDs {
		s, ordinal, err := a.change(id)
		if err != nil {
			return err
		}
		if a.repeat {
			continue
		}
		if s.mapped() {
			if err := a.retractAll(ctx, s, ordinal); err != nil {
				return err
			}
		}
		// Behind its own messages, whose ordinals come first.
		if err := a.emptied(ctx, s, ordinal, m.RelationIDs); err != nil {
			return err
		}
	}
	return nil
}

// retractAll retracts the rows of a truncated table. The first retract has the
// change's ordinal, each further one the next.
func (a *assembler) retractAll(ctx context.Context, s shape, ordinal uint32) error {
	if s.misfit != nil {
		return s.misfit
	}
	if err := a.resolve(ctx); err != nil { // what was changed before
		return err
	}
	return a.rows.of(s.relation.table.name, a.open.LSN, func(key []byte, was *rowState) error {
		if err := a.decide(s.relation, key, was, nil, ordinal); err != nil {
			return err
		}
		ordinal = a.next()
		return a.spillAfter(ctx, 1, nil)
	})
}

// decide makes the message, if any, that leads from what the row was to what it
// is, and remembers the latter. nil is: not published. A row that waits is not
// published either, as far as readers know.
func (a *assembler) decide(r *relation, key []byte, was *rowState, next *article, ordinal uint32) error {
	if was.waits() || next.waits() {
		return a.decideWaiting(r, key, was, next, ordinal)
	}
	id := journal.ID{Epoch: a.epoch, LSN: a.open.LSN, Ordinal: ordinal}
	m := journal.Message{ID: id, Source: r.table.source, Time: a.open.Time}
	switch {
	case next == nil && was == nil:
		a.count(rowUnpublished)
		return a.forgetFilled(key)
	case next == nil:
		a.count(rowRetract)
		m.Action, m.Tags = journal.Retract, was.tags
		m.Key = r.keyObject(key)
		m.Data = m.Key
		a.rows.set(key, nil)
		a.add(m)
		return nil
	case was == nil:
		a.count(rowPublish)
		m.Action = journal.Publish
	case next.same:
		a.count(rowUnchanged)
		if s, changed := a.rows.changed.get(key); changed && s == nil {
			a.rows.set(key, was) // it was deleted and has come back as it was
		}
		return nil
	default:
		a.count(rowCorrect)
		m.Action = journal.Correct
		m.Former = without(was.tags, next.tags)
	}
	m.Key, m.Tags, m.Data, m.Truncated = next.key, next.tags, next.data, next.truncated
	a.add(m)
	if len(r.key) > 0 {
		s := a.states.one()
		*s = rowState{id: id, hashes: next.hashes, tags: next.tags}
		a.rows.set(key, s)
	}
	return nil
}

// forgetFilled drops what a later snapshot told about a row that the stream
// now tells about itself.
func (a *assembler) forgetFilled(key []byte) error {
	if _, changed := a.rows.changed.get(key); changed {
		return nil
	}
	raw, stored, err := a.journal.Row(key)
	if err != nil || !stored {
		return err
	}
	s, err := decodeRowState(raw)
	if err != nil {
		return fmt.Errorf("row %q: %w", key, err)
	}
	if s.waits() {
		a.rows.stop(key, s)
	}
	a.rows.set(key, nil)
	return nil
}

// without gives the tags of list that are not in other.
func without(list, other []string) (rest []string) {
	for _, tag := range list {
		if !slices.Contains(other, tag) {
			rest = append(rest, tag)
		}
	}
	return rest
}

// keyObject gives a row's key as messages tell it.
func (r *relation) keyObject(rowKey []byte) json.RawMessage {
	return json.RawMessage(rowKey[len(r.table.prefix):len(rowKey):len(rowKey)])
}

// rowKey makes the key under which a row is remembered.
func (r *relation) rowKey(row *pglogrepl.TupleData) ([]byte, error) {
	r.keyed = rowValues{relation: r, row: row}
	key := append(r.bytes.room(len(r.table.prefix)+64, bytesPiece), r.table.prefix...)
	key, _, err := r.keyed.appendObject(key, r.key, nil)
	return r.bytes.keep(key), err
}

// oldKey gives the key that a row had, and whether the whole old row was sent.
// Without an old row, or where it lacks the key, it had the present one.
func (r *relation) oldKey(kind uint8, old *pglogrepl.TupleData, present []byte) (key []byte, whole bool) {
	whole = kind == pglogrepl.UpdateMessageTupleTypeOld
	if old == nil || len(old.Columns) != len(r.columns) {
		return present, false
	}
	for _, i := range r.key {
		if old.Columns[i].DataType != pglogrepl.TupleDataTypeText {
			return present, whole
		}
	}
	key, err := r.rowKey(old)
	if err != nil {
		return present, whole
	}
	return key, whole
}
