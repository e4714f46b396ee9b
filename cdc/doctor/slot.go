package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/slot"
)

// examineSlot tells whether the slot can be read, and by whom it is.
func (e *examination) examineSlot(ctx context.Context) error {
	name := e.cfg.Slot
	s, err := slot.Read(ctx, e.conn, name, e.cfg.Publication)
	switch {
	case errors.Is(err, slot.ErrMissing) && e.journal > 0:
		e.fatal("slot", name, resyncRemedy,
			"the replication slot does not exist, and a new one has nothing of what was committed since %s, where the journal ends", e.journal)
		return nil
	case errors.Is(err, slot.ErrMissing):
		e.fatal("slot", name, setupRemedy, "the replication slot does not exist")
		return nil
	case err != nil:
		return err
	}
	e.slot = &s
	switch {
	case s.Plugin != "pgoutput":
		e.fatal("slot", name, "name another in postgres.slot and "+setupRemedy, "the replication slot has the plugin %q, not pgoutput", s.Plugin)
	case !s.Here:
		e.fatal("slot", name, "name another in postgres.slot and "+setupRemedy, "the replication slot belongs to database %q", s.Database)
	default:
		e.ok("slot", name, "the replication slot is pgoutput's, in this database")
	}
	switch {
	case s.Reader == nil:
		e.ok("slot-reader", name, "nobody reads the slot now")
	case s.Reader.Application == "newswire":
		e.ok("slot-reader", name, "the engine reads the slot, by PostgreSQL process %d", s.Reader.PID)
	default:
		e.warn("slot-reader", name, fmt.Sprintf("end that program; the last resort is SELECT pg_terminate_backend(%d)", s.Reader.PID),
			"%q reads the slot, by PostgreSQL process %d, and no engine can", s.Reader.Application, s.Reader.PID)
	}
	return nil
}

// kept tells what the slot keeps, and what it may, at the rate at which the
// server has written log since we began.
func (e *examination) kept(ctx context.Context) error {
	rate, err := e.first.Until(ctx, e.conn, e.cfg.RateOver)
	if err != nil {
		return err
	}
	if err := e.keepLimit(ctx, rate); err != nil || e.slot == nil {
		return err
	}
	e.slot.SetRate(rate)
	told := make(map[string]bool)
	for _, a := range e.slot.Alarms() {
		told[a.Check] = true
		if a.Level == slot.Fatal {
			e.fatal(a.Check, e.cfg.Slot, a.Remedy, "%s", a.Text)
		} else {
			e.warn(a.Check, e.cfg.Slot, a.Remedy, "%s", a.Text)
		}
	}
	if told["slot-wal"] && e.slot.Lost() {
		return nil // the rest is of no interest any more
	}
	spilled := int64(0)
	if e.slot.Spill != nil {
		spilled = e.slot.Spill.Bytes
	}
	for _, c := range []struct{ check, text string }{
		{"slot-spill", slot.Bytes(spilled) + " of large transactions were put on the server's disk while they were decoded"},
		{"slot-wal", fmt.Sprintf("wal_status is %s, %s of log kept", e.slot.WALStatus, slot.Bytes(e.slot.Retained))},
		{"slot-unread", slot.Bytes(e.slot.Unread) + " of log not read yet"},
		{"slot-catalog", fmt.Sprintf("vacuum of the system catalogs is held back for %d transactions", e.slot.CatalogXminAge)},
	} {
		if !told[c.check] {
			e.ok(c.check, e.cfg.Slot, "%s", c.text)
		}
	}
	return nil
}

// shortKeep is a time away that must not cost the slot.
const shortKeep = 10 * time.Minute

func (e *examination) keepLimit(ctx context.Context, rate float64) error {
	const check, setting = "wal-keep-limit", "max_slot_wal_keep_size"
	var megabytes int64
	if err := e.conn.QueryRow(ctx, "SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = $1::text", setting).Scan(&megabytes); err != nil {
		return err
	}
	pace := fmt.Sprintf("%s/s", slot.Bytes(int64(rate)))
	const remedy = "run ALTER SYSTEM SET max_slot_wal_keep_size = '…' and SELECT pg_reload_conf()"
	limit := megabytes << 20
	switch {
	case megabytes < 0:
		growth := ""
		if rate >= 1 {
			growth = fmt.Sprintf(", %s an hour at the present %s", slot.Bytes(int64(rate*3600)), pace)
		}
		e.warn(check, setting, remedy+", with less than the disk of pg_wal has free",
			"%s is -1: while the engine is away its slot keeps log until the disk of pg_wal is full%s", setting, growth)
	case rate > 0 && float64(limit)/rate < shortKeep.Seconds():
		e.warn(check, setting, remedy+", with more, as far as the disk of pg_wal has it",
			"%s is %s, which the present %s fill in %s: an engine that is away for longer loses its slot", setting, slot.Bytes(limit), pace,
			slot.Duration(time.Duration(float64(limit)/rate*float64(time.Second))))
	default:
		e.ok(check, setting, "a slot keeps at most %s", slot.Bytes(limit))
	}
	return nil
}

