// Package slot shows and changes one replication slot for its DBA. Reading
// changes nothing on the server. What changes the slot refuses what PostgreSQL
// would do without a word (a step back, a position that the log has not
// reached, a slot that is being read), and Foresee tells beforehand what would
// be lost; whether that was confirmed is for the caller to ask.
package slot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/fanout/journal"
)

// Versions from which the server tells more, as server_version_num counts.
const (
	version15 = 150000 // column lists and row filters
	version16 = 160000 // conflicting
	version17 = 170000 // inactive_since, invalidation_reason, failover, synced
)

// ErrMissing reports a slot that does not exist.
var ErrMissing = errors.New("replication slot does not exist")

// LSN is a position that prints in JSON as PostgreSQL prints it.
type LSN struct{ journal.LSN }

// MarshalText writes the position as PostgreSQL does.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Status is how a slot stands. In JSON the columns of pg_replication_slots have
// their names; null is what this server does not tell.
type Status struct {
	Server
	Name     string  `json:"slot_name"`
	Plugin   string  `json:"plugin"`
	Database string  `json:"database"`
	Here     bool    `json:"-"` // in the database that we are connected to
	Reader   *Reader `json:"reader"`
	Kept
	Position
	Failover
	Spill       *Spill       `json:"spill"`      // nil before anything was decoded
	Disk        *Disk        `json:"wal_disk"`   // nil where it cannot be seen
	Rate        *Rate        `json:"write_rate"` // nil before Measure
	Publication *Publication `json:"publication"`
}

// Server is where the slot is.
type Server struct {
	Version    int    `json:"server_version_num"`
	VersionTxt string `json:"server_version"`
	Recovery   bool   `json:"in_recovery"`
}

// Reader is who reads the slot now.
type Reader struct {
	PID         int32          `json:"active_pid"`
	Application string         `json:"application_name"`
	Lag         *time.Duration `json:"-"` // until it confirmed; nil where we may not see it
}

// Kept is what the slot keeps and how long it may.
type Kept struct {
	WALStatus      string     `json:"wal_status"`
	SafeWAL        *int64     `json:"safe_wal_size"`          // nil without a limit, or when lost
	Limit          int64      `json:"max_slot_wal_keep_size"` // bytes; -1: none
	Retained       int64      `json:"retained_bytes"`
	CatalogXminAge int64      `json:"catalog_xmin_age"` // transactions
	Invalidation   *string    `json:"invalidation_reason"`
	Conflicting    *bool      `json:"conflicting"`
	InactiveSince  *time.Time `json:"inactive_since"`
	IdleFor        int64      `json:"-"` // seconds since InactiveSince, by the server's clock
}

// Position is where the slot stands in the log.
type Position struct {
	Current   LSN   `json:"current_lsn"` // end of the server's log
	Confirmed LSN   `json:"confirmed_flush_lsn"`
	Restart   LSN   `json:"restart_lsn"`
	Unread    int64 `json:"unread_bytes"` // log behind Confirmed
}

// Failover tells whether a standby can take the slot over; nil before version 17.
type Failover struct {
	Enabled *bool `json:"failover"`
	Synced  *bool `json:"synced"`
}

// Spill is what decoding has taken up of the server's disk for transactions
// larger than logical_decoding_work_mem, since the server's counters began.
type Spill struct {
	Transactions int64 `json:"spill_txns"`
	Bytes        int64 `json:"spill_bytes"`
	Decoded      int64 `json:"total_bytes"` // of all transactions
}

// Publication is what the slot's reader asks for.
type Publication struct {
	Name       string           `json:"name"`
	Operations []string         `json:"operations"`
	Tables     []PublishedTable `json:"tables"`
}

// PublishedTable is one table of a publication.
type PublishedTable struct {
	Name    string  `json:"name"`
	Columns int     `json:"columns"`
	Filter  *string `json:"filter"` // nil: every row
}

// Lost tells a slot that can never be read again.
func (s Status) Lost() bool { return s.WALStatus == "lost" || s.Invalidation != nil }

// position is the end of the log, on a standby too.
const position = `CASE WHEN pg_catalog.pg_is_in_recovery()
	THEN coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
	ELSE pg_catalog.pg_current_wal_lsn() END`

