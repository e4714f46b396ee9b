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

// target finds the table of a row change. r is nil when the change makes
// nothing; the ordinal is its own either way.
func (a *assembler) target(id uint32, tuple *pglogrepl.TupleData) (r *relation, ordinal uint32, err error) {
	s, ordinal, err := a.change(id)
	switch {
	case err != nil || !s.mapped() || a.repeat:
		return nil, ordinal, err
	case s.misfit != nil:
		return nil, ordinal, s.misfit
	case tuple == nil || len(tuple.Columns) != len(s.relation.columns):
		return nil, ordinal, fmt.Errorf("row of %s without its %d columns: %w", s.relation.table.name, len(s.relation.columns), ErrMalformed)
	}
	return s.relation, ordinal, nil
}

func (a *assembler) insert(m *pglogrepl.InsertMessage) error {
	r, ordinal, err := a.target(m.RelationID, m.Tuple)
	if err != nil || r == nil {
		return err
	}
	key, err := r.rowKey(m.Tuple)
	if err != nil {
		return err
	}
	v := &rowValues{relation: r, row: m.Tuple}
	if d, again := a.deleted[string(key)]; again {
		v.was = d.was
		if d.message >= 0 {
			a.open.Messages[d.message].Action = "" // taken back
		}
		delete(a.deleted, string(key))
	}
	next, err := v.article(a.skippedTag)
	if err != nil {
		return err
	}
	return a.decide(r, key, v.was, next, ordinal)
}

func (a *assembler) update(ctx context.Context, m *pglogrepl.UpdateMessage) error {
	r, ordinal, err := a.target(m.RelationID, m.NewTuple)
	if err != nil || r == nil {
		return err
	}
	if len(r.key) == 0 {
		a.count(rowUnkeyed)
		return nil
	}
	key, err := r.rowKey(m.NewTuple)
	if err != nil {
		return err
	}
	before, whole := r.oldKey(m.OldTupleType, m.OldTuple, key)
	if !bytes.Equal(before, key) {
		if err := a.leave(r, before, whole, m.OldTuple, ordinal); err != nil {
			return err
		}
		ordinal = a.ordinal // a changed key is two changes
		a.ordinal++
	}
	was, err := a.rows.get(key, a.open.LSN)
	if err != nil {
		return err
	}
	v := &rowValues{relation: r, row: m.NewTuple, was: was, reread: readAgain(ctx, a.shapes, r, m.NewTuple)}
	if whole {
		v.old = m.OldTuple
		if was == nil && bytes.Equal(before, key) {
			if was, err = a.told(r, m.OldTuple); err != nil {
				return err
			}
			v.was = was
		}
	}
	if was != nil && !was.id.IsZero() {
		v.last = func() (json.RawMessage, error) { return a.lastData(was.id) }
	}
	next, err := v.article(a.skippedTag)
	if errors.Is(err, errRowGone) || errors.Is(err, errNoValue) {
		a.count(rowUnreadable) // gone: its deletion comes behind
		return nil
	}
	if err != nil {
		return err
	}
	return a.decide(r, key, was, next, ordinal)
}

// told makes the state that an old row in the stream tells, of a row that
// nothing was remembered of.
func (a *assembler) told(r *relation, old *pglogrepl.TupleData) (*rowState, error) {
	v := &rowValues{relation: r, row: old, reread: func(int) ([]byte, bool, error) { return nil, false, errNoValue }}
	was, err := v.article(func(tagFate) {})
	if err != nil || was == nil {
		return nil, err
	}
	return &rowState{hashes: was.hashes, tags: was.tags}, nil
}

func (a *assembler) delete(m *pglogrepl.DeleteMessage) error {
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
	return a.leave(r, key, whole, m.OldTuple, ordinal)
}

// leave takes a row away that has been deleted, or has another key now.
func (a *assembler) leave(r *relation, key []byte, whole bool, old *pglogrepl.TupleData, ordinal uint32) error {
	was, err := a.rows.get(key, a.open.LSN)
	if err == nil && was == nil && whole {
		was, err = a.told(r, old)
	}
	if err != nil {
		return err
	}
	d := deletion{was: was, message: -1}
	if was != nil {
		d.message = len(a.open.Messages)
	}
	if err := a.decide(r, key, was, nil, ordinal); err != nil {
		return err
	}
	if a.deleted == nil {
		a.deleted = make(map[string]deletion)
	}
	a.deleted[string(key)] = d
	return nil
}

func (a *assembler) truncate(ctx context.Context, m *pglogrepl.TruncateMessage) error {
	for _, id := range m.RelationIDs {
		s, ordinal, err := a.change(id)
		if err != nil {
			return err
		}
		if !s.mapped() || a.repeat {
			continue
		}
		if s.misfit != nil {
			return s.misfit
		}
		err = a.rows.of(s.relation.table.name, a.open.LSN, func(key []byte, was *rowState) error {
			if err := a.decide(s.relation, key, was, nil, ordinal); err != nil {
				return err
			}
			ordinal = a.ordinal // each retract has an ordinal of its own
			a.ordinal++
			return a.spillAfter(ctx, 1, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// decide makes the message, if any, that leads from what the row was to what it
// is, and remembers the latter. nil is: not published.
func (a *assembler) decide(r *relation, key []byte, was *rowState, next *article, ordinal uint32) error {
	id := journal.ID{Epoch: a.epoch, LSN: a.open.LSN, Ordinal: ordinal}
	m := journal.Message{ID: id, Source: r.table.name.String(), Time: a.open.Time}
	switch {
	case next == nil && was == nil:
		a.count(rowUnpublished)
		return a.forgetFilled(key)
	case next == nil:
		a.count(rowRetract)
		m.Action, m.Tags = journal.Retract, was.tags
		m.Key = json.RawMessage(key[len(rowPrefix(r.table.name)):])
		m.Data = m.Key
		a.rows.set(key, nil)
		a.add(m)
		return nil
	case was == nil:
		a.count(rowPublish)
		m.Action = journal.Publish
	case next.same:
		a.count(rowUnchanged)
		if s, changed := a.rows.changed[string(key)]; changed && s == nil {
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
		a.rows.set(key, &rowState{id: id, hashes: next.hashes, tags: next.tags})
	}
	return nil
}

// forgetFilled drops what a later snapshot told about a row that the stream
// now tells about itself.
func (a *assembler) forgetFilled(key []byte) error {
	if _, changed := a.rows.changed[string(key)]; changed {
		return nil
	}
	_, stored, err := a.journal.Row(key)
	if err == nil && stored {
		a.rows.set(key, nil)
	}
	return err
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

// rowKey makes the key under which a row is remembered.
func (r *relation) rowKey(row *pglogrepl.TupleData) ([]byte, error) {
	key, _, _, err := (&rowValues{relation: r, row: row}).object(r.key)
	return rowKey(r.table.name, key), err
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

// lastData gives the data of an earlier message; nil when it is no longer
// kept, or was not whole.
func (a *assembler) lastData(id journal.ID) (json.RawMessage, error) {
	at, open := slices.BinarySearchFunc(a.open.Messages, id, func(m journal.Message, id journal.ID) int { return m.ID.Compare(id) })
	if open && !a.open.Messages[at].Truncated {
		return a.open.Messages[at].Data, nil
	}
	m, kept, err := a.journal.MessageByID(id)
	if err != nil || !kept || m.Truncated {
		return nil, err
	}
	return m.Data, nil
}
