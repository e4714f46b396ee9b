package cdc

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says which slot to follow and what its rows mean.
type Config struct {
	DSN         string        // every form that pgx takes; required
	Slot        string        // replication slot to read; required
	Publication string        // publication that the slot follows; required
	Heartbeat   time.Duration // between two heartbeat messages; 0 means none
	Backfill    time.Duration // at the first start, rows that became news within so long are told; 0 means none
	Tables      []Table       // at least one
}

// Table says how rows of one table become messages.
type Table struct {
	Name       string     // schema.table; without a schema it is public
	Tags       Tags       // where the tags stand
	DefaultTag string     // when a row has no usable tag; "" means general
	Data       []string   // columns that readers get; empty means all
	Published  *Published // which rows are news; nil means all
	Time       string     // column that tells since when a row is news; "" means that of Published that is Reached, if there is one
}

// Tags says where the tags stand: exactly one of Column, Columns and Query is set.
type Tags struct {
	Column  string   // an array, a jsonb array, or comma separated text
	Columns []string // each adds its value, or its elements
	Query   string   // a SELECT of the tags of one row; $1, $2 … are its key's columns, as in the table
	Links   []Link   // with Query: tables whose changes change what it gives
}

// Link is a table whose rows tie others to their tags.
type Link struct {
	Table string   // schema.table; without a schema it is public
	Key   []string // its columns that hold the other row's key, in the order of that key
}

// Published limits a table to rows that are news: those whose column holds a
// text, or a time that has come.
type Published struct {
	Column  string
	Equals  string     // the text; unless Reached is set
	Reached bool       // the column is a timestamp with or without zone, or a date
	And     *Published // of the other kind, which must hold too; nil means none
}

// kinds gives the conditions by what they compare; nil where there is none.
func (p *Published) kinds() (equals, reached *Published) {
	for ; p != nil; p = p.And {
		if p.Reached {
			reached = p
		} else {
			equals = p
		}
	}
	return equals, reached
}

// Limits that CONTRACT and PostgreSQL set.
const (
	maxTagBytes  = 128
	maxDataBytes = 1 << 20
	maxNameBytes = 63 // PostgreSQL's NAMEDATALEN - 1
	anyTag       = "*"
	generalTag   = "general"
)

// slotName is what PostgreSQL takes as a slot's name.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// compile checks the whole configuration and reads the tables' names. The
// error joins every fault, each beginning with the key it is about.
func (c Config) compile() ([]*table, error) {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("postgres.%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if c.DSN == "" {
		fault("dsn", "is required")
	} else if _, err := pgx.ParseConfig(c.DSN); err != nil {
		// pgx's own text may quote the connection string, password included.
		fault("dsn", "cannot be read: want postgres://user@host/database or key=value pairs")
	}
	if !slotName.MatchString(c.Slot) {
		fault("slot", "%q is no slot name: want 1 to 63 of a-z, 0-9 and _", c.Slot)
	}
	if c.Publication == "" || len(c.Publication) > maxNameBytes || strings.Contains(c.Publication, "\x00") {
		fault("publication", "want a name of 1 to %d bytes", maxNameBytes)
	}
	if c.Heartbeat < 0 {
		fault("heartbeat", "must not be negative; 0 turns it off")
	}
	if c.Backfill < 0 {
		fault("backfill", "must not be negative; 0 turns it off")
	}
	timed := func(t Table) bool { _, reached := t.Published.kinds(); return t.Time != "" || reached != nil }
	if c.Backfill > 0 && !slices.ContainsFunc(c.Tables, timed) {
		fault("backfill", "no table tells since when its rows are news; name the column in tables[0].time, or use published.reached")
	}
	if len(c.Tables) == 0 {
		fault("tables", "name at least one table")
	}
	seen := make(map[name]int)
	var tables []*table
	for i, t := range c.Tables {
		key := fmt.Sprintf("tables[%d]", i)
		n, err := parseName(t.Name)
		if err != nil {
			fault(key+".name", "%v", err)
		} else if first, twice := seen[n]; twice {
			fault(key+".name", "%s is mapped by tables[%d] already", n, first)
		} else {
			seen[n] = i
		}
		t.check(func(k, format string, args ...any) { fault(key+"."+k, format, args...) })
		for k, l := range t.Tags.Links {
			if linked, err := parseName(l.Table); err == nil && linked == n {
				fault(fmt.Sprintf("%s.tags.links[%d].table", key, k), "%s is the table itself, whose changes count anyway", n)
			}
		}
		tables = append(tables, newTable(i, n, t))
	}
	return tables, errors.Join(faults...)
}

