package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxTagBytes bounds a tag, as the wire protocol does.
const maxTagBytes = 128

// leastHeartbeat keeps heartbeats, which are records in the server's log, few.
const leastHeartbeat = 100 * time.Millisecond

func (p *Postgres) load(c *checker) {
	if p.DSNFile == "" {
		return
	}
	if p.DSN != "" {
		c.fault("postgres.dsn_file", "and postgres.dsn are both set: keep one of them")
		return
	}
	if text, ok := c.readFile("postgres.dsn_file", p.DSNFile); ok {
		p.DSN = string(text)
	}
}

func (p *Postgres) check(c *checker) {
	key := "postgres.dsn"
	if p.DSNFile != "" {
		key = "postgres.dsn_file" // where the wrong text stands
		if p.DSN == "" {
			c.fault(key, "names an empty file: write into it how to reach the database, such as postgres://newswire@db/cms?sslmode=verify-full")
		}
	}
	c.required(key, p.DSN, "write how to reach the database, such as postgres://newswire@db/cms?sslmode=verify-full, or name the file that says so in postgres.dsn_file")
	if p.DSN != "" {
		if reason := dsnFault(p.DSN); reason != "" {
			c.fault(key, "is not a connection string: %s", reason)
		}
	}
	c.required("postgres.slot", p.Slot, "name the replication slot that newswire setup makes, such as newswire")
	if p.Slot != "" && !slotName(p.Slot) {
		c.fault("postgres.slot", "is %q, which PostgreSQL does not take: use 1 to 63 of a-z, 0-9 and _", p.Slot)
	}
	c.required("postgres.publication", p.Publication, "name the publication that newswire setup makes, such as newswire")
	if len(p.Publication) > 63 || strings.ContainsRune(p.Publication, 0) {
		c.fault("postgres.publication", "is longer than PostgreSQL's names: use at most 63 bytes")
	}
	if p.Heartbeat != 0 {
		c.atLeast("postgres.heartbeat", p.Heartbeat, leastHeartbeat, "10s, or 0s for none")
	}
	p.checkBackfill(c)
	if len(p.Tables) == 0 {
		c.fault("postgres.tables", "names no table: write at least one, such as [{name: public.articles, tags: {column: tags}, data: [id, title]}]")
	}
	names := make(map[string]bool)
	for i, t := range p.Tables {
		key := fmt.Sprintf("postgres.tables[%d]", i)
		if t.check(c, key); t.Name != "" && names[t.Name] {
			c.fault(key+".name", "is %q a second time: describe a table once", t.Name)
		}
		names[t.Name] = true
	}
}

func (p *Postgres) checkBackfill(c *checker) {
	if p.Backfill < 0 {
		c.fault("postgres.backfill", "is %s: write 24h, or 0s for none", p.Backfill)
	}
	timed := func(t Table) bool {
		if t.Time != "" {
			return true
		}
		for q := t.Published; q != nil; q = q.And {
			if q.Reached {
				return true
			}
		}
		return false
	}
	if p.Backfill > 0 && len(p.Tables) > 0 && !slices.ContainsFunc(p.Tables, timed) {
		c.fault("postgres.backfill", "needs a table that tells since when a row is news: name the column in postgres.tables[0].time, or use published {column: …, reached: true}")
	}
}

func (t Table) check(c *checker, key string) {
	c.required(key+".name", t.Name, "name the table, such as public.articles")
	if _, _, err := t.Split(); err != nil {
		c.fault(key+".name", "is %q: write schema and table, such as public.articles", t.Name)
	}
	t.checkTags(c, key+".tags")
	if t.DefaultTag == "*" || t.DefaultTag == "" || !validTag(t.DefaultTag) {
		c.fault(key+".default_tag", "is %q: write 1 to %d bytes without control characters, not *", t.DefaultTag, maxTagBytes)
	}
	if len(t.Data) == 0 || slices.Contains(t.Data, "") {
		c.fault(key+".data", "names no column: list those that readers get, such as [id, title]")
	}
	if column := repeated(t.Data); column != "" {
		c.fault(key+".data", "names %q twice: list a column once", column)
	}
	t.Published.check(c, key+".published")
}

func (p *Published) check(c *checker, key string) {
	if p == nil {
		return
	}
	c.required(key+".column", p.Column, "name the column that says which rows are news")
	switch {
	case p.Equals == "" && !p.Reached:
		c.fault(key, "does not say when a row is news: write {column: status, equals: published}, or {column: published_at, reached: true}")
	case p.Equals != "" && p.Reached:
		c.fault(key, "has both equals and reached: keep one, and write the other with its own column as %s.and", key)
	}
	if p.And == nil {
		return
	}
	if p.And.And != nil || p.And.Reached == p.Reached {
		c.fault(key+".and", "adds no condition of the other kind: write one with reached beside one with equals, and no third")
	}
	p.And.check(c, key+".and")
}