// The limit is what the server reckons with: wal_keep_size keeps for a slot too.
const statusQuery = `
SELECT s.slot_name, coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.database = pg_catalog.current_database(), false),
  s.active_pid, coalesce(a.application_name, ''), extract(epoch FROM r.flush_lag)::float8,
  coalesce(s.wal_status, ''), s.safe_wal_size,
  (SELECT CASE WHEN l.setting = '-1' THEN -1 ELSE greatest(l.setting::bigint, k.setting::bigint) << 20 END
   FROM pg_catalog.pg_settings l, pg_catalog.pg_settings k WHERE l.name = 'max_slot_wal_keep_size' AND k.name = 'wal_keep_size'),
  coalesce(pos.lsn - s.restart_lsn, 0)::bigint, coalesce(pg_catalog.age(s.catalog_xmin), 0)::bigint,
  coalesce(pos.lsn - '0/0'::pg_lsn, 0)::bigint, coalesce(s.confirmed_flush_lsn - '0/0'::pg_lsn, 0)::bigint,
  coalesce(s.restart_lsn - '0/0'::pg_lsn, 0)::bigint, greatest(coalesce(pos.lsn - s.confirmed_flush_lsn, 0), 0)::bigint,
  %s
FROM (SELECT ` + position + ` AS lsn) pos, pg_catalog.pg_replication_slots s
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
WHERE s.slot_name = $1::text`

// newer are the columns that only later servers have.
func newer(version int) string {
	conflicting := "NULL::boolean"
	if version >= version16 {
		conflicting = "s.conflicting"
	}
	rest := "NULL::text, NULL::timestamptz, NULL::bigint, NULL::boolean, NULL::boolean"
	if version >= version17 {
		rest = `s.invalidation_reason, s.inactive_since,
  extract(epoch FROM pg_catalog.clock_timestamp() - s.inactive_since)::bigint, s.failover, s.synced`
	}
	return conflicting + ", " + rest
}

// Read tells how the slot stands, and what the publication gives its reader.
// The error wraps ErrMissing when there is no such slot.
func Read(ctx context.Context, conn *pgx.Conn, name, publication string) (s Status, err error) {
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_catalog.pg_is_in_recovery()`).
		Scan(&s.Version, &s.VersionTxt, &s.Recovery)
	if err != nil {
		return s, fmt.Errorf("read server version: %w", err)
	}
	var pid *int32
	var application string
	var lag *float64
	var idle *int64
	var current, confirmed, restart int64
	err = conn.QueryRow(ctx, fmt.Sprintf(statusQuery, newer(s.Version)), name).Scan(
		&s.Name, &s.Plugin, &s.Database, &s.Here, &pid, &application, &lag,
		&s.WALStatus, &s.SafeWAL, &s.Limit, &s.Retained, &s.CatalogXminAge,
		&current, &confirmed, &restart, &s.Unread,
		&s.Conflicting, &s.Invalidation, &s.InactiveSince, &idle, &s.Enabled, &s.Synced)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, fmt.Errorf("read slot %q: %w", name, ErrMissing)
	case err != nil:
		return s, fmt.Errorf("read slot %q: %w", name, err)
	}
	s.Current, s.Confirmed, s.Restart = at(current), at(confirmed), at(restart)
	if idle != nil {
		s.IdleFor = *idle
	}
	if pid != nil {
		s.Reader = &Reader{PID: *pid, Application: application}
		if lag != nil {
			d := time.Duration(*lag * float64(time.Second))
			s.Reader.Lag = &d
		}
	}
	if s.Spill, err = readSpill(ctx, conn, name); err != nil {
		return s, err
	}
	if s.Disk, err = readDisk(ctx, conn); err != nil {
		return s, err
	}
	s.Publication, err = readPublication(ctx, conn, publication, s.Version)
	return s, err
}

func readSpill(ctx context.Context, conn *pgx.Conn, name string) (*Spill, error) {
	var s Spill
	err := conn.QueryRow(ctx, "SELECT spill_txns, spill_bytes, total_bytes FROM pg_catalog.pg_stat_replication_slots WHERE slot_name = $1::text", name).
		Scan(&s.Transactions, &s.Bytes, &s.Decoded)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read what decoding of slot %q takes up: %w", name, err)
	}
	return &s, nil
}

func at(position int64) LSN { return LSN{journal.LSN(position)} }

// readPublication gives nil when there is none.
func readPublication(ctx context.Context, conn *pgx.Conn, name string, version int) (*Publication, error) {
	p := &Publication{Name: name}
	err := conn.QueryRow(ctx, `SELECT array_remove(ARRAY[CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END,
		CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END], NULL)
		FROM pg_catalog.pg_publication WHERE pubname = $1::text`, name).Scan(&p.Operations)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	columns := `(SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = t.schemaname AND c.relname = t.tablename AND a.attnum > 0 AND NOT a.attisdropped)::int, NULL::text`
	if version >= version15 {
		columns = "cardinality(t.attnames)::int, t.rowfilter"
	}
	rows, err := conn.Query(ctx, "SELECT t.schemaname || '.' || t.tablename, "+columns+`
		FROM pg_catalog.pg_publication_tables t WHERE t.pubname = $1::text ORDER BY 1`, name)
	if err == nil {
		p.Tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PublishedTable])
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	return p, nil
}
