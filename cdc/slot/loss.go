package slot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/fanout/journal"
)

// Loss is what nobody can read any more from a slot that was dropped, or moved
// to another position.
type Loss struct {
	Slot     string
	From, To journal.LSN  // the log between them
	Rows     *Rows        // in it, of the published tables; nil when they could not be counted
	Why      string       // then: why not
	Journal  *journal.LSN // up to where the engine's journal holds everything; nil: not known
}

// Rows counts changes, and the commits that have any.
type Rows struct{ Commits, Inserts, Updates, Deletes, Truncates int64 }

// Bounds of counting, which makes the server decode the log once more and put
// the result into a temporary file: it is a help, not worth a load that shows.
const (
	countMost    = 256 << 20
	countPatient = 10 * time.Second
)

// Foresee tells what lies between the slot and the position. The slot must not
// be read by anybody.
func (s Status) Foresee(ctx context.Context, conn *pgx.Conn, to journal.LSN) Loss {
	l := Loss{Slot: s.Name, From: s.Confirmed.LSN, To: to}
	switch {
	case to <= l.From:
		l.Rows = &Rows{}
	case s.Lost():
		l.Why = "a lost slot cannot be read"
	case s.Reader != nil:
		l.Why = "the slot is being read"
	case s.Publication == nil:
		l.Why = "there is no publication"
	case int64(to-l.From) > countMost:
		l.Why = "there is more than " + Bytes(countMost)
	default:
		rows, err := count(ctx, conn, s.Name, s.Publication.Name, to)
		if err != nil {
			l.Why = strings.Join(strings.Fields(err.Error()), " ")
		}
		l.Rows = rows
	}
	return l
}

// count reads the changes from a copy of the slot. The first byte of a message
// tells what it is.
func count(ctx context.Context, conn *pgx.Conn, slot, publication string, to journal.LSN) (rows *Rows, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }() // it has written nothing
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", countPatient.Milliseconds())); err != nil {
		return nil, err
	}
	var r Rows
	err = Look(ctx, tx, slot, func(ctx context.Context, tx pgx.Tx, copied string) error {
		return tx.QueryRow(ctx, `SELECT count(DISTINCT xid::text) FILTER (WHERE kind IN ('I', 'U', 'D', 'T')),
		count(*) FILTER (WHERE kind = 'I'), count(*) FILTER (WHERE kind = 'U'),
		count(*) FILTER (WHERE kind = 'D'), count(*) FILTER (WHERE kind = 'T')
		FROM (SELECT xid, pg_catalog.chr(pg_catalog.get_byte(data, 0)) FROM pg_catalog.pg_logical_slot_peek_binary_changes(
			$1::name, $2::text::pg_lsn, NULL, 'proto_version', '1', 'publication_names', $3::text)) m (xid, kind)`,
			copied, to.String(), pgx.Identifier{publication}.Sanitize()).Scan(&r.Commits, &r.Inserts, &r.Updates, &r.Deletes, &r.Truncates)
	})
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// None tells that the journal has everything, or that there is nothing to have.
func (l Loss) None() bool {
	return l.To <= l.From || l.Journal != nil && *l.Journal >= l.To
}

// Sentences say what is lost.
func (l Loss) Sentences() []string {
	what := fmt.Sprintf("behind slot %q, from %s to %s, lie %s of log that it has not confirmed", l.Slot, l.From, l.To, Bytes(int64(max(l.To, l.From)-l.From)))
	switch {
	case l.To <= l.From:
		what = fmt.Sprintf("behind slot %q at %s lies nothing that it has not confirmed", l.Slot, l.From)
	case l.Rows != nil:
		what += fmt.Sprintf(", with %s of %s, %s, %s and %s of published tables", plural(l.Rows.Commits, "commit"), plural(l.Rows.Inserts, "insert"),
			plural(l.Rows.Updates, "update"), plural(l.Rows.Deletes, "delete"), plural(l.Rows.Truncates, "truncate"))
	default:
		what += "; its changes could not be counted: " + l.Why
	}
	if l.To <= l.From {
		return []string{what}
	}
	switch {
	case l.Journal != nil && *l.Journal == 0:
		return []string{what, "journal.dir holds no journal, or an empty one: nothing of it is there"}
	case l.Journal == nil:
		return []string{what, "how much of it the journal has is not known: no engine answers on gateway.admin, and no journal can be read in journal.dir"}
	case l.None():
		return []string{what, fmt.Sprintf("the journal has everything up to %s, so none of it is lost", *l.Journal)}
	}
	return []string{what, fmt.Sprintf("the journal ends at %s: what lies behind is lost, and the engine stops there until `newswire resync`", *l.Journal)}
}

func plural(n int64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
