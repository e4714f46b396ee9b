package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
)

// oldestServer is the first version whose pgoutput can send messages.
const oldestServer = 140000

// Preflight checks everything on the server that keeps the listener from
// reading, or editors from saving, and changes nothing. The error joins one
// sentence for each fault; a server that does not answer gives ErrUnreachable.
func Preflight(ctx context.Context, cfg Config) error {
	tables, err := cfg.compile()
	if err != nil {
		return err
	}
	conn, err := connect(ctx, cfg.DSN)
	if err != nil {
		return err
	}
	c := &catalog{cfg: cfg, conn: conn}
	defer c.close()
	p := &preflight{cfg: cfg, conn: conn, tables: tables}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	steps := []func(context.Context) error{p.server, p.login}
	for _, t := range tables {
		steps = append(steps, func(ctx context.Context) error { return p.table(ctx, t) })
	}
	steps = append(steps, func(ctx context.Context) error { return p.embargo(ctx, tables) }, p.carries, p.identities)
	for _, t := range tables {
		steps = append(steps, func(ctx context.Context) error { return p.published(ctx, t) })
	}
	for _, t := range tables {
		steps = append(steps, func(ctx context.Context) error { return p.query(ctx, c, t) })
	}
	for _, step := range append(steps, p.slot) {
		if err := step(ctx); err != nil {
			return errors.Join(append(p.faults, err)...)
		}
	}
	return errors.Join(p.faults...)
}

// preflight gathers faults. Its steps return an error only when they cannot
// tell.
type preflight struct {
	cfg    Config
	conn   *pgx.Conn
	tables []*table
	faults []error

	version     int
	found       map[name][]string  // the columns of the mapped tables that exist
	publication *publication.State // nil: there is none
}

func (p *preflight) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

// gapFault is a fault that leaves nothing to read, but harms nothing that was
// read before.
type gapFault struct{ error }

// OnlyIntake tells of Preflight's error that all it stands in the way of is
// intake: an engine whose journal holds something has that to deliver.
func OnlyIntake(err error) bool {
	faults, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	for _, fault := range faults.Unwrap() {
		if _, ok := fault.(gapFault); !ok {
			return false
		}
	}
	return true
}

func (p *preflight) gap(format string, args ...any) {
	p.faults = append(p.faults, gapFault{fmt.Errorf(format, args...)})
}

