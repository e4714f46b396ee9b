package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
)

// Articles is the table that New makes unless it is told otherwise.
const Articles = `CREATE TABLE articles (
	id           bigserial PRIMARY KEY,
	title        text,
	summary      text,
	url          text,
	tags         text[],
	status       text,
	published_at timestamptz DEFAULT now()
)`

// DB is one test's database. Its methods end the test when PostgreSQL refuses.
type DB struct {
	Name        string // of the database
	Role        string // LOGIN, REPLICATION and SELECT on every table: what the product runs as
	DSN         string // as Role
	SuperDSN    string // as the superuser, who owns the tables: the editors and the DBA
	Publication string // for all tables, unless the options say otherwise
	Slot        string // pgoutput, made after the publication; "" with WithoutSlot

	t      testing.TB
	server *cluster.Cluster

	connMu sync.Mutex // guards conn; held for as long as a statement runs
	conn   *pgx.Conn  // as the superuser; nil before first use
}

type options struct {
	server      *cluster.Cluster
	schema      string
	publication string // what the publication is for
	slot        bool
}

// Option changes what New makes.
type Option func(*options)

// On puts the database on a server from NewCluster.
func On(c *cluster.Cluster) Option { return func(o *options) { o.server = c } }

// WithSchema runs these statements in place of Articles; "" makes no table.
func WithSchema(sql string) Option { return func(o *options) { o.schema = sql } }

// WithPublication makes the publication for this, such as "FOR TABLE articles"
// with what may follow; "" makes none, and then no slot either.
func WithPublication(what string) Option {
	return func(o *options) { o.publication, o.slot = what, o.slot && what != "" }
}

// WithoutSlot leaves the slot to the test.
func WithoutSlot() Option { return func(o *options) { o.slot = false } }

// made counts databases, so that a test run twice gets another name.
var made atomic.Uint64

// New makes a database for the test, with the table Articles, a publication, a
// slot behind it and a role, and drops them when the test ends. A slot that is
// then still read from is a leaked walsender and fails the test.
func New(t testing.TB, opts ...Option) *DB {
	t.Helper()
	o := options{schema: Articles, publication: "FOR ALL TABLES", slot: true}
	for _, opt := range opts {
		opt(&o)
	}
	if o.server == nil {
		o.server = sharedServer(t)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", t.Name(), made.Add(1)))
	name := "t_" + hex.EncodeToString(sum[:6])
	db := &DB{
		Name:     name,
		Role:     name,
		DSN:      o.server.DSN(name, name),
		SuperDSN: o.server.DSN(name, cluster.Superuser),
		t:        t,
		server:   o.server,
	}
	db.admin("CREATE DATABASE " + name)
	t.Cleanup(db.drop)
	// What the superuser makes later is the role's to read as well.
	db.Exec("CREATE ROLE " + name + " LOGIN REPLICATION")
	db.Exec("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO " + name)
	db.Exec("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO " + name)
	if o.schema != "" {
		db.Exec(o.schema)
	}
	if o.publication != "" {
		db.Publication = name
		db.Exec("CREATE PUBLICATION " + name + " " + o.publication)
	}
	if o.slot {
		// Only now: a slot older than its publication makes pgoutput fail on
		// the changes between the two.
		db.Slot = name
		db.CreateSlot(name)
	}
	return db
}

// Server is the cluster that the database is on.
func (db *DB) Server() *cluster.Cluster { return db.server }

// Exec runs SQL as the superuser: several statements in one transaction, or one
// with arguments. Concurrent calls take turns; use Connect for more at once.
func (db *DB) Exec(sql string, args ...any) {
	db.t.Helper()
	db.do(func(ctx context.Context, conn *pgx.Conn) error {
		mode := []any{pgx.QueryExecModeSimpleProtocol}
		if len(args) > 0 {
			mode = args
		}
		_, err := conn.Exec(ctx, sql, mode...)
		if err != nil {
			return fmt.Errorf("execute %q: %w", sql, err)
		}
		return nil
	})
}

// Value gives the one value of the one row that the query must have.
func Value[T any](db *DB, sql string, args ...any) T {
	db.t.Helper()
	var v T
	db.do(func(ctx context.Context, conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
			return fmt.Errorf("query %q: %w", sql, err)
		}
		return nil
	})
	return v
}

