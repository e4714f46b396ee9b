package cdc

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// queryTimeout bounds one look into the system catalogs.
const queryTimeout = 15 * time.Second

// catalog answers questions about the database over a normal connection, which
// it opens when it is asked and keeps. One goroutine owns it.
type catalog struct {
	cfg  Config
	log  *slog.Logger // nil: nothing is logged
	conn *pgx.Conn    // nil until asked

	seen      uint32            // the last transaction that conn was found to see
	typeNames map[uint32]string // by oid
}

func (c *catalog) close() {
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx)   // the server ends the session either way
	c.conn, c.seen = nil, 0 // the next may lead to another server
}

// do runs f on a living connection, with a bound on its time.
func (c *catalog) do(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if c.conn != nil && (c.conn.IsClosed() || c.conn.Ping(ctx) != nil) {
		c.close()
	}
	if c.conn == nil {
		conn, err := connect(ctx, c.cfg.DSN)
		if err != nil {
			return err
		}
		c.conn = conn
	}
	return f(ctx, c.conn)
}

// slotState is a row of pg_replication_slots, with the server's position.
type slotState struct {
	exists        bool
	plugin        string
	database      string
	here          bool // in the database that we are connected to
	active        bool
	activePID     int32
	application   string // of the one who reads it; "" where we may not see it
	address       string // of the same; "" for a local one
	invalidation  string // why it is lost, from version 17 on
	recovery      bool   // the server is a standby
	systemID      string
	timeline      int32 // 0 on a standby
	walStatus     string
	confirmed     journal.LSN
	retained      int64
	safe          *int64 // nil without a limit
	serverPos     journal.LSN
	senderTimeout time.Duration // 0: the server never ends a silent stream
	now           time.Time     // by the server's clock
}

// serverClock is what the server's clock says, as an instant: a timestamp would
// be printed as the role's settings want it.
const serverClock = "(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint"

const slotQuery = `
SELECT s.slot_name IS NOT NULL, coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.database = pg_catalog.current_database(), false),
       coalesce(s.active, false), coalesce(s.active_pid, 0), coalesce(s.wal_status, ''),
       coalesce(s.confirmed_flush_lsn - '0/0'::pg_lsn, 0)::bigint,
       coalesce(pos.lsn - s.restart_lsn, 0)::bigint, s.safe_wal_size,
       coalesce(pos.lsn - '0/0'::pg_lsn, 0)::bigint,
       (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'),
       ` + serverClock + `,
       coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), ''),
       coalesce(pg_catalog.to_jsonb(s) ->> 'invalidation_reason', ''),
       pg_catalog.pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0
            ELSE ('x' || substr(pg_catalog.pg_walfile_name(pos.lsn), 1, 8))::bit(32)::int END
FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                  ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) pos
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid`

// slot tells how the slot stands.
func (c *catalog) slot(ctx context.Context) (s slotState, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		s, err = readSlot(ctx, conn, c.cfg.Slot)
		return err
	})
	return s, err
}

func readSlot(ctx context.Context, conn *pgx.Conn, slot string) (s slotState, err error) {
	var confirmed, serverPos, timeout, now int64
	err = conn.QueryRow(ctx, slotQuery, slot).Scan(&s.exists, &s.plugin, &s.database, &s.here,
		&s.active, &s.activePID, &s.walStatus, &confirmed, &s.retained, &s.safe, &serverPos, &timeout, &now,
		&s.application, &s.address, &s.invalidation, &s.recovery, &s.systemID, &s.timeline)
	if err != nil {
		return s, fmt.Errorf("read slot %q: %w", slot, err)
	}
	s.now = instant(now).time()
	s.confirmed, s.serverPos = journal.LSN(confirmed), journal.LSN(serverPos)
	s.senderTimeout = time.Duration(timeout) * time.Millisecond
	return s, nil
}

// lost tells a slot whose log PostgreSQL has removed. That is final.
func (s slotState) lost() bool { return s.walStatus == "lost" }

// lostHow tells in a sentence why the slot is lost.
func (s slotState) lostHow(slot string) string {
	why := "PostgreSQL has removed log that it needed (max_slot_wal_keep_size)"
	switch s.invalidation {
	case "", "wal_removed":
	case "idle_timeout":
		why = "nobody has read it for longer than idle_replication_slot_timeout"
	case "rows_removed":
		why = "rows of the system catalogs that it needed were removed (hot_standby_feedback is off)"
	case "wal_level_insufficient":
		why = "wal_level was not logical for a time"
	default:
		why = "PostgreSQL gives " + s.invalidation + " as the reason"
	}
	return fmt.Sprintf("replication slot %q is lost: %s", slot, why)
}