// check reports what is wrong with a table other than its name.
func (t Table) check(fault func(key, format string, args ...any)) {
	set := 0
	for _, given := range []bool{t.Tags.Column != "", len(t.Tags.Columns) > 0, t.Tags.Query != ""} {
		if given {
			set++
		}
	}
	switch {
	case set != 1:
		fault("tags", "want exactly one of column, columns and query")
	case t.Tags.Query != "":
		t.Tags.checkQuery(fault)
	case len(t.Tags.Links) > 0:
		fault("tags.links", "belong to tags.query, which is not set")
	}
	for i, c := range t.Tags.Columns {
		if c == "" {
			fault(fmt.Sprintf("tags.columns[%d]", i), "is empty")
		}
	}
	if t.DefaultTag != "" {
		if why := tagFault(t.DefaultTag); why != "" {
			fault("default_tag", "%q is no tag: want 1 to %d bytes without control characters, and not *", t.DefaultTag, maxTagBytes)
		}
	}
	seen := make(map[string]bool)
	for i, c := range t.Data {
		switch key := fmt.Sprintf("data[%d]", i); {
		case c == "":
			fault(key, "is empty")
		case seen[c]:
			fault(key, "%s is named twice", c)
		}
		seen[c] = true
	}
	t.Published.check("published", fault)
}

func (p *Published) check(key string, fault func(key, format string, args ...any)) {
	if p == nil {
		return
	}
	if p.Column == "" {
		fault(key+".column", "is required")
	}
	if p.Reached && p.Equals != "" {
		fault(key, "has both equals and reached; keep one, and put the other with its own column into %s.and", key)
	}
	if p.And != nil && (p.And.And != nil || p.And.Reached == p.Reached) {
		fault(key+".and", "want one condition of the other kind: equals beside reached")
	}
	p.And.check(key+".and", fault)
}

// checkQuery reports what is wrong with the query and its links, as far as the
// server need not be asked.
func (t Tags) checkQuery(fault func(key, format string, args ...any)) {
	if _, err := parseQuery(t.Query); err != nil {
		fault("tags.query", "%v", err)
	}
	seen := make(map[name]bool)
	for i, l := range t.Links {
		key := fmt.Sprintf("tags.links[%d]", i)
		n, err := parseName(l.Table)
		switch {
		case err != nil:
			fault(key+".table", "%v", err)
		case seen[n]:
			fault(key+".table", "%s is listed twice", n)
		}
		seen[n] = true
		if len(l.Key) == 0 || slices.Contains(l.Key, "") {
			fault(key+".key", "name the columns of %s that hold the key of the row that the tags belong to", l.Table)
		}
	}
}

// name is a table's schema and own name.
type name struct{ schema, table string }

func (n name) String() string { return n.schema + "." + n.table }

// quoted is the name as SQL takes it.
func (n name) quoted() string { return pgx.Identifier{n.schema, n.table}.Sanitize() }

// parseName reads schema.table. Either part may stand in double quotes, as in
// SQL, when it has a dot itself; upper-case letters need none.
func parseName(s string) (name, error) {
	var parts []string
	rest := s
	for {
		part, after, err := cutPart(rest)
		if err != nil || part == "" || len(part) > maxNameBytes {
			return name{}, fmt.Errorf("%q is no table name: want schema.table", s)
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		rest = after[1:]
	}
	switch len(parts) {
	case 1:
		return name{"public", parts[0]}, nil
	case 2:
		return name{parts[0], parts[1]}, nil
	}
	return name{}, fmt.Errorf("%q is no table name: want schema.table", s)
}

var errName = errors.New("malformed name")

// cutPart takes the first part off a dotted name; after begins with the dot.
func cutPart(s string) (part, after string, err error) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexByte(s, '.')
		if i < 0 {
			return s, "", nil
		}
		return s[:i], s[i:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case i+1 == len(s) || s[i+1] == '.':
			return b.String(), s[i+1:], nil
		default:
			return "", "", errName
		}
	}
	return "", "", errName
}
