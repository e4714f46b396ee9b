package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"

	"newswire/fanout/journal"
)

// memory is what is known of a row from before a change of it.
type memory struct {
	state *rowState
	data  func() (json.RawMessage, error) // of its last message, or of the one that waits; nil when nothing is known
}

// remembered tells what is known of a row. With leaving it stays true when the
// row is no longer known under this key: what waits is taken away with it.
func (a *assembler) remembered(key []byte, leaving bool) (m memory, err error) {
	if m.state, err = a.rows.get(key, a.open.LSN); err != nil || m.state == nil {
		return m, err
	}
	s := m.state
	switch {
	case s.waits() && leaving:
		data, err := a.rows.lastKept(key, s)
		m.data = func() (json.RawMessage, error) { return data, nil }
		return m, err
	case s.waits():
		m.data = func() (json.RawMessage, error) { return a.rows.lastKept(key, s) }
	case !s.id.IsZero():
		m.data = func() (json.RawMessage, error) { return a.lastData(s.id) }
	}
	return m, nil
}

// lastData gives the data of an earlier message; nil when it is no longer
// kept, or was not whole.
func (a *assembler) lastData(id journal.ID) (json.RawMessage, error) {
	at, open := slices.BinarySearchFunc(a.open.Messages, id, func(m journal.Message, id journal.ID) int { return m.ID.Compare(id) })
	if a.awaiting.answered { // not in order until the part is complete
		at = slices.IndexFunc(a.open.Messages, func(m journal.Message) bool { return m.ID == id })
		open = at >= 0
	}
	if open && !a.open.Messages[at].Truncated {
		return a.open.Messages[at].Data, nil
	}
	m, kept, err := a.journal.MessageByID(id)
	if err != nil || !kept || m.Truncated {
		return nil, err
	}
	return m.Data, nil
}

// readAgain reads one column of a row from the database.
func (a *assembler) readAgain(ctx context.Context, r *relation, row *pglogrepl.TupleData) func(int) ([]byte, bool, error) {
	xid := a.xid
	return func(i int) ([]byte, bool, error) {
		var key []keyValue
		for _, k := range r.key {
			key = append(key, keyValue{r.columns[k].name, string(row.Columns[k].Data)})
		}
		return a.shapes.reread(ctx, xid, r.table.name, key, r.columns[i].name)
	}
}

// unreadableQuiet is the least time between two lines of the log about rows
// whose change made no message.
const unreadableQuiet = time.Minute

// unreadable counts changes that made no message because a value is not to be
// had. The assembler's goroutine owns it.
type unreadable struct {
	logged time.Time // zero: never
	since  int       // how many others there were since
}

// leaveOut counts a change of which a value is not to be had, and says so.
func (a *assembler) leaveOut(ctx context.Context, c *change, why error) {
	a.count(rowUnreadable)
	if a.log == nil {
		return
	}
	if !a.unreadable.logged.IsZero() && time.Since(a.unreadable.logged) < unreadableQuiet {
		a.unreadable.since++
		return
	}
	then := "readers keep what they have; to let the engine read what the stream leaves out, run `newswire setup --apply` without --minimal, or give the table REPLICA IDENTITY FULL"
	if errors.Is(why, errRowGone) {
		then = "a later change must have deleted the row, or changed its key, and tells so itself"
	}
	a.log.WarnContext(ctx, "a changed row made no message", "table", c.relation.table.name.String(), "key", string(c.relation.keyObject(c.key)),
		"err", why, "then", then, "others_since_last_line", a.unreadable.since)
	a.unreadable = unreadable{logged: time.Now()}
}
