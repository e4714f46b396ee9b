package cdc

import (
	"context"
	"fmt"
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
FROM pg_catalog.pg_publication p WHERE p.pubname = $1`

// lacking tells in a sentence what the publication does not carry, or is nil.
func (l *Listener) lacking(ctx context.Context, c *catalog) (lack, err error) {
	var schemas, names, missing []string
	for _, t := range l.tables {
		schemas, names = append(schemas, t.name.schema), append(names, t.name.table)
	}
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		missing, err = readStrings(ctx, conn, "SELECT unnest(m.missing) FROM ("+unpublishedQuery+") m (missing) UNION ALL SELECT '' WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)",
			l.cfg.Publication, schemas, names)
		return err
	})
	switch {
	case err != nil || len(missing) == 0:
		return nil, err
	case missing[0] == "":
		return fmt.Errorf("publication %q does not exist any more, so nothing that is committed now can be read; run `newswire setup --apply`", l.cfg.Publication), nil
	}
	return fmt.Errorf("publication %q does not carry %s any more, so nothing that is committed there now is read; run `newswire setup --apply`, then `newswire resync`",
		l.cfg.Publication, strings.Join(missing, ", ")), nil
}
