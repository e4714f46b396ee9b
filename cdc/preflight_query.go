package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CheckQuery tells in sentences what is wrong with the query that a key such as
// postgres.tables[0].tags.query names, or with its link tables. What else is
// wrong with the server, Preflight tells.
func CheckQuery(ctx context.Context, cfg Config, key string) ([]string, error) {
	tables, err := cfg.compile()
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	c := &catalog{cfg: cfg, conn: conn}
	defer c.close()
	p := &preflight{cfg: cfg, conn: conn, tables: tables}
	for _, step := range []func(context.Context) error{p.server, p.carries} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	var sentences []string
	for _, t := range tables {
		if t.query == nil || t.queryKey() != key {
			continue
		}
		if err := p.table(ctx, t); err != nil {
			return nil, err
		}
		p.faults = nil // only the query's are asked for
		if err := p.query(ctx, c, t); err != nil {
			return nil, err
		}
		for _, fault := range p.faults {
			sentences = append(sentences, fault.Error())
		}
	}
	return sentences, nil
}

// queryKey is the configuration's key of the query.
func (t *table) queryKey() string { return fmt.Sprintf("postgres.tables[%d].tags.query", t.index) }

// query checks that a table's query can be asked, and that its link tables tell
// whose tags they change.
func (p *preflight) query(ctx context.Context, c *catalog, t *table) error {
	if _, found := p.found[t.name]; t.query == nil || !found || p.publication == nil {
		return nil // told already
	}
	key := t.queryKey()
	r, columns, err := c.describe(ctx, t)
	switch {
	case errors.Is(err, ErrMapping), errors.Is(err, pgx.ErrNoRows):
		return nil // told already
	case err != nil:
		return fmt.Errorf("describe %s: %w", t.name, err)
	case len(r.key) == 0:
		p.fault("%s needs a key to ask for, and %s has no primary key; add one", key, t.name)
		return nil
	}
	var hidden bool
	if err := p.conn.QueryRow(ctx, "SELECT pg_catalog.row_security_active($1::text::regclass)", t.name.quoted()).Scan(&hidden); err != nil {
		return fmt.Errorf("read row security of %s: %w", t.name, err)
	}
	if hidden {
		p.fault("row level security hides rows of %s from the role, so %s would take them for deleted; add a policy that lets %s see every row",
			t.name, key, pgx.Identifier{p.conn.Config().User}.Sanitize())
	}
	if ok, err := p.form(ctx, t, r, key); !ok {
		return err
	}
	if err := p.asks(ctx, c, question{table: t, relation: r}, key); err != nil {
		return err
	}
	for i, l := range t.links {
		if err := p.link(ctx, t, r, fmt.Sprintf("postgres.tables[%d].tags.links[%d]", t.index, i), l); err != nil {
			return err
		}
	}
	if len(t.links) == 0 || len(p.faults) > 0 {
		return nil
	}
	return p.asks(ctx, c, question{table: t, relation: r, columns: columns}, key)
}

// form checks the query as it is written: its parameters and its one column.
func (p *preflight) form(ctx context.Context, t *table, r *relation, key string) (ok bool, err error) {
	var names []string
	var types []uint32
	for _, i := range r.key {
		names, types = append(names, r.columns[i].name), append(types, r.columns[i].typ.OID)
	}
	if most := t.query.most(); most > len(names) {
		p.fault("%s has the parameter $%d, but the key of %s has only %d: %s; number them in this order", key, most, t.name, len(names), strings.Join(names, ", "))
		return false, nil
	}
	described, err := p.conn.PgConn().Prepare(ctx, "", t.cfg.Tags.Query, types)
	if err != nil {
		return false, p.wrongQuery(err, t, key)
	}
	if n := len(described.Fields); n != 1 {
		p.fault("%s gives %d columns, not one: SELECT the tag alone", key, n)
		return false, nil
	}
	return true, nil
}

