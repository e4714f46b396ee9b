package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/setup"
)

// role examines whether the role may do more than it must: its credential lies
// on the engine's machine.
func (e *examination) role(ctx context.Context) error {
	var excess []string
	var heartbeat bool
	err := e.conn.QueryRow(ctx, `SELECT array_remove(ARRAY[CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
		CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolbypassrls AND NOT rolsuper THEN 'BYPASSRLS' END], NULL),
		(SELECT pg_catalog.has_function_privilege(p.oid, 'EXECUTE') FROM pg_catalog.pg_proc p WHERE p.proname = 'pg_logical_emit_message'
		 AND p.pronamespace = 'pg_catalog'::regnamespace AND p.proargtypes[2] = 'text'::regtype)
		FROM pg_catalog.pg_roles WHERE rolname = current_user`).Scan(&excess, &heartbeat)
	if err != nil {
		return err
	}
	if len(excess) > 0 {
		negated := ""
		for _, attribute := range excess {
			negated += " NO" + attribute
		}
		e.warn("role-excess", e.user, fmt.Sprintf("name a role of its own in postgres.dsn, as `newswire setup` makes it, or run ALTER ROLE %s%s",
			pgx.Identifier{e.user}.Sanitize(), negated), "the role has %s, and needs only LOGIN and REPLICATION", list(excess))
	} else if err := e.writes(ctx); err != nil {
		return err
	}
	switch {
	case e.cfg.Heartbeat == 0:
		e.warn("heartbeat", "postgres.heartbeat", "set it to 10s", "no heartbeat is sent, so the slot keeps all log while the tables are quiet and others are not")
	case !heartbeat:
		e.warn("heartbeat", e.user, fmt.Sprintf("run GRANT EXECUTE ON FUNCTION pg_logical_emit_message(%s) TO %s", e.emitArguments(), pgx.Identifier{e.user}.Sanitize()),
			"the role may not write heartbeats, so the slot keeps all log while the tables are quiet and others are not")
	default:
		e.ok("heartbeat", "postgres.heartbeat", "the slot can advance every %s while the tables are quiet", e.cfg.Heartbeat)
	}
	return nil
}

// emitArguments are those of the function that writes heartbeats.
func (e *examination) emitArguments() string {
	if e.version >= version17 {
		return "boolean, text, text, boolean"
	}
	return "boolean, text, text"
}

// writes looks for mapped tables that the role may change.
func (e *examination) writes(ctx context.Context) error {
	var writable []string
	for _, t := range e.cfg.Tables {
		var may bool
		err := e.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1::text AND c.relname = $2::text AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))`,
			t.Schema, t.Name).Scan(&may)
		if err != nil {
			return err
		}
		if may {
			writable = append(writable, t.String())
		}
	}
	if len(writable) > 0 {
		e.warn("role-excess", e.user, "revoke INSERT, UPDATE, DELETE and TRUNCATE from it; a role that owns the table should not be the engine's",
			"the role may change %s, and needs at most SELECT", list(writable))
		return nil
	}
	e.ok("role-excess", e.user, "the role may change nothing that is mapped")
	return nil
}

// reads looks for tables and columns that the role may SELECT and need not.
func (e *examination) reads(ctx context.Context) error {
	const check = "select-excess"
	var super bool
	if err := e.conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&super); err != nil || super {
		return err // a superuser is told of already
	}
	var needed []setup.Table
	for _, t := range e.tables {
		n := setup.Table{Schema: t.Schema, Name: t.Name}
		if !t.All {
			n.Columns = append(t.wish().Columns, t.key...)
		}
		needed = append(needed, n)
	}
	for _, q := range e.cfg.Queries {
		read, err := setup.ReadsOf(ctx, e.conn, q)
		if err != nil {
			return err
		}
		needed = append(needed, read...)
	}
	excess, err := setup.ExcessOf(ctx, e.conn, e.user, needed)
	if err != nil {
		return err
	}
	if len(excess.Own) > 0 {
		e.warn(check, e.user, fmt.Sprintf("run REVOKE SELECT ON … FROM %s, or take its memberships away", pgx.Identifier{e.user}.Sanitize()),
			"the role may SELECT %s, and needs only what is mapped", setup.Few(excess.Own))
	}
	if len(excess.Public) > 0 {
		e.warn(check, e.user, "run REVOKE SELECT ON … FROM PUBLIC where nobody needs it: it cannot be taken from one role",
			"PUBLIC, and so the role, may SELECT %s", setup.Few(excess.Public))
	}
	if len(excess.Own)+len(excess.Public) == 0 {
		e.ok(check, e.user, "the role may SELECT nothing but what is mapped")
	}
	return nil
}