// failover examines what lets a standby go on with the slot.
func (e *examination) failover(ctx context.Context) error {
	const check = "slot-failover"
	if e.slot == nil || e.slot.Enabled == nil {
		return nil
	}
	name := e.cfg.Slot
	if !*e.slot.Enabled {
		e.warn(check, name, slot.FailoverRemedy(name),
			"the slot is not synchronised to standbys, so a failover ends in `newswire resync`")
		return nil
	}
	var standbys int
	var waited string
	err := e.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical'),
		current_setting('synchronized_standby_slots')`).Scan(&standbys, &waited)
	switch {
	case err != nil:
		return err
	case standbys > 0 && waited == "":
		e.warn(check, name, "name the slot of the standby that takes over in synchronized_standby_slots, and set sync_replication_slots and hot_standby_feedback there",
			"the slot fails over, but may then be ahead of the standby: synchronized_standby_slots is empty")
	default:
		e.ok(check, name, "a standby that synchronises slots can take it over")
	}
	return nil
}

// Bounds of the look into a slot: the changes that it cannot decode come first.
const (
	peekMost    = 100
	peekPatient = 5 * time.Second
)

// slotPublication looks for changes that the slot keeps from before its
// publication: no reader can decode them. A publication that was last altered
// before the slot's oldest transaction is older; else the slot itself is asked.
func (e *examination) slotPublication(ctx context.Context) error {
	const check = "slot-publication"
	if !e.replicates || e.slot == nil || e.pub == nil || e.slot.Plugin != "pgoutput" || !e.slot.Here || e.slot.Lost() {
		return nil // told already
	}
	var older bool
	err := e.conn.QueryRow(ctx, `SELECT pg_catalog.age(p.xmin) > pg_catalog.age(s.catalog_xmin)
		FROM pg_catalog.pg_publication p, pg_catalog.pg_replication_slots s WHERE p.pubname = $1::text AND s.slot_name = $2::text`,
		e.cfg.Publication, e.cfg.Slot).Scan(&older)
	switch {
	case err != nil:
		return err
	case older:
		e.ok(check, e.cfg.Slot, "the publication is older than what the slot keeps")
		return nil
	case e.slot.Reader != nil:
		e.ok(check, e.cfg.Slot, "the slot is being read, so its publication was there")
		return nil
	}
	unreadable, err := e.peek(ctx)
	switch {
	case errors.Is(err, slot.ErrNoRoom):
		e.warn(check, e.cfg.Slot, "raise max_replication_slots, and run `newswire doctor` again",
			"the slot may be older than publication %q, and could not be looked into: %v", e.cfg.Publication, err)
		return nil
	case err != nil:
		return err
	case unreadable:
		consequence := "at which every reader stops"
		if e.version >= version18 {
			consequence = "which PostgreSQL leaves out without a word"
		}
		e.fatal(check, e.cfg.Slot, fmt.Sprintf("run `newswire resync`; before the first start `newswire slot drop --confirm %s` and `newswire slot create` do", e.cfg.Slot),
			"the slot is older than publication %q, and keeps changes from before it, %s", e.cfg.Publication, consequence)
	default:
		e.ok(check, e.cfg.Slot, "what the slot keeps can be read by way of the publication")
	}
	return nil
}

// peek tells whether the first changes that the slot keeps are from before the
// publication. From version 18 on that is a warning of the server, no error.
func (e *examination) peek(ctx context.Context) (unreadable bool, err error) {
	c := e.conn.Config()
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		unreadable = unreadable || strings.Contains(n.Message, "publication")
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the server ends the session either way
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", peekPatient.Milliseconds())); err != nil {
			return err
		}
		return slot.Look(ctx, tx, e.cfg.Slot, func(ctx context.Context, tx pgx.Tx, copied string) error {
			_, err := tx.Exec(ctx, `SELECT count(*) FROM pg_catalog.pg_logical_slot_peek_binary_changes(
				$1::name, NULL, $2::int, 'proto_version', '1', 'publication_names', $3::text)`, copied, peekMost, e.quotedPublication())
			return err
		})
	})
	var refusal *pgconn.PgError
	switch {
	case err == nil:
		return unreadable, nil
	case errors.As(err, &refusal) && refusal.Code == codeUndefinedObject:
		return true, nil
	case errors.As(err, &refusal) && refusal.Code == codeQueryCanceled:
		return false, nil // so much could be decoded that the first of it was good
	}
	return false, err
}
