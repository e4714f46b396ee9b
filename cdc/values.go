package cdc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/jackc/pglogrepl"

	"newswire/cdc/pgjson"
)

// errRowGone reports a row that was deleted before a value of it that the
// stream left out could be read.
var errRowGone = errors.New("the row does not exist any more")

// errNoValue reports a value that nothing tells: the stream left it out and the
// role may not read it.
var errNoValue = errors.New("the value is not to be had")

// rowValues are one row's values as a change tells them. Unchanged large ones
// the stream leaves out: they stand in the old row where the server sends it,
// else in the last message about the row, else in the database.
type rowValues struct {
	relation *relation
	row      *pglogrepl.TupleData
	key      json.RawMessage                 // nil where nobody has made it yet
	old      *pglogrepl.TupleData            // nil unless the whole old row was sent
	at       instant                         // when the change was committed
	was      *rowState                       // what readers know under this key; nil when the row neither was published nor waited
	before   *rowState                       // of the row itself, which may have had another key; nil likewise
	answer   *answer                         // to the query for the tags; nil when it was not asked
	last     func() (json.RawMessage, error) // data of the last message, or of the one that waits; nil when it is not whole
	reread   func(column int) (text []byte, null bool, err error)

	lastData map[string]json.RawMessage // decoded from last when first needed
}

// append adds one column as JSON. The error is ErrMalformed, errRowGone,
// errNoValue, or the database's.
func (v *rowValues) append(dst []byte, i int) ([]byte, error) {
	c := v.row.Columns[i]
	if c.DataType == pglogrepl.TupleDataTypeToast && v.old != nil {
		c = v.old.Columns[i]
	}
	switch c.DataType {
	case pglogrepl.TupleDataTypeNull:
		return append(dst, "null"...), nil
	case pglogrepl.TupleDataTypeText:
		out, err := pgjson.Append(dst, v.relation.columns[i].typ, c.Data)
		if err != nil { // its type was changed behind us; one odd value must not hold up all news
			v.relation.oddValue()
			return pgjson.Append(dst, pgjson.Type{Kind: pgjson.Text}, c.Data)
		}
		return out, nil
	case pglogrepl.TupleDataTypeToast:
		if v.reread == nil {
			break // an inserted row has every value
		}
		value, err := v.leftOut(i)
		return append(dst, value...), err
	}
	return nil, fmt.Errorf("%w: column %s of %s has format %q", ErrMalformed, v.relation.columns[i].label, v.relation.table.name, c.DataType)
}

// leftOut finds a value that the stream left out because it did not change.
func (v *rowValues) leftOut(i int) ([]byte, error) {
	if v.last != nil && v.lastData == nil {
		data, err := v.last()
		if err != nil {
			return nil, err
		}
		v.lastData = make(map[string]json.RawMessage)
		if len(data) > 0 {
			if err := json.Unmarshal(data, &v.lastData); err != nil {
				return nil, fmt.Errorf("read last data of %s: %w", v.relation.table.name, err)
			}
		}
	}
	if value, ok := v.lastData[v.relation.columns[i].name]; ok {
		return value, nil
	}
	text, null, err := v.reread(i)
	switch {
	case err != nil:
		return nil, err
	case null:
		return []byte("null"), nil
	}
	return pgjson.Append(nil, v.relation.columns[i].typ, text)
}

// leavesOut tells whether the stream left a column out and no old row has it.
func (v *rowValues) leavesOut(i int) bool {
	return v.row.Columns[i].DataType == pglogrepl.TupleDataTypeToast && v.old == nil
}

// due tells from when on the row is news: never, when it is not.
func (v *rowValues) due() (instant, error) {
	if marked, err := v.marked(); err != nil || !marked {
		return never, err
	}
	i := v.relation.reached
	if i < 0 {
		return always, nil
	}
	c := v.row.Columns[i]
	if c.DataType == pglogrepl.TupleDataTypeNull {
		return never, nil
	}
	due, ok := parseInstant(c.Data)
	if !ok { // its type was changed behind us
		v.relation.oddValue()
		return never, nil
	}
	return due, nil
}

// marked tells whether the row holds the text that makes it news. A value
// matches as PostgreSQL prints it or as it stands in JSON, so that a boolean is
// both t and true.
func (v *rowValues) marked() (bool, error) {
	i := v.relation.equals
	if i < 0 {
		return true, nil
	}
	if v.leavesOut(i) && v.before != nil {
		return true, nil // it was, and the column did not change
	}
	c := v.row.Columns[i]
	want := v.relation.table.equals.Equals
	if c.DataType == pglogrepl.TupleDataTypeNull {
		return false, nil
	}
	text := c.Data
	if v.relation.columns[i].typ.OID == bpchar {
		text = bytes.TrimRight(text, " ")
	}
	if c.DataType == pglogrepl.TupleDataTypeText && string(text) == want {
		return true, nil
	}
	value, err := v.append(nil, i)
	if err != nil {
		return false, err
	}
	if c.DataType == pglogrepl.TupleDataTypeToast {
		var s string
		return json.Unmarshal(value, &s) == nil && s == want || string(value) == want, nil
	}
	return string(value) == want, nil
}

