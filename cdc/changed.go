package cdc

import (
	"iter"

	"newswire/fanout/journal"
)

// changedRows are the rows that a transaction has changed, in the order in which
// it did so first. The zero value is ready.
type changedRows struct {
	list   []changedRow
	at     map[string]int // by row key; index in list
	likely int            // how many there will be
}

// changedRow is one of them, as it stands now.
type changedRow struct {
	key   []byte
	state *rowState // nil: no longer published, and does not wait
}

// fewRows is how many leave the memory they took to those of the next
// transaction.
const fewRows = 64

func (c *changedRows) len() int { return len(c.list) }

func (c *changedRows) get(key []byte) (s *rowState, ok bool) {
	if len(c.list) == 0 {
		return nil, false
	}
	i, ok := c.at[string(key)]
	if !ok {
		return nil, false
	}
	return c.list[i].state, true
}

func (c *changedRows) set(key []byte, s *rowState) {
	if i, ok := c.at[string(key)]; ok {
		c.list[i].state = s
		return
	}
	if c.at == nil {
		c.at = make(map[string]int, c.likely)
		c.list = make([]changedRow, 0, c.likely)
	}
	c.at[string(key)] = len(c.list)
	c.list = append(c.list, changedRow{key, s})
}

func (c *changedRows) all() iter.Seq2[string, *rowState] {
	return func(yield func(string, *rowState) bool) {
		for _, r := range c.list {
			if !yield(string(r.key), r.state) {
				return
			}
		}
	}
}

// take gives them as the journal remembers them, with room for more, and begins
// anew.
func (c *changedRows) take(more int) []journal.Row {
	size := 0
	for _, r := range c.list {
		if r.state != nil {
			size += r.state.size()
		}
	}
	rows, states := make([]journal.Row, 0, len(c.list)+more), make([]byte, 0, size)
	for _, r := range c.list {
		row := journal.Row{Key: r.key}
		if r.state != nil {
			begin := len(states)
			states = r.state.appendTo(states)
			row.State = states[begin:len(states):len(states)]
		}
		rows = append(rows, row)
	}
	if len(c.list) <= fewRows && c.likely == 0 {
		clear(c.list)
		clear(c.at)
		c.list = c.list[:0]
		return rows
	}
	*c = changedRows{} // a large map takes as long to clear for one row as for many
	if len(rows) > fewRows {
		c.likely = len(rows)
	}
	return rows
}