// inUse tells in a sentence who has the slot.
func (s slotState) inUse(slot string) error {
	if s.activePID == 0 {
		return fmt.Errorf("replication slot %q is being read by another process; waiting for it to end", slot)
	}
	reader := fmt.Sprintf("the PostgreSQL process %d", s.activePID)
	if s.application != "" {
		reader += fmt.Sprintf(" for %q", s.application)
	}
	if s.address != "" {
		reader += " at " + s.address
	}
	return fmt.Errorf("replication slot %q is being read by %s; waiting for it to end", slot, reader)
}

// misfit tells in a sentence what keeps a slot that exists from being read, or
// is nil.
func (s slotState) misfit(slot string) error {
	switch {
	case s.plugin != "pgoutput":
		return fmt.Errorf("replication slot %q has the plugin %q, not pgoutput; name another in postgres.slot and run `newswire setup --apply`", slot, s.plugin)
	case !s.here:
		return fmt.Errorf("replication slot %q belongs to database %q; name another in postgres.slot and run `newswire setup --apply`", slot, s.database)
	}
	return nil
}

// now is what the server's clock says.
func (c *catalog) now(ctx context.Context) (time.Time, error) {
	var now int64
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT "+serverClock).Scan(&now)
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("read the server's clock: %w", err)
	}
	return instant(now).time(), nil
}

const primaryKeyQuery = `
SELECT a.attname::text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::smallint[])
WHERE i.indisprimary AND n.nspname = $1 AND c.relname = $2
ORDER BY a.attnum`

func (c *catalog) primaryKey(ctx context.Context, n name) (columns []string, err error) {
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		columns, err = readStrings(ctx, conn, primaryKeyQuery, n.schema, n.table)
		return err
	})
	return columns, err
}

// types asks the server only when a type is not built in.
func (c *catalog) types(ctx context.Context, oids []uint32) ([]pgjson.Type, error) {
	types := make([]pgjson.Type, len(oids))
	builtin := true
	for i, oid := range oids {
		var ok bool
		types[i], ok = pgjson.Builtin(oid)
		builtin = builtin && ok
	}
	if builtin {
		return types, nil
	}
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		loaded, err := pgjson.Load(ctx, conn, oids)
		if err != nil {
			return err
		}
		for i, oid := range oids {
			types[i] = loaded[oid]
		}
		return nil
	})
	return types, err
}

// reread reads one column of a row as it stands now, printed as the stream
// prints values. The key is quoted as literals, which take the columns' types.
// Before the transaction is seen the row may not be there yet, or be as it was.
func (c *catalog) reread(ctx context.Context, xid uint32, n name, key []keyValue, column string) (text []byte, null bool, err error) {
	alive := func(context.Context, *pgx.Conn) error { return nil }
	if err = c.do(ctx, alive); err == nil {
		err = c.awaitSeen(ctx, xid)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s of %s again: %w", column, n, err)
	}
	found := false
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		query := "BEGIN READ ONLY; " + localSettings() + "SELECT " + pgx.Identifier{column}.Sanitize() + " FROM " + n.quoted() + " WHERE "
		for i, k := range key {
			literal, err := conn.PgConn().EscapeString(k.text)
			if err != nil {
				return err
			}
			if i > 0 {
				query += " AND "
			}
			query += pgx.Identifier{k.column}.Sanitize() + " = '" + literal + "'"
		}
		results, err := conn.PgConn().Exec(ctx, query+"; COMMIT").ReadAll()
		for _, r := range results {
			if len(r.Rows) == 1 {
				found, text, null = true, r.Rows[0][0], r.Rows[0][0] == nil
			}
		}
		if err != nil {
			c.close() // its transaction is broken
		}
		return err
	})
	switch {
	case pgCode(err) == codeInsufficientPrivilege:
		return nil, false, errNoValue
	case err != nil:
		return nil, false, fmt.Errorf("read %s of %s again: %w", column, n, err)
	case !found:
		return nil, false, errRowGone
	}
	return text, null, nil
}

// localSettings makes one transaction print values as the stream does.
func localSettings() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(pgjson.Settings)) {
		fmt.Fprintf(&b, "SET LOCAL %s = '%s'; ", k, pgjson.Settings[k])
	}
	return b.String()
}

func readStrings(ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