// asks tries the statement that will be put, about no rows: that checks rights
// as well.
func (p *preflight) asks(ctx context.Context, c *catalog, q question, key string) error {
	statement, err := c.statement(ctx, q)
	if err != nil {
		return err
	}
	_, err = p.conn.PgConn().Exec(ctx, "BEGIN READ ONLY; "+statement).ReadAll()
	if _, after := p.conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); after != nil {
		return fmt.Errorf("try the query for the tags of %s: %w", q.table.name, errors.Join(err, after))
	}
	if err != nil {
		return p.wrongQuery(err, q.table, key)
	}
	return nil
}

// wrongQuery tells a query that the server refuses; other trouble is returned.
func (p *preflight) wrongQuery(err error, t *table, key string) error {
	fault := t.queryFault(err)
	switch {
	case !errors.Is(fault, ErrMapping):
		return fault
	case pgCode(err) == codeInsufficientPrivilege:
		p.fault("the role may not read what %s reads (%s); run `newswire setup --apply`, without --minimal: tags from a query need SELECT", key, refusal(err))
	default:
		p.fault("%s fails: %s; correct it", key, refusal(err))
	}
	return nil
}

const linkQuery = `
SELECT c.relkind IN ('r', 'p') AND c.relpersistence = 'p', c.relreplident = 'f',
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::smallint[])
        WHERE i.indrelid = c.oid AND i.indisvalid AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate OR c.relreplident = 'i' AND i.indisreplident)),
  (SELECT i.indexrelid::regclass::text FROM pg_catalog.pg_index i
   WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
     AND NOT EXISTS (SELECT FROM unnest(i.indkey::smallint[]) k JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k WHERE NOT a.attnotnull)
     AND (SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::smallint[]) AND a.attname = ANY ($3::text[])) = pg_catalog.cardinality($3::text[])
   ORDER BY i.indnatts LIMIT 1)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2`

// linkState is what a link table is.
type linkState struct {
	usable   bool     // a logged table
	whole    bool     // its replica identity is every column
	columns  []string // that can be replicated
	identity []string // of its replica identity
	better   *string  // an index that could be its replica identity and tells the key
}

// link checks one link table.
func (p *preflight) link(ctx context.Context, t *table, r *relation, key string, l link) error {
	var s linkState
	err := p.conn.QueryRow(ctx, linkQuery, l.name.schema, l.name.table, l.key).Scan(&s.usable, &s.whole, &s.columns, &s.identity, &s.better)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		p.fault("table %s does not exist; create it or correct %s.table", l.name, key)
		return nil
	case err != nil:
		return fmt.Errorf("read table %s: %w", l.name, err)
	case !s.usable:
		p.fault("%s is no table, or is not logged, so its rows are not replicated; name another in %s.table", l.name, key)
		return nil
	case len(l.key) != len(r.key):
		p.fault("%s.key names %d columns, but the key of %s has %d; name those that hold it, in its order", key, len(l.key), t.name, len(r.key))
		return nil
	}
	carried := p.publication.Table(l.name.schema, l.name.table)
	if carried == nil {
		p.fault("publication %q does not carry the link table %s; run `newswire setup --apply`", p.cfg.Publication, l.name)
	}
	for i, column := range l.key {
		switch at := fmt.Sprintf("%s.key[%d]", key, i); {
		case !slices.Contains(s.columns, column):
			p.fault("table %s has no column %s that is replicated; add it or correct %s", l.name, column, at)
			return nil
		case carried != nil && carried.Columns != nil && !slices.Contains(carried.Columns, column):
			p.fault("publication %q does not carry column %s of %s, which %s names; %s", p.cfg.Publication, column, l.name, at, p.publication.ListRemedy(*carried, at))
		}
	}
	if p.publication.Delete && !s.whole && len(s.identity) > 0 && !containsAll(s.identity, l.key) {
		p.fault("%s: a DELETE on %s does not tell %s, so tags taken away would go unnoticed; run ALTER TABLE %s REPLICA IDENTITY %s, or take the table out of tags.links",
			key, l.name, strings.Join(l.key, ", "), l.name.quoted(), s.remedy())
	}
	return nil
}

// remedy is the replica identity that would tell the key.
func (s linkState) remedy() string {
	if s.better != nil {
		return "USING INDEX " + *s.better
	}
	return "FULL"
}

func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