// tags reads the tags; the default tag when none is left. A query answers only
// for a row that is still there.
func (v *rowValues) tags(skip func(tagFate)) ([]string, error) {
	r := v.relation
	list := tagList{skip: skip, known: &r.known}
	if r.table.query != nil {
		if v.answer == nil {
			return nil, errRowGone
		}
		if v.answer.tags != nil {
			list.addJSON(v.answer.tags, false)
		}
	}
	split := r.table.cfg.Tags.Column != ""
	var whole []byte // the one column that tells them
	for _, i := range r.tags {
		if split && v.before != nil && v.leavesOut(i) {
			return v.before.tags, nil // the one tags column did not change
		}
		if c := v.row.Columns[i]; split && c.DataType == pglogrepl.TupleDataTypeText {
			if known, ok := r.lists.get(c.Data); ok {
				return known, nil
			}
			whole = c.Data
		}
		if v.row.Columns[i].DataType == pglogrepl.TupleDataTypeNull {
			list.leave(tagNull)
			continue
		}
		value, err := v.append(r.known.scratch[:0], i)
		if err != nil {
			return nil, err
		}
		list.addJSON(value, split)
		r.known.scratch = value
	}
	if len(list.tags) == 0 {
		return []string{r.table.defaultTag}, nil
	}
	if whole != nil && !list.skipped {
		r.lists.put(whole, list.tags)
	}
	return list.tags, nil
}

// Pieces of memory that rows share: of some dozen.
const (
	bytesPiece  = 16 << 10
	hashesPiece = 512
)

// object makes the JSON object of some columns and tells each value's hash.
// whole is false when one is left out because its value is not to be had.
func (v *rowValues) object(columns []int) (object json.RawMessage, hashes []uint64, whole bool, err error) {
	size := 2
	for _, i := range columns {
		size += len(v.relation.columns[i].label) + len(v.row.Columns[i].Data) + 8 // room for quotes, comma and some escapes
	}
	r := v.relation
	hashes = r.hashes.room(len(columns), hashesPiece)
	object, whole, err = v.appendObject(r.bytes.room(size, bytesPiece), columns, &hashes)
	return r.bytes.keep(object), r.hashes.keep(hashes), whole, err
}

// appendObject is object that adds to dst, and to hashes where they are wanted.
func (v *rowValues) appendObject(dst []byte, columns []int, hashes *[]uint64) (object []byte, whole bool, err error) {
	b, whole := append(dst, '{'), true
	start := len(b)
	for _, i := range columns {
		before := len(b)
		if before > start {
			b = append(b, ',')
		}
		b = append(b, v.relation.columns[i].label...)
		value := len(b)
		with, err := v.append(b, i)
		if errors.Is(err, errNoValue) {
			b, whole = b[:before], false
			if hashes != nil {
				*hashes = append(*hashes, 0)
			}
			continue
		}
		if err != nil {
			return nil, false, err
		}
		b = with
		if hashes != nil {
			*hashes = append(*hashes, xxhash.Sum64(b[value:]))
		}
	}
	return append(b, '}'), whole, nil
}

// article is a published row as a message tells it, or will tell it.
type article struct {
	due       instant // the time to come from which on it is news; 0: it is
	same      bool    // as the last message told it: the rest but tags is empty
	key       json.RawMessage
	tags      []string
	data      json.RawMessage
	hashes    []uint64 // of the data's columns
	truncated bool
}

// waits tells an article whose time is still to come. Nil does not.
func (a *article) waits() bool { return a != nil && a.due != 0 }

// article reads the row; nil when it is not news and will not be.
func (v *rowValues) article(skip func(tagFate)) (a *article, err error) {
	due, err := v.due()
	if err != nil || due == never {
		return nil, err
	}
	a = new(article)
	if due > v.at {
		a.due = due
	}
	if a.tags, err = v.tags(skip); err != nil {
		return nil, err
	}
	if !a.waits() && !v.was.waits() {
		if a.same, err = v.same(a.tags); err != nil || a.same {
			return a, err
		}
	}
	if a.key = v.key; a.key == nil {
		if a.key, _, err = v.appendObject(nil, v.relation.key, nil); err != nil {
			return nil, err
		}
	}
	data, hashes, whole, err := v.object(v.relation.data)
	if err != nil {
		return nil, err
	}
	a.data, a.hashes, a.truncated = data, hashes, !whole
	if len(a.data) > maxDataBytes {
		a.data, a.truncated = a.key, true
	}
	return a, nil
}

// same tells whether readers would see nothing new. What the stream left out
// did not change, so it need not be known for that.
func (v *rowValues) same(tags []string) (bool, error) {
	columns := v.relation.data
	if v.was == nil || len(v.was.hashes) != len(columns) || !slices.Equal(v.was.tags, tags) {
		return false, nil
	}
	var value []byte
	for n, i := range columns {
		if v.leavesOut(i) {
			continue
		}
		var err error
		if value, err = v.append(value[:0], i); err != nil {
			return false, err
		}
		if xxhash.Sum64(value) != v.was.hashes[n] {
			return false, nil
		}
	}
	return true, nil
}
