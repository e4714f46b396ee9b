package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// question asks a table's query for the tags of rows.
type question struct {
	xid      uint32 // the transaction that the answer must have seen
	table    *table
	relation *relation  // tells the key's columns
	columns  []string   // to be read besides, as the relation has them; nil: only tags
	keys     [][]string // of the rows, as PostgreSQL prints their values
}

// answer is what was found of a row that is there.
type answer struct {
	tags json.RawMessage      // an array as the query gives them; nil: none
	row  *pglogrepl.TupleData // the columns that were asked for
}

// Bounds of asking. A transaction is seen at once, except where its commit waits
// for a synchronous standby, and then as late as that answers.
const (
	askTimeout  = time.Minute // for one statement; one that takes longer is tried again
	unseenFirst = 2 * time.Millisecond
	unseenMost  = 500 * time.Millisecond
	unseenQuiet = 5 * time.Second // after which the log says so
)

// ask puts one statement about all the keys, once the transaction is seen.
// answers has one for each key; nil where the row does not exist any more.
func (c *catalog) ask(ctx context.Context, q question) (answers []*answer, err error) {
	for again := false; ; again = true {
		idle := c.conn != nil && !again // it may have been cut since it was last used
		answers, err = c.askOnce(ctx, q)
		if err != nil && c.conn == nil && idle && ctx.Err() == nil && pgCode(err) == "" {
			continue
		}
		return answers, err
	}
}

func (c *catalog) askOnce(ctx context.Context, q question) ([]*answer, error) {
	if err := c.dial(ctx); err != nil {
		return nil, err
	}
	if err := c.awaitSeen(ctx, q.xid); err != nil {
		return nil, err
	}
	statement, err := c.statement(ctx, q)
	if err != nil {
		return nil, err
	}
	// Compiled, what takes a millisecond would take fifty.
	results, err := c.exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL jit = off; "+localSettings()+statement+"; COMMIT")
	if err != nil {
		return nil, q.table.queryFault(err)
	}
	return q.read(results)
}

// dial makes sure that there is a connection, but not that it lives.
func (c *catalog) dial(ctx context.Context) error {
	if c.conn != nil && !c.conn.IsClosed() {
		return nil
	}
	c.close()
	conn, err := connect(ctx, c.cfg.DSN)
	c.conn = conn
	return err
}

// exec runs statements; after an error their transaction is broken, so the
// connection is given up.
func (c *catalog) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	within, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	results, err := c.conn.PgConn().Exec(within, sql).ReadAll()
	if err != nil {
		c.close()
		return nil, err
	}
	return results, nil
}

