package cdc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"

	"newswire/cdc/pgjson"
)

// table is one configured table.
type table struct {
	index      int // in the configuration, for errors that name the key
	name       name
	source     string // its name, as messages tell it
	prefix     []byte // of the keys of its rows
	cfg        Table
	defaultTag string
	query      *tagQuery  // that gives the tags; nil when columns do
	links      []link     // of the query
	equals     *Published // of cfg.Published; nil for none
	reached    *Published
}

// link is a configured link table.
type link struct {
	name name
	key  []string // its columns with the key of the tagged row
}

// newTable takes a checked configuration; what is wrong with it was told.
func newTable(index int, n name, cfg Table) *table {
	t := &table{index: index, name: n, source: n.String(), prefix: rowPrefix(n), cfg: cfg, defaultTag: cfg.DefaultTag}
	if cfg.Tags.Query != "" {
		t.query, _ = parseQuery(cfg.Tags.Query)
		for _, l := range cfg.Tags.Links {
			linked, _ := parseName(l.Table)
			t.links = append(t.links, link{linked, l.Key})
		}
	}
	if t.defaultTag == "" {
		t.defaultTag = generalTag
	}
	t.equals, t.reached = cfg.Published.kinds()
	return t
}

// mapped is a column that the configuration names, with the key that does.
type mapped struct {
	key, column string
	time        bool // it must hold times
}

// mapped lists the columns that the configuration names.
func (t *table) mapped() []mapped {
	key := func(format string, args ...any) string {
		return fmt.Sprintf("postgres.tables[%d].", t.index) + fmt.Sprintf(format, args...)
	}
	var list []mapped
	if c := t.cfg.Tags.Column; c != "" {
		list = append(list, mapped{key: key("tags.column"), column: c})
	}
	for i, c := range t.cfg.Tags.Columns {
		list = append(list, mapped{key: key("tags.columns[%d]", i), column: c})
	}
	for i, c := range t.cfg.Data {
		list = append(list, mapped{key: key("data[%d]", i), column: c})
	}
	for p, at := t.cfg.Published, "published"; p != nil; p, at = p.And, at+".and" {
		list = append(list, mapped{key("%s.column", at), p.Column, p.Reached})
	}
	if t.cfg.Time != "" {
		list = append(list, mapped{key("time"), t.cfg.Time, true})
	}
	return list
}

// times lists the columns among them that must hold times.
func (t *table) times() (list []mapped) {
	for _, m := range t.mapped() {
		if m.time {
			list = append(list, m)
		}
	}
	return list
}

// column is one column as the stream presently describes it.
type column struct {
	name  string
	label []byte // its name as a JSON object's key, colon included
	typ   pgjson.Type
}

// identityFull is the replica identity that marks every column.
const identityFull = 'f'

// isTime tells the types whose text parseInstant reads.
func isTime(t pgjson.Type) bool {
	const date = 1082
	return t.Kind == pgjson.Timestamp || t.Kind == pgjson.TimestampTZ || t.OID == date
}

// bpchar is the type character(n), whose text is padded with spaces.
const bpchar = 1042

// relation is a configured table as the stream presently describes it: where
// in a row the mapped columns stand.
type relation struct {
	table    *table
	columns  []column
	key      []int
	data     []int
	tags     []int
	equals   int    // must hold a text for the row to be news; -1: none must
	reached  int    // must hold a time that has come; -1: none must
	since    int    // tells since when the row is news; -1: none does
	filter   string // the publication's, where it was read from the catalogs; "" without one
	oddValue func() // told of each value that does not fit its type
	known    tagCache
	lists    tagLists

	bytes  slab[byte] // for keys and data of its rows
	hashes slab[uint64]
	keyed  rowValues // for the row whose key is read
}

// goOn says how intake goes on behind rows that do not fit the mapping. The log
// has them as they were saved: what is done to the table now mends only later ones.
const goOn = " rows that were saved so stay so, whatever becomes of the table now: start again with a configuration that fits them" +
	" (without the column, or with the name that it has there) and put the column back once they are read, or run `newswire resync`"

// mendTable says how what the catalogs tell is made to fit the mapping.
const mendTable = " mend the table (and the publication's column list), or the configuration, then start again"

// resolve finds the mapped columns by name. Without a primaryKey the replica
// identity is the key; the whole row is none, since any change would be another
// row's. The error is ErrMapping, a sentence that lacks its remedy.
func (t *table) resolve(m *pglogrepl.RelationMessage, primaryKey []string, types []pgjson.Type) (*relation, error) {
	at := make(map[string]int, len(m.Columns))
	r := &relation{table: t, equals: -1, reached: -1, since: -1}
	for i, c := range m.Columns {
		at[c.Name] = i
		r.columns = append(r.columns, column{name: c.Name, label: label(c.Name), typ: types[i]})
		if len(t.cfg.Data) == 0 {
			r.data = append(r.data, i)
		}
		if isKey := slices.Contains(primaryKey, c.Name); isKey || len(primaryKey) == 0 && c.Flags&1 != 0 && m.ReplicaIdentity != identityFull {
			r.key = append(r.key, i)
		}
	}
	for _, c := range t.mapped() {
		if _, ok := at[c.column]; !ok {
			return nil, fmt.Errorf("%w: column %s of %s, which %s names, is no longer in the replication stream",
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
	if t.equals != nil {
		r.equals = at[t.equals.Column]
	}
	if t.reached != nil {
		r.reached = at[t.reached.Column]
		if !isTime(types[r.reached]) {
			return nil, fmt.Errorf("%w: column %s of %s, whose time shall be reached, is no timestamp and no date any more", ErrMapping, t.reached.Column, t.name)
		}
	}
	if r.since = r.reached; t.cfg.Time != "" {
		r.since = at[t.cfg.Time]
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