func (t Table) checkTags(c *checker, key string) {
	forms := 0
	for _, given := range []bool{t.Tags.Column != "", len(t.Tags.Columns) > 0, t.Tags.Query != ""} {
		if given {
			forms++
		}
	}
	switch {
	case forms == 0:
		c.fault(key, "does not say where the tags are: write {column: tags}, or {columns: [category, section]}, or {query: SELECT …}")
	case forms > 1:
		c.fault(key, "has more than one of column, columns and query: keep one of them")
	case slices.Contains(t.Tags.Columns, ""):
		c.fault(key+".columns", "has an empty name: name a column")
	}
	t.Tags.checkQuery(c, key, t.Name)
}

// checkQuery leaves the SQL itself to the server, which serve and doctor ask.
func (t Tags) checkQuery(c *checker, key, table string) {
	if t.Query != "" && !strings.Contains(t.Query, "$1") {
		c.fault(key+".query", "has no $1: compare something with $1, the row's key")
	}
	if t.Query == "" && len(t.Links) > 0 {
		c.fault(key+".links", "belong to a query: write {query: SELECT …, links: […]}")
	}
	names := make(map[string]bool)
	for i, l := range t.Links {
		at := fmt.Sprintf("%s.links[%d]", key, i)
		c.required(at+".table", l.Table, "name the table that ties rows to tags, such as public.articles_tags")
		switch _, _, err := (Table{Name: l.Table}).Split(); {
		case l.Table == "":
		case err != nil:
			c.fault(at+".table", "is %q: write schema and table, such as public.articles_tags", l.Table)
		case l.Table == table:
			c.fault(at+".table", "is %q, the table itself, whose changes count anyway: take it out", l.Table)
		case names[l.Table]:
			c.fault(at+".table", "is %q a second time: list a table once", l.Table)
		}
		names[l.Table] = true
		if len(l.Key) == 0 || slices.Contains(l.Key, "") {
			c.fault(at+".key", "names no column: list those that hold the row's key, such as [article_id]")
		}
	}
}

// CheckDSN tells whether pgx takes dsn. The error never quotes it.
func CheckDSN(dsn string) error {
	if reason := dsnFault(dsn); reason != "" {
		return errors.New("is not a connection string: " + reason)
	}
	return nil
}

// dsnFault says why pgx does not take dsn; empty when it does. The reason is
// one of ours: pgx's own text may quote a password that it could not make out.
func dsnFault(dsn string) string {
	_, err := pgx.ParseConfig(dsn)
	if err == nil {
		return ""
	}
	isURL := strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
	if isURL {
		if _, urlErr := url.Parse(dsn); urlErr != nil {
			return "the URL cannot be read; percent-encode special characters in the password"
		}
	}
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return "pgx does not take it"
	}
	for _, known := range dsnReasons {
		if strings.HasSuffix(known.text, "TLS") && strings.Contains(err.Error(), known.text) && errors.Unwrap(parse) != nil {
			return known.remedy + ": " + oneLine(errors.Unwrap(parse)) // names a certificate's file
		}
		if strings.Contains(err.Error(), known.text) {
			return known.remedy
		}
	}
	if isURL {
		return "a setting in the URL is not one that PostgreSQL knows"
	}
	return `write a URL, or pairs such as "host=db user=newswire dbname=cms" with quotes around what holds blanks`
}

// dsnReasons translates the constant parts of pgx's messages.
var dsnReasons = []struct{ text, remedy string }{
	{": invalid port", "the port is not a number from 1 to 65535; percent-encode special characters in the password"},
	{": could not match", "it has not one port for each host"},
	{": failed to read service", "the service is not in the service file"},
	{": invalid connect_timeout", "connect_timeout is not a number of seconds"},
	{": unknown target_session_attrs", "target_session_attrs is not one that PostgreSQL knows"},
	{": unknown channel_binding", "channel_binding is not disable, prefer or require"},
	{": failed to configure TLS", "the TLS settings cannot be used"},
}

// slotName tells the names that PostgreSQL takes for a slot.
func slotName(name string) bool {
	return len(name) <= 63 && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	}) < 0
}

// validTag tells what the wire protocol takes for a tag, * included.
func validTag(tag string) bool {
	return tag != "" && len(tag) <= maxTagBytes && utf8.ValidString(tag) && strings.IndexFunc(tag, unicode.IsControl) < 0
}

// repeated is the first item that a list holds twice.
func repeated(list []string) string {
	for i, item := range list {
		if slices.Contains(list[:i], item) {
			return item
		}
	}
	return ""
}
