package pgjson

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Load gives every type asked for, as the server's catalog has it now. A type
// that is not there any more is taken for Text. Nothing is asked when all are
// built in. Composite types can change without their OID: load again when
// Append reports ErrShape.
func Load(ctx context.Context, conn *pgx.Conn, oids []uint32) (map[uint32]Type, error) {
	c := catalog{rows: make(map[uint32]typeRow), fields: make(map[uint32][]fieldRow)}
	missing := c.missing(oids)
	for len(missing) > 0 { // once for each level of domain, array and composite
		next, err := c.fetch(ctx, conn, missing)
		if err != nil {
			return nil, fmt.Errorf("load types %v: %w", missing, err)
		}
		missing = c.missing(next)
	}
	types := make(map[uint32]Type, len(oids))
	for _, oid := range oids {
		t := c.resolve(oid)
		t.OID = oid
		types[oid] = t
	}
	return types, nil
}

// catalog holds what has been read of pg_type and pg_attribute.
type catalog struct {
	rows   map[uint32]typeRow
	fields map[uint32][]fieldRow // by typrelid
}

type typeRow struct {
	kind   string // typtype
	base   uint32 // of a domain
	elem   uint32 // of an array
	delim  string // between elements of this type
	rel    uint32 // of a composite
	hstore bool
}

type fieldRow struct {
	name string
	oid  uint32
}

// missing gives those that are neither built in nor read yet, once each.
func (c *catalog) missing(oids []uint32) []uint32 {
	var missing []uint32
	for _, oid := range oids {
		if _, ok := builtin[oid]; ok {
			continue
		}
		if _, ok := c.rows[oid]; ok {
			continue
		}
		c.rows[oid] = typeRow{} // stays so if the server does not know it
		missing = append(missing, oid)
	}
	return missing
}

// hstore is the one extension type known to have a cast to json, which
// to_jsonb uses; an extension may lie in any schema, so pg_depend tells.
const typeQuery = `
SELECT t.oid, t.typtype::text, t.typbasetype,
       CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END::oid,
       t.typdelim::text, t.typrelid,
       t.typname = 'hstore' AND EXISTS (
         SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'hstore')
FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1)`

const fieldQuery = `
SELECT a.attrelid, a.attname::text, a.atttypid
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

// fetch reads the types and gives those that they are made of.
func (c *catalog) fetch(ctx context.Context, conn *pgx.Conn, oids []uint32) ([]uint32, error) {
	rows, err := conn.Query(ctx, typeQuery, oids)
	if err != nil {
		return nil, err
	}
	var next, rels []uint32
	var oid uint32
	var r typeRow
	_, err = pgx.ForEachRow(rows, []any{&oid, &r.kind, &r.base, &r.elem, &r.delim, &r.rel, &r.hstore}, func() error {
		c.rows[oid] = r
		switch {
		case r.kind == "d":
			next = append(next, r.base)
		case r.kind == "c":
			rels = append(rels, r.rel)
		case r.elem != 0:
			next = append(next, r.elem)
		}
		return nil
	})
	if err != nil || len(rels) == 0 {
		return next, err
	}
	if rows, err = conn.Query(ctx, fieldQuery, rels); err != nil {
		return nil, err
	}
	var rel uint32
	var f fieldRow
	_, err = pgx.ForEachRow(rows, []any{&rel, &f.name, &f.oid}, func() error {
		c.fields[rel] = append(c.fields[rel], f)
		next = append(next, f.oid)
		return nil
	})
	return next, err
}

// resolve ends because PostgreSQL lets no type contain itself.
func (c *catalog) resolve(oid uint32) Type {
	if t, ok := builtin[oid]; ok {
		return t
	}
	r := c.rows[oid]
	switch {
	case r.kind == "d":
		t := c.resolve(r.base)
		t.OID = oid
		return t
	case r.kind == "c":
		fields := make([]Field, 0, len(c.fields[r.rel]))
		for _, f := range c.fields[r.rel] {
			fields = append(fields, Field{Name: f.name, Type: c.resolve(f.oid)})
		}
		return Type{OID: oid, Kind: Composite, Fields: fields}
	case r.hstore:
		return Type{OID: oid, Kind: Hstore}
	case r.elem != 0:
		elem := c.resolve(r.elem)
		return Type{OID: oid, Kind: Array, Delim: c.delimiter(r.elem), Elem: &elem}
	default:
		return Type{OID: oid, Kind: Text}
	}
}

// delimiter is a property of the element's type.
func (c *catalog) delimiter(elem uint32) byte {
	if r, ok := c.rows[elem]; ok && len(r.delim) == 1 {
		return r.delim[0]
	}
	if elem == boxOID {
		return ';'
	}
	return ','
}
