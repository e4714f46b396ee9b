package slot

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/publication"
	"newswire/fanout/journal"
)

// Create makes the slot behind its publication, as the listener needs it:
// pgoutput, in this database, on version 17 and newer one that a standby can
// take over. A slot that stands so already is left alone; any other is an error.
func Create(ctx context.Context, conn *pgx.Conn, name, publication string) (created bool, err error) {
	s, err := Read(ctx, conn, name, publication)
	switch {
	case errors.Is(err, ErrMissing):
	case err != nil:
		return false, err
	default:
		return false, s.unwanted()
	}
	p, err := readPublication(ctx, conn, publication, s.Version)
	switch {
	case err != nil:
		return false, err
	case p == nil:
		return false, fmt.Errorf("publication %q does not exist, and a slot cannot read changes older than its publication; run `newswire setup --apply`", publication)
	}
	create := "SELECT pg_catalog.pg_create_logical_replication_slot($1::name, 'pgoutput')"
	if s.Version >= version17 {
		create = "SELECT pg_catalog.pg_create_logical_replication_slot($1::name, 'pgoutput', failover => true)"
	}
	if _, err := conn.Exec(ctx, create, name); err != nil {
		return false, fmt.Errorf("create slot %q: %w", name, err)
	}
	return true, note(ctx, conn, name, publication)
}

// note keeps where the slot was made with a publication of setup's. Only the
// publication's owner may; for others the old note stays, and an empty journal
// then takes the slot for one that was read before.
func note(ctx context.Context, conn *pgx.Conn, name, from string) error {
	var marked bool
	err := conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.starts_with(pg_catalog.obj_description(oid, 'pg_publication'), $2), false)
		FROM pg_catalog.pg_publication WHERE pubname = $1::text`, from, publication.Mark).Scan(&marked)
	if err == nil && marked {
		_, err = conn.Exec(ctx, publication.NoteSlot(from, name))
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == "42501" {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("note where slot %q was made: %w", name, err)
	}
	return nil
}

// FailoverRemedy says how a slot becomes one that a standby can take over: SQL
// has nothing for it.
func FailoverRemedy(name string) string {
	return fmt.Sprintf("while nobody reads it run psql 'dbname=… replication=database' -c 'ALTER_REPLICATION_SLOT %s (FAILOVER true)'", name)
}

// unwanted tells why a slot that exists cannot serve, or is nil.
func (s Status) unwanted() error {
	switch {
	case s.Plugin != "pgoutput":
		return fmt.Errorf("replication slot %q exists with the plugin %q, not pgoutput; choose another name in postgres.slot", s.Name, s.Plugin)
	case !s.Here:
		return fmt.Errorf("replication slot %q exists in database %q; choose another name in postgres.slot", s.Name, s.Database)
	case s.Lost():
		return fmt.Errorf("replication slot %q exists, but is lost; run `newswire resync`", s.Name)
	case s.Enabled != nil && !*s.Enabled && !s.Recovery:
		return fmt.Errorf("replication slot %q exists without failover; %s", s.Name, FailoverRemedy(s.Name))
	}
	return nil
}

// ErrActive reports a slot that somebody reads.
var ErrActive = errors.New("replication slot is being read")

// changeable refuses a slot that is being read, or is not for this database.
func (s Status) changeable() error {
	switch {
	case s.Reader != nil:
		reader := "the PostgreSQL process " + fmt.Sprint(s.Reader.PID)
		if s.Reader.Application != "" {
			reader += " for " + s.Reader.Application
		}
		return fmt.Errorf("%w: %q by %s; stop the engine first", ErrActive, s.Name, reader)
	case !s.Here:
		return fmt.Errorf("replication slot %q belongs to database %q; name that one in postgres.dsn", s.Name, s.Database)
	}
	return nil
}

// CheckDrop tells why the slot cannot be dropped, or is nil.
func (s Status) CheckDrop() error { return s.changeable() }

// Drop removes the slot, and with it the log that it keeps.
func (s Status) Drop(ctx context.Context, conn *pgx.Conn) error {
	if err := s.CheckDrop(); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1::name)", s.Name); err != nil {
		return fmt.Errorf("drop slot %q: %w", s.Name, err)
	}
	return nil
}

// CheckAdvance tells why the slot cannot be moved to the position, or is nil.
func (s Status) CheckAdvance(to journal.LSN) error {
	if err := s.changeable(); err != nil {
		return err
	}
	switch {
	case s.Lost():
		return fmt.Errorf("replication slot %q is lost and cannot be moved; run `newswire resync`", s.Name)
	case to < s.Confirmed.LSN:
		return fmt.Errorf("replication slot %q stands at %s and cannot go back to %s; name a later position", s.Name, s.Confirmed, to)
	case to > s.Current.LSN:
		return fmt.Errorf("the server's log ends at %s, before %s; name a position up to there", s.Current, to)
	}
	return nil
}

// Advance moves the slot forward without reading what it passes. It gives the
// position at which the slot then stands.
func (s Status) Advance(ctx context.Context, conn *pgx.Conn, to journal.LSN) (LSN, error) {
	if err := s.CheckAdvance(to); err != nil {
		return LSN{}, err
	}
	var end int64
	err := conn.QueryRow(ctx, "SELECT (end_lsn - '0/0'::pg_lsn)::bigint FROM pg_catalog.pg_replication_slot_advance($1::name, $2::text::pg_lsn)",
		s.Name, to.String()).Scan(&end)
	if err != nil {
		return LSN{}, fmt.Errorf("advance slot %q to %s: %w", s.Name, to, err)
	}
	return at(end), nil
}