// Values gives the one column of the rows that the query finds.
func Values[T any](db *DB, sql string, args ...any) []T {
	db.t.Helper()
	var vs []T
	db.do(func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, sql, args...)
		if err != nil {
			return fmt.Errorf("query %q: %w", sql, err)
		}
		if vs, err = pgx.CollectRows(rows, pgx.RowTo[T]); err != nil {
			return fmt.Errorf("query %q: %w", sql, err)
		}
		return nil
	})
	return vs
}

// Connect gives a further connection as the superuser, closed when the test ends.
func (db *DB) Connect() *pgx.Conn {
	db.t.Helper()
	conn, err := pgx.Connect(db.t.Context(), db.SuperDSN)
	if err != nil {
		db.t.Fatalf("pgtest: connect to %s: %v", db.Name, err)
	}
	db.t.Cleanup(func() { _ = conn.Close(context.Background()) }) // a broken one is as closed
	return conn
}

// CreateSlot makes a logical slot for pgoutput; it goes when the test ends.
// PostgreSQL makes a slot once every transaction open on the server has ended:
// a test that holds one open for long should do so on a server from NewCluster.
func (db *DB) CreateSlot(name string) {
	db.t.Helper()
	_ = Value[string](db, "SELECT slot_name FROM pg_create_logical_replication_slot($1, 'pgoutput')", name)
}

// ConfirmedFlush is the position that the slot's reader has confirmed.
func (db *DB) ConfirmedFlush() pglogrepl.LSN {
	db.t.Helper()
	return db.lsn("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", db.Slot)
}

// CurrentLSN is the end of the server's WAL.
func (db *DB) CurrentLSN() pglogrepl.LSN {
	db.t.Helper()
	return db.lsn("SELECT pg_current_wal_insert_lsn()::text")
}

func (db *DB) lsn(sql string, args ...any) pglogrepl.LSN {
	db.t.Helper()
	lsn, err := pglogrepl.ParseLSN(Value[string](db, sql, args...))
	if err != nil {
		db.t.Fatalf("pgtest: %v", err)
	}
	return lsn
}

// do runs f on the database's own connection, made anew after a restart of the
// server.
func (db *DB) do(f func(context.Context, *pgx.Conn) error) {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db.connMu.Lock()
	defer db.connMu.Unlock()
	if db.conn == nil || db.conn.Ping(ctx) != nil {
		if db.conn != nil {
			_ = db.conn.Close(ctx)
		}
		conn, err := pgx.Connect(ctx, db.SuperDSN)
		if err != nil {
			db.t.Fatalf("pgtest: connect to %s: %v", db.Name, err)
		}
		db.conn = conn
	}
	if err := f(ctx, db.conn); err != nil {
		db.t.Fatalf("pgtest: %v", err)
	}
}

// admin runs a statement in the database postgres.
func (db *DB) admin(sql string, args ...any) {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.server.DSN("postgres", cluster.Superuser))
	if err != nil {
		db.t.Fatalf("pgtest: connect: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		db.t.Fatalf("pgtest: execute %q: %v", sql, err)
	}
}

// drop leaves nothing of the database. It runs after the test's own cleanups.
func (db *DB) drop() {
	db.connMu.Lock()
	if db.conn != nil {
		_ = db.conn.Close(context.Background())
		db.conn = nil
	}
	db.connMu.Unlock()
	if !db.server.Running() {
		return // the test has ended its own server: the directory goes as a whole
	}
	db.dropSlots()
	db.admin("DROP DATABASE " + db.Name + " WITH (FORCE)")
	db.admin("DROP ROLE " + db.Role)
}

// goodbye is what a walsender is given to notice that its client has gone.
const goodbye = 5 * time.Second

// dropSlots drops every slot of the database, once nobody reads from it.
func (db *DB) dropSlots() {
	const active = "SELECT slot_name || ' (PID ' || active_pid || ')' FROM pg_replication_slots WHERE database = current_database() AND active"
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(goodbye)
	for leaked := Values[string](db, active); len(leaked) > 0; leaked = Values[string](db, active) {
		select {
		case <-tick.C:
			continue
		case <-deadline:
		}
		db.t.Errorf("pgtest: leaked walsender: the test has ended and still reads from slot %v", leaked)
		db.Exec("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = current_database() AND active")
		break
	}
	db.Exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
	db.connMu.Lock()
	defer db.connMu.Unlock()
	_ = db.conn.Close(context.Background())
	db.conn = nil
}
