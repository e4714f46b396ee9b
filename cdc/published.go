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

	"newswire/cdc/publication"
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
  , ARRAY(SELECT t.schema || '.' || t.name FROM unnest($2::text[], $3::text[]) t (schema, name)
          WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = t.schema AND c.relname = t.name))
  , array_remove(ARRAY[CASE WHEN NOT pubupdate THEN 'updates' END, CASE WHEN NOT pubdelete THEN 'deletes' END, CASE WHEN NOT pubtruncate THEN 'truncates' END], NULL)
FROM pg_catalog.pg_publication p WHERE p.pubname = $1`

// lack is what keeps rows out of a slot that streams.
type lack struct {
	publication bool     // is missing altogether; what that costs the stream itself tells
	tables      []string // that it does not carry
	dropped     []string // those of them that do not exist
	changes     []string // that it publishes of no table
	faults      []string // a sentence for each table on which editors cannot save
}

// lacking looks at what the publication carries.
func (l *Listener) lacking(ctx context.Context, c *catalog) (now lack, err error) {
	var schemas, names []string
	for _, t := range l.tables {
		schemas, names = append(schemas, t.name.schema), append(names, t.name.table)
	}
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, unpublishedQuery, l.cfg.Publication, schemas, names).Scan(&now.tables, &now.dropped, &now.changes)
		if err != nil {
			return err
		}
		p, err := publication.Read(ctx, conn, l.cfg.Publication)
		if err == nil && p != nil { // a replica identity may have changed since the start
			now.faults = editorFaults(p, func(n name) bool { return slices.ContainsFunc(l.tables, func(t *table) bool { return t.reads(n) }) })
		}
		return err
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
	said := now.faults
	switch away := strings.Join(l.wasAway(ctx, now.tables), ", "); {
	case now.publication:
		said = append(said, fmt.Sprintf("publication %q does not exist any more, so nothing that is committed now can be read; run `newswire setup --apply`", l.cfg.Publication))
	case len(now.dropped) > 0:
		said = append(said, fmt.Sprintf("table %s does not exist any more, and readers keep its articles; take it out of postgres.tables and start again, or create it again and run `newswire setup --apply`, then `newswire resync`",
			strings.Join(now.dropped, ", ")))
	case len(now.tables) > 0:
		said = append(said, fmt.Sprintf("publication %q does not carry %s, so nothing that is committed there now is read; run `newswire setup --apply`, then `newswire resync`", l.cfg.Publication, strings.Join(now.tables, ", ")))
	case away != "":
		said = append(said, fmt.Sprintf("publication %q did not carry %s for a time, so what was committed there meanwhile was not read; run `newswire resync`", l.cfg.Publication, away))
	}
	var told error
	if len(said) > 0 {
		told = errors.New(strings.Join(said, "; "))
	}
	if l.setLack(told) && told != nil {
		what := "rows are not published"
		if len(now.faults) > 0 {
			what = "editors cannot save"
		}
		l.log.ErrorContext(ctx, what, "err", told)
	}
}

// editorFaults says on which tables the publication makes changes fail.
func editorFaults(p *publication.State, mapped func(name) bool) (said []string) {
	for _, f := range p.Faults(func(schema, own string) bool { return mapped(name{schema, own}) }) {
		said = append(said, fmt.Sprintf("publication %q makes every %s of the editors fail on %s: %s; %s", p.Name, p.Fails(), f.Table, f.Why, f.Remedy))
	}
	return said
}

// reads tells whether a table is this one, or a link table of it.
func (t *table) reads(n name) bool {
	return t.name == n || slices.ContainsFunc(t.links, func(l link) bool { return l.name == n })
}

// wasAway adds tables to those of which rows are missing until a resync, and
// gives those that are mapped. The journal keeps them: neither a restart nor a
// resync that failed makes up for anything.
func (l *Listener) wasAway(ctx context.Context, tables []string) (mapped []string) {
	known, _ := l.journal.Source()
	now := known
	now.Away = slices.Clone(known.Away)
	for _, t := range tables {
		if !slices.Contains(now.Away, t) {
			now.Away = append(now.Away, t)
		}
	}
	if err := l.record(ctx, known, now); err != nil {
		l.log.WarnContext(ctx, "it cannot be recorded that tables were not published", "tables", now.Away, "err", err)
	}
	for _, t := range l.tables {
		if name := t.name.schema + "." + t.name.table; slices.Contains(now.Away, name) {
			mapped = append(mapped, name)
		}
	}
	return mapped
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