// awaitSeen returns once other sessions see what the transaction has written.
// The stream carries a commit when it is in the log; it can be seen when the
// synchronous standbys have answered, too. A transaction that ended long ago,
// as in a repeat, is seen.
func (c *catalog) awaitSeen(ctx context.Context, xid uint32) error {
	if c.seen == xid {
		return nil
	}
	query := seenQuery(strconv.FormatUint(uint64(xid), 10), currentXmax)
	began, told := time.Now(), false
	for wait := unseenFirst; ; wait = min(2*wait, unseenMost) {
		results, err := c.exec(ctx, query)
		if err != nil {
			return fmt.Errorf("look whether transaction %d is visible: %w", xid, err)
		}
		if len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "t" {
			c.seen = xid
			return nil
		}
		if !told && c.log != nil && time.Since(began) > unseenQuiet {
			told = true
			c.log.WarnContext(ctx, "a committed transaction is not visible yet, so what is read of its rows waits: does a synchronous standby not answer?", "xid", xid)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// currentXmax is the number, without wraparound, of the first transaction that
// the statement's snapshot cannot see.
const currentXmax = "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint"

// seenQuery asks whether a transaction has ended and every snapshot taken from
// now on sees it. The stream tells its number modulo 2^32; the full one is the
// nearest to the present, which the slot keeps within half a circle. The status
// is asked for, and not the snapshot, because only that is right on a standby.
func seenQuery(xid, xmax string) string {
	return "SELECT f.xid < f.xmax AND coalesce(pg_catalog.pg_xact_status(f.xid::text::pg_catalog.xid8), 'committed') <> 'in progress'" +
		" FROM (" + widenQuery(xid, xmax) + ") f"
}

// widenQuery finds the full number of a transaction.
func widenQuery(xid, xmax string) string {
	return "SELECT n.xmax, greatest(n.xmax + (" + xid + " - n.xmax % 4294967296 + 6442450944) % 4294967296 - 2147483648, 0) AS xid" +
		" FROM (SELECT " + xmax + " AS xmax) n"
}

// statement asks for the tags, and the columns, of the rows that are there, each
// with its place among the keys.
func (c *catalog) statement(ctx context.Context, q question) (string, error) {
	var names, arrays, columns, joins []string
	for n, i := range q.relation.key {
		column := q.relation.columns[i]
		typ, err := c.typeName(ctx, column.typ.OID)
		if err != nil {
			return "", err
		}
		array, err := c.array(q.keys, n)
		if err != nil {
			return "", err
		}
		alias := "k" + strconv.Itoa(n)
		names, columns = append(names, column.name), append(columns, alias)
		arrays = append(arrays, array+"::"+typ+"[]")
		joins = append(joins, rowAlias+"."+pgx.Identifier{column.name}.Sanitize()+" = "+keyAlias+"."+alias)
	}
	list := []string{keyAlias + ".place", q.table.query.expression(names)}
	for _, column := range q.columns {
		list = append(list, rowAlias+"."+pgx.Identifier{column}.Sanitize())
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM unnest(" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS " +
		keyAlias + "(" + strings.Join(columns, ", ") + ", place) JOIN " + q.table.name.quoted() + " AS " + rowAlias +
		" ON " + strings.Join(joins, " AND "), nil
}

// array is the literal of one key column's values.
func (c *catalog) array(keys [][]string, n int) (string, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(arrayEscapes.Replace(key[n]))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	literal, err := c.conn.PgConn().EscapeString(b.String())
	return "'" + literal + "'", err
}

var arrayEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// typeName is a type's name as a cast takes it.
func (c *catalog) typeName(ctx context.Context, oid uint32) (string, error) {
	if typ, known := c.typeNames[oid]; known {
		return typ, nil
	}
	// Without a length: that of a column would cut its values.
	results, err := c.exec(ctx, fmt.Sprintf("SELECT pg_catalog.format_type(%d, -1)", oid))
	if err != nil {
		return "", fmt.Errorf("read name of type %d: %w", oid, err)
	}
	if c.typeNames == nil {
		c.typeNames = make(map[uint32]string)
	}
	typ := string(results[0].Rows[0][0])
	c.typeNames[oid] = typ
	return typ, nil
}

// read orders what was found by the keys.
func (q question) read(results []*pgconn.Result) ([]*answer, error) {
	answers := make([]*answer, len(q.keys))
	for _, r := range results {
		for _, values := range r.Rows {
			place, err := strconv.Atoi(string(values[0]))
			if err != nil || place < 1 || place > len(answers) {
				return nil, fmt.Errorf("read tags of %s: place %q", q.table.name, values[0])
			}
			a := &answer{tags: values[1]}
			if q.columns != nil {
				a.row = tuple(values[2:])
			}
			answers[place-1] = a
		}
	}
	return answers, nil
}

// queryFault tells a query that is wrong, which nothing but another query heals,
// from a server that has trouble.
func (t *table) queryFault(err error) error {
	if ownFault(pgCode(err)) {
		return fmt.Errorf("%w: postgres.tables[%d].tags.query fails: %s; correct it, or what it reads, then start again",
			ErrMapping, t.index, refusal(err))
	}
	return fmt.Errorf("ask for the tags of %s: %w", t.name, err)
}

// refusal is what the server said.
func refusal(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return ""
	}
	return fmt.Sprintf("%s, SQLSTATE %s", e.Message, e.Code)
}

// ownFault tells the errors that a statement makes by itself.
func ownFault(code string) bool {
	if code == codeReadOnly {
		return true
	}
	switch code[:min(2, len(code))] {
	case "0A", "21", "22", "2F", "38", "39", "42", "44", "54", "P0":
		return true // unsupported, cardinality, data, functions, names and rights, limits, RAISE
	}
	return false
}
