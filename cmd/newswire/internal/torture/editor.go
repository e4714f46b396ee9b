package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// editor saves articles in random transactions, over a connection of its own,
// and only rows of its own: those whose id leaves number on division by of. The
// first now and then empties the table, from under the others too.
type editor struct {
	dsn        string
	number, of int64
	most       int           // rows in a transaction
	pace       time.Duration // between transactions, on average
	small      bool          // no value is kept apart: one of a row whose message has left the journal is read as it stands later
	random     *rand.Rand

	conn *pgx.Conn
	rows []int64 // that are there
	next int64   // id of the next new row, divided by of
}

// run saves until ctx ends. What the server refuses because it goes away is
// done anew; what it refuses otherwise is the error.
func (e *editor) run(ctx context.Context) error {
	defer e.hangUp()
	for ctx.Err() == nil {
		if e.conn == nil && e.open() != nil {
			wait(ctx, 50*time.Millisecond)
			continue
		}
		if err := e.transaction(); err != nil {
			if !e.conn.IsClosed() && !strings.Contains(err.Error(), "57P0") { // the server shuts down
				return fmt.Errorf("editor %d: %w", e.number, err)
			}
			e.hangUp() // it may have committed: open looks
			continue
		}
		wait(ctx, time.Duration(e.random.Int64N(2*int64(e.pace))))
	}
	return nil
}

func (e *editor) hangUp() {
	if e.conn != nil {
		_ = e.conn.Close(context.Background())
		e.conn = nil
	}
}

// open connects, and looks which rows are there.
func (e *editor) open() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if e.conn, err = pgx.Connect(ctx, e.dsn); err != nil {
		return err
	}
	rows, err := e.conn.Query(ctx, "SELECT id FROM articles WHERE id % $1 = $2 ORDER BY id", e.of, e.number)
	if err == nil {
		e.rows, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		e.hangUp()
		return err
	}
	if n := len(e.rows); n > 0 {
		e.next = max(e.next, e.rows[n-1]/e.of)
	}
	return nil
}

// transaction is one, small as a rule, with savepoints that are rolled back, or
// rolled back as a whole.
func (e *editor) transaction() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	exec := func(sql string) error {
		_, err := e.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	before := slices.Clone(e.rows)
	if err := exec("BEGIN"); err != nil {
		return err
	}
	// Whoever empties the table waits for the others, and so must not have
	// anything that they wait for.
	if e.number == 0 && e.random.IntN(60) == 0 {
		if err := exec("TRUNCATE articles"); err != nil {
			return err
		}
		e.rows = nil
	}
	for range e.steps() {
		kept, undone := slices.Clone(e.rows), e.random.IntN(12) == 0
		if undone {
			if err := exec("SAVEPOINT s"); err != nil {
				return err
			}
		}
		if err := exec(e.step()); err != nil {
			return err
		}
		if undone {
			if err := exec("ROLLBACK TO s"); err != nil {
				return err
			}
			e.rows = kept
		}
	}
	if e.random.IntN(10) == 0 {
		e.rows = before
		return exec("ROLLBACK")
	}
	return exec("COMMIT")
}

// steps is how many statements a transaction has.
func (e *editor) steps() int {
	switch e.random.IntN(10) {
	case 0:
		return 1 + e.random.IntN(20)
	case 1, 2, 3:
		return 1 + e.random.IntN(4)
	}
	return 1
}