func (p *preflight) server(ctx context.Context) error {
	var level string
	var senders, slots int
	err := p.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
		current_setting('max_wal_senders')::int, current_setting('max_replication_slots')::int`).
		Scan(&p.version, &level, &senders, &slots)
	if err != nil {
		return fmt.Errorf("read server settings: %w", err)
	}
	if p.version < oldestServer {
		p.fault("PostgreSQL %d is too old: newswire needs version %d or later", p.version/10000, oldestServer/10000)
	}
	if level != "logical" {
		p.fault("wal_level is %s, which carries no row changes; run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL", level)
	}
	if senders == 0 {
		p.fault("max_wal_senders is 0; run ALTER SYSTEM SET max_wal_senders = 10 and restart PostgreSQL")
	}
	if slots == 0 {
		p.fault("max_replication_slots is 0; run ALTER SYSTEM SET max_replication_slots = 10 and restart PostgreSQL")
	}
	return nil
}

// login tries the connection that the stream will use.
func (p *preflight) login(ctx context.Context) error {
	conn, err := connectReplication(ctx, p.cfg.DSN, nil)
	switch {
	case err == nil:
		defer hangUp(conn)
		if _, err := pglogrepl.IdentifySystem(ctx, conn); err != nil {
			return fmt.Errorf("identify system: %w", err)
		}
	case pgCode(err) == codeTooManyConnections:
		p.fault("PostgreSQL has no replication connection free; raise max_wal_senders and restart it: %w", err)
	case pgCode(err) == codeInsufficientPrivilege:
		p.fault("user %q may not replicate; run `newswire setup --apply`", p.conn.Config().User)
	case errors.Is(err, ErrUnreachable):
		return err
	default:
		p.fault("replication connection: %w", err)
	}
	return nil
}

const tableQuery = `
SELECT c.relkind::text, c.relpersistence::text,
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND (a.attgenerated = 'v' OR a.attgenerated <> '' AND current_setting('server_version_num')::int < 180000))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2`

// table checks that the table and its mapped columns exist and are replicated.
func (p *preflight) table(ctx context.Context, t *table) error {
	var kind, persistence string
	var columns, generated []string
	err := p.conn.QueryRow(ctx, tableQuery, t.name.schema, t.name.table).Scan(&kind, &persistence, &columns, &generated)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		p.fault("table %s does not exist; create it or correct postgres.tables[%d].name", t.name, t.index)
		return nil
	case err != nil:
		return fmt.Errorf("read table %s: %w", t.name, err)
	case kind != "r" && kind != "p":
		p.fault("%s is no table, so its rows are not replicated; name the table behind it in postgres.tables[%d].name", t.name, t.index)
		return nil
	case persistence != "p":
		p.fault("table %s is unlogged or temporary, so its rows are not replicated; run ALTER TABLE %s SET LOGGED", t.name, t.name.quoted())
	}
	if p.found == nil {
		p.found = make(map[name][]string)
	}
	p.found[t.name] = columns
	for _, m := range t.mapped() {
		switch {
		case !slices.Contains(columns, m.column):
			p.fault("table %s has no column %s; add it or correct %s", t.name, m.column, m.key)
		case slices.Contains(generated, m.column):
			p.fault("column %s of %s is generated, and this PostgreSQL does not replicate it; name another in %s", m.column, t.name, m.key)
		}
	}
	return nil
}

// carries examines the publication, also for tables that are not mapped: their
// editors suffer too.
func (p *preflight) carries(ctx context.Context) (err error) {
	if p.publication, err = publication.Read(ctx, p.conn, p.cfg.Publication); err != nil {
		return err
	}
	if p.publication == nil {
		p.gap("publication %q does not exist; run `newswire setup --apply`", p.cfg.Publication)
		return nil
	}
	if !p.publication.Insert {
		p.fault("publication %q does not publish inserts; run `newswire setup --apply`", p.cfg.Publication)
	}
	mapped := func(n name) bool {
		return p.found[n] != nil || slices.ContainsFunc(p.tables, func(t *table) bool { return t.name != n && t.reads(n) })
	}
	for _, said := range editorFaults(p.publication, mapped) {
		p.fault("%s", said)
	}
	return nil
}

// published checks that the publication carries the table and what is mapped.
func (p *preflight) published(ctx context.Context, t *table) error {
	columns, found := p.found[t.name]
	if !found || p.publication == nil {
		return nil // told already
	}
	carried := p.publication.Table(t.name.schema, t.name.table)
	if carried == nil {
		p.fault("publication %q does not carry table %s; run `newswire setup --apply`", p.cfg.Publication, t.name)
		return nil
	}
	for _, m := range t.mapped() {
		if carried.Columns != nil && !slices.Contains(carried.Columns, m.column) && slices.Contains(columns, m.column) {
			p.fault("publication %q does not carry column %s of %s, which %s names; %s",
				p.cfg.Publication, m.column, t.name, m.key, p.publication.ListRemedy(*carried, m.key))
		}
	}
	if !p.publication.Marked || carried.Filter == "" {
		return nil
	}
	shape, err := publication.ShapeOf(ctx, p.conn, t.wish())
	if errors.Is(err, publication.ErrMissing) {
		return nil // told already
	} else if err != nil {
		return err
	}
	if wanted := shape.Fit(p.publication.Fails() != "").Filter; carried.Filter != wanted {
		p.fault("publication %q carries only rows of %s with %s, and the configuration asks for other ones; run `newswire setup --apply`",
			p.cfg.Publication, t.name, carried.Filter)
	}
	return nil
}

func (p *preflight) slot(ctx context.Context) error {
	s, err := readSlot(ctx, p.conn, p.cfg.Slot)
	switch {
	case err != nil:
		return err
	case !s.exists:
		p.gap("replication slot %q does not exist; run `newswire setup --apply`", p.cfg.Slot)
	case s.lost():
		p.gap("%s; run `newswire resync`", s.lostHow(p.cfg.Slot))
	default:
		if err := s.misfit(p.cfg.Slot); err != nil {
			p.faults = append(p.faults, err)
		}
	}
	return nil
}
