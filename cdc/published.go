package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A publication is looked up as of each change. A change from before it was
// made, or from between two of its name, cannot be read by it, not then and not
// later: up to version 17 the server ends every stream there, from 18 on it
// warns and leaves out everything until the publication is there.

// refused makes of the server's error what it means for us.
func (s *stream) refused(refusal *pgconn.PgError) error {
	cfg := s.listener.cfg
	if refusal.Code == codeUndefinedObject && strings.Contains(refusal.Message, cfg.Publication) {
		return unpublished(cfg)
	}
	return fmt.Errorf("stream of slot %q: %w", cfg.Slot, refusal)
}

// noticed is an error for a notice that tells of rows left out.
func (s *stream) noticed(n *pgproto3.NoticeResponse) error {
	cfg := s.listener.cfg
	if n.Code == codeNotReady && strings.Contains(n.Message, cfg.Publication) {
		return unpublished(cfg)
	}
	return nil
}

func unpublished(cfg Config) error {
	return gap("publication %q did not exist when rows were changed that the slot has not given yet, so PostgreSQL cannot give them any more; make sure that it exists now (`newswire setup --apply`)",
		cfg.Publication)
}

// unpublishedQuery gives the mapped tables that a publication does not carry;
// no row when there is no such publication.
const unpublishedQuery = `
SELECT ARRAY(SELECT t.schema || '.' || t.name FROM unnest($2::text[], $3::text[]) t (schema, name)
             WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables c
                               WHERE c.pubname = p.pubname AND c.schemaname = t.schema AND c.tablename = t.name))
  , array_remove(ARRAY[CASE WHEN NOT pubupdate THEN 'updates' END, CASE WHEN NOT pubdelete THEN 'deletes' END, CASE WHEN NOT pubtruncate THEN 'truncates' END], NULL)
FROM pg_catalog.pg_publication p WHERE p.pubname = $1`

// lack is what keeps rows out of a slot that streams.
type lack struct {
	publication bool     // is missing altogether; what that costs the stream itself tells
	tables      []string // that it does not carry
	changes     []string // that it publishes of no table
}

// lacking looks at what the publication carries.
func (l *Listener) lacking(ctx context.Context, c *catalog) (now lack, err error) {
	var schemas, names []string
	for _, t := range l.tables {
		schemas, names = append(schemas, t.name.schema), append(names, t.name.table)
	}
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, unpublishedQuery, l.cfg.Publication, schemas, names).Scan(&now.tables, &now.changes)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return lack{publication: true}, nil
	}
	return now, err
}

// inspect looks at the publication. What it lacks is told until it has it; the
// stream goes on, for other tables and for what was committed before. Rows of
// a table that was away are missing also when it is back.
func (l *Listener) inspect(ctx context.Context, c *catalog) {
	now, err := l.lacking(ctx, c)
	if err != nil {
		return // the next look is seconds away
	}
	l.unpublishedChanges(ctx, now.changes)
	var told error
	switch away := strings.Join(l.wasAway(now.tables), ", "); {
	case now.publication:
		told = fmt.Errorf("publication %q does not exist any more, so nothing that is committed now can be read; run `newswire setup --apply`", l.cfg.Publication)
	case len(now.tables) > 0:
		told = fmt.Errorf("publication %q does not carry %s, so nothing that is committed there now is read; run `newswire setup --apply`, then `newswire resync`", l.cfg.Publication, away)
	case away != "":
		told = fmt.Errorf("publication %q did not carry %s for a time, so what was committed there meanwhile was not read; run `newswire resync`", l.cfg.Publication, away)
	}
	if l.setLack(told) && told != nil {
		l.log.ErrorContext(ctx, "rows are not published", "err", told)
	}
}

// wasAway adds tables to those that the publication has lacked since Run began.
func (l *Listener) wasAway(tables []string) []string {
	l.stateMu.Lock()
	defer l.stateMu.Unlock()
	for _, t := range tables {
		if !slices.Contains(l.away, t) {
			l.away = append(l.away, t)
		}
	}
	return slices.Clone(l.away)
}

// unpublishedChanges warns, once until that changes, of what the publication
// leaves out: it may be meant, and is all that a table without a key permits.
func (l *Listener) unpublishedChanges(ctx context.Context, changes []string) {
	l.stateMu.Lock()
	told := slices.Equal(changes, l.unpublished)
	l.unpublished = changes
	l.stateMu.Unlock()
	if !told && len(changes) > 0 {
		l.log.WarnContext(ctx, "the publication leaves changes out, so readers learn of no correction, retraction or publication that is made by them; "+
			"give every table a primary key and run `newswire setup --apply`", "publication", l.cfg.Publication, "unpublished", strings.Join(changes, ", "))
	}
}