// step gives the next statement. A row that was deleted does not come back in
// the same transaction: the engine tells the two as one change, or as two where
// the transaction is large.
func (e *editor) step() string {
	if len(e.rows) == 0 {
		return e.insert(1)
	}
	n := e.random.IntN(len(e.rows))
	id := e.rows[n]
	switch e.random.IntN(20) {
	case 0, 1, 2:
		return fmt.Sprintf("UPDATE articles SET title = %s WHERE id = %d", literal(e.text(60)), id)
	case 3:
		return fmt.Sprintf("UPDATE articles SET summary = %s WHERE id = %d", e.summary(), id)
	case 4, 5:
		return fmt.Sprintf("UPDATE articles SET tags = %s WHERE id = %d", e.tags(), id)
	case 6:
		return fmt.Sprintf("UPDATE articles SET views = views + 1 WHERE id = %d", id)
	case 7, 8:
		// Of a draft the engine remembers nothing: what is not repeated of it with its
		// publication is read as it stands later. So a draft's summary is repeated.
		return fmt.Sprintf("UPDATE articles SET summary = CASE status WHEN 'published' THEN summary ELSE left(summary, 100) END, "+
			"status = CASE status WHEN 'published' THEN 'draft' ELSE 'published' END WHERE id = %d", id)
	case 9, 10:
		e.rows = slices.Delete(slices.Clone(e.rows), n, n+1)
		return fmt.Sprintf("DELETE FROM articles WHERE id = %d", id)
	case 11:
		e.rows = slices.Clone(e.rows)
		e.rows[n] = e.fresh()
		return fmt.Sprintf("UPDATE articles SET id = %d WHERE id = %d", e.rows[n], id)
	case 12:
		few := e.rows[n:min(len(e.rows), n+1+e.random.IntN(min(e.most, 30)))]
		return fmt.Sprintf("UPDATE articles SET url = %s, views = views + 1 WHERE id %% %d = %d AND id BETWEEN %d AND %d",
			literal(e.text(20)), e.of, e.number, slices.Min(few), slices.Max(few))
	}
	return e.insert(e.size())
}

// size is how many rows an insert has: now and then as many as there may be.
func (e *editor) size() int {
	switch n := e.random.IntN(300); {
	case n == 0:
		return e.most/2 + e.random.IntN(e.most/2+1)
	case n < 10:
		return 1 + e.random.IntN(min(e.most, 50))
	}
	return 1
}

func (e *editor) fresh() int64 {
	e.next++
	return e.next*e.of + e.number
}

// insert makes new rows; the ids of what was rolled back are not used again.
func (e *editor) insert(n int) string {
	first := e.fresh()
	ids := []int64{first}
	for range n - 1 {
		ids = append(ids, e.fresh())
	}
	e.rows = append(slices.Clone(e.rows), ids...)
	status := "published"
	if e.random.IntN(5) == 0 {
		status = "draft"
	}
	return fmt.Sprintf("INSERT INTO articles (id, title, summary, url, tags, status) SELECT %d + %d * n, %s || n, %s, NULL, %s, '%s' FROM generate_series(0, %d) n",
		first, e.of, literal(e.text(40)), e.summary(), e.tags(), status, n-1)
}

// tags are an array of those that readers know, with what counts for nothing
// now and then.
func (e *editor) tags() string {
	list := someTags(e.random, 3)
	if e.random.IntN(20) == 0 {
		list = append(list, "", "*", strings.Repeat("x", 200))
	}
	var quoted []string
	for _, tag := range list {
		quoted = append(quoted, literal(tag))
	}
	if e.random.IntN(30) == 0 {
		quoted = append(quoted, "NULL")
	}
	return "ARRAY[" + strings.Join(quoted, ",") + "]::text[]"
}

// summary is short as a rule, missing now and then, and sometimes so large that
// PostgreSQL keeps it apart, and does not repeat it when it has not changed.
func (e *editor) summary() string {
	switch n := e.random.IntN(40); {
	case n < 2:
		return "NULL"
	case n < 4 && !e.small:
		return literal(e.text(9_000 + e.random.IntN(30_000)))
	}
	return literal(e.text(e.random.IntN(200)))
}

// text is random and does not compress.
func (e *editor) text(n int) string {
	const letters = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 '"\/<&äß€`
	runes := []rune(letters)
	var b strings.Builder
	for range n {
		b.WriteRune(runes[e.random.IntN(len(runes))])
	}
	return b.String()
}
