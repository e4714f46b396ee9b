package cdc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// table is one configured table.
type table struct {
	index      int // in the configuration, for errors that name the key
	name       name
	cfg        Table
	defaultTag string
}

func newTable(index int, n name, cfg Table) *table {
	t := &table{index: index, name: n, cfg: cfg, defaultTag: cfg.DefaultTag}
	if t.defaultTag == "" {
		t.defaultTag = generalTag
	}
	return t
}

// mapped is a column that the configuration names, with the key that does.
type mapped struct{ key, column string }

// mapped lists the columns that the configuration names.
func (t *table) mapped() []mapped {
	key := func(format string, args ...any) string {
		return fmt.Sprintf("postgres.tables[%d].", t.index) + fmt.Sprintf(format, args...)
	}
	var list []mapped
	if c := t.cfg.Tags.Column; c != "" {
		list = append(list, mapped{key("tags.column"), c})
	}
	for i, c := range t.cfg.Tags.Columns {
		list = append(list, mapped{key("tags.columns[%d]", i), c})
	}
	for i, c := range t.cfg.Data {
		list = append(list, mapped{key("data[%d]", i), c})
	}
	if p := t.cfg.Published; p != nil {
		list = append(list, mapped{key("published.column"), p.Column})
	}
	return list
}

// column is one column as the stream presently describes it.
type column struct {
	label []byte // its name as a JSON object's key, colon included
	typ   pgjson.Type
}

// bpchar is the type character(n), whose text is padded with spaces.
const bpchar = 1042

// relation is a configured table as the stream presently describes it: where
// in a row the mapped columns stand.
type relation struct {
	table     *table
	columns   []column
	key       []int
	data      []int
	tags      []int
	published int    // -1 when every row is news
	oddValue  func() // told of each value that does not fit its type
}

// resolve finds the mapped columns by name. Without a primaryKey the
// replica identity is the key. The error is ErrMapping, one sentence.
func (t *table) resolve(m *pglogrepl.RelationMessage, primaryKey []string, types []pgjson.Type) (*relation, error) {
	at := make(map[string]int, len(m.Columns))
	r := &relation{table: t, published: -1}
	for i, c := range m.Columns {
		at[c.Name] = i
		r.columns = append(r.columns, column{label: label(c.Name), typ: types[i]})
		if len(t.cfg.Data) == 0 {
			r.data = append(r.data, i)
		}
		if isKey := slices.Contains(primaryKey, c.Name); isKey || len(primaryKey) == 0 && c.Flags&1 != 0 {
			r.key = append(r.key, i)
		}
	}
	for _, c := range t.mapped() {
		if _, ok := at[c.column]; !ok {
			return nil, fmt.Errorf("%w: column %s of %s, which %s names, is no longer in the replication stream;"+
				" add it to the table (and to the publication's column list) again, or take it out of the configuration, then start again",
				ErrMapping, c.column, t.name, c.key)
		}
	}
	for _, c := range t.cfg.Data {
		r.data = append(r.data, at[c])
	}
	if c := t.cfg.Tags.Column; c != "" {
		r.tags = append(r.tags, at[c])
	}
	for _, c := range t.cfg.Tags.Columns {
		r.tags = append(r.tags, at[c])
	}
	if p := t.cfg.Published; p != nil {
		r.published = at[p.Column]
	}
	return r, nil
}

// label makes a column's name the key of a JSON object, with the colon.
func label(column string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(column); err != nil { // a string always encodes
		panic(err)
	}
	return append(bytes.TrimSuffix(b.Bytes(), []byte("\n")), ':')
}

// isPublished tells whether an inserted row is news. A value matches as
// PostgreSQL prints it or as it stands in JSON, so that a boolean is both t
// and true.
func (r *relation) isPublished(row *pglogrepl.TupleData) (bool, error) {
	if r.published < 0 {
		return true, nil
	}
	c := row.Columns[r.published]
	if c.DataType != pglogrepl.TupleDataTypeText {
		return false, nil
	}
	want := r.table.cfg.Published.Equals
	text := c.Data
	if r.columns[r.published].typ.OID == bpchar {
		text = bytes.TrimRight(text, " ")
	}
	if string(text) == want {
		return true, nil
	}
	value, err := r.appendValue(nil, row, r.published)
	if err != nil {
		return false, err
	}
	return string(value) == want, nil
}

// message makes the message of an inserted row; ID and Time are left to the
// caller.
func (r *relation) message(row *pglogrepl.TupleData, skip func(tagFate)) (m journal.Message, err error) {
	m = journal.Message{Action: journal.Publish, Source: r.table.name.String()}
	if m.Tags, err = r.rowTags(row, skip); err != nil {
		return m, err
	}
	if m.Key, err = r.object(row, r.key); err != nil {
		return m, err
	}
	if m.Data, err = r.object(row, r.data); err != nil {
		return m, err
	}
	if len(m.Data) > maxDataBytes {
		m.Data, m.Truncated = m.Key, true
	}
	return m, nil
}

// rowTags reads the tags; the default tag when none is left.
func (r *relation) rowTags(row *pglogrepl.TupleData, skip func(tagFate)) ([]string, error) {
	list := tagList{skip: skip}
	split := r.table.cfg.Tags.Column != ""
	for _, i := range r.tags {
		if row.Columns[i].DataType == pglogrepl.TupleDataTypeNull {
			skip(tagNull)
			continue
		}
		value, err := r.appendValue(nil, row, i)
		if err != nil {
			return nil, err
		}
		list.addJSON(value, split)
	}
	if len(list.tags) == 0 {
		return []string{r.table.defaultTag}, nil
	}
	return list.tags, nil
}

// object makes the JSON object of some of a row's columns.
func (r *relation) object(row *pglogrepl.TupleData, columns []int) (json.RawMessage, error) {
	b := []byte{'{'}
	var err error
	for n, i := range columns {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, r.columns[i].label...)
		if b, err = r.appendValue(b, row, i); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendValue adds one column as JSON. The error is ErrMalformed: an inserted
// row has every value, as text.
func (r *relation) appendValue(dst []byte, row *pglogrepl.TupleData, i int) ([]byte, error) {
	c := row.Columns[i]
	switch c.DataType {
	case pglogrepl.TupleDataTypeNull:
		return append(dst, "null"...), nil
	case pglogrepl.TupleDataTypeText:
		out, err := pgjson.Append(dst, r.columns[i].typ, c.Data)
		if err != nil { // its type was changed behind us; one odd value must not hold up all news
			r.oddValue()
			return pgjson.Append(dst, pgjson.Type{Kind: pgjson.Text}, c.Data)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: column %s of %s has format %q", ErrMalformed, r.columns[i].label, r.table.name, c.DataType)
}
