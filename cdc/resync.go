package cdc

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"newswire/fanout/journal"
)

// resync mends a gap: it replaces the slot and compares the tables, as of the
// new slot's snapshot, with what the journal remembers of their rows.
type resync struct {
	cfg      Config
	tables   []*table
	journal  Journal
	catalog  *catalog
	metrics  *metrics
	progress func(string) // told a sentence at each step
}

// Resync replaces the slot and makes up for what was never read: a row that
// the journal does not know becomes a publish, one that differs a correct, one
// that is gone a retract. Nothing else may read the slot. It can be stopped and
// run again: what it has journaled is known then. An empty journal learns the
// rows silently, as at a first start, and keeps the slot if it can be read:
// what that has not given yet is news still.
func Resync(ctx context.Context, cfg Config, j Journal, progress func(string)) error {
	tables, err := cfg.compile()
	if err != nil {
		return err
	}
	c := &catalog{cfg: cfg}
	defer c.close()
	r := &resync{cfg, tables, j, c, newMetrics(prometheus.NewRegistry()), progress}
	conn, err := connectReplication(ctx, cfg.DSN, nil)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	who, err := identify(ctx, conn)
	if err != nil {
		return err
	}
	if err := r.mayRead(ctx); err != nil {
		return err
	}
	if err := j.DropSpool(ctx); err != nil {
		return err
	}
	old, err := r.freeSlot(ctx)
	if err != nil {
		return err
	}
	if _, began := j.Source(); !began && old.exists && !old.lost() {
		return r.keepSlot(ctx, conn, who, old)
	}
	return r.replaceSlot(ctx, conn, who, old)
}

// keepSlot begins an empty journal at a slot that others have read, or may have.
func (r *resync) keepSlot(ctx context.Context, conn *pgconn.PgConn, who server, old slotState) error {
	if err := old.on(who); err != nil {
		return err
	}
	snapshot, at, err := r.cfg.temporarySlot(ctx, conn)
	if pgCode(err) == codeTooManySlots {
		return fmt.Errorf("no replication slot is free for a moment, to learn what is published; raise max_replication_slots, then run `newswire resync` again: %w", err)
	}
	if err != nil {
		return err
	}
	r.progress(fmt.Sprintf("The journal is empty: it begins where replication slot %q stands, at %s, and gets what that has not given yet.", r.cfg.Slot, old.confirmed))
	source := who.begin(r.cfg.Slot, firstEpoch)
	source.Filled = at
	if err := r.learn(ctx, snapshot, at); err != nil {
		return err
	}
	return r.begin(ctx, source, old.confirmed)
}

// replaceSlot begins, or goes on, at a slot that it makes.
func (r *resync) replaceSlot(ctx context.Context, conn *pgconn.PgConn, who server, old slotState) error {
	if err := r.mark(ctx); err != nil {
		return err
	}
	if err := r.dropSlot(ctx, old); err != nil {
		return err
	}
	at, snapshot, err := r.createSlot(ctx, conn)
	if err != nil {
		return err
	}
	r.progress(fmt.Sprintf("Replication slot %q was made anew at %s.", r.cfg.Slot, at))
	source := r.source(who, at)
	if _, began := r.journal.Source(); began {
		err = r.compare(ctx, source, snapshot, at)
	} else {
		source.Filled = at
		was := "was lost"
		if !old.exists {
			was = "did not exist"
		}
		r.progress(fmt.Sprintf("The journal is empty and the slot %s: what was committed before %s is not delivered, what is published of it is only known.", was, at))
		err = r.learn(ctx, snapshot, at)
	}
	if err != nil {
		return err
	}
	return r.begin(ctx, source, at)
}

// begin lets the journal go on from a slot's position.
func (r *resync) begin(ctx context.Context, source journal.Source, at journal.LSN) error {
	if err := r.journal.Rebase(ctx, source, at); err != nil {
		return fmt.Errorf("record source: %w", err)
	}
	return nil
}

// mayRead makes sure, before anything is replaced, that the tables can be
// compared.
func (r *resync) mayRead(ctx context.Context) error {
	if err := r.published(ctx); err != nil {
		return err
	}
	for _, t := range r.tables {
		_, columns, err := r.catalog.describe(ctx, t)
		if err != nil {
			return err
		}
		var list []string
		for _, column := range columns {
			list = append(list, pgx.Identifier{column}.Sanitize())
		}
		err = r.catalog.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SELECT "+strings.Join(list, ", ")+" FROM "+t.name.quoted()+" LIMIT 0")
			return err
		})
		if pgCode(err) == codeInsufficientPrivilege {
			return fmt.Errorf("the role may not read %s, so it cannot be compared; run `newswire setup --apply` without --minimal: %w", t.name, err)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
	}
	return nil
}

// published makes sure that the new slot can be read: what is committed before
// its publication and its tables are there never can.
func (r *resync) published(ctx context.Context) error {
	l := &Listener{cfg: r.cfg, tables: r.tables}
	missing, err := l.lacking(ctx, r.catalog)
	switch {
	case err != nil:
		return fmt.Errorf("read what publication %q carries: %w", r.cfg.Publication, err)
	case missing.publication:
		return fmt.Errorf("publication %q does not exist; run `newswire setup --apply`, then `newswire resync`", r.cfg.Publication)
	case len(missing.tables) > 0:
		return fmt.Errorf("publication %q does not carry %s; run `newswire setup --apply`, then `newswire resync`", r.cfg.Publication, strings.Join(missing.tables, ", "))
	}
	return nil
}

// mark records that the journal follows no slot until the resync has ended. The
// new one's position alone does not tell: of a server that was set back it is one
// that the journal has read.
func (r *resync) mark(ctx context.Context) error {
	known, began := r.journal.Source()
	if !began {
		return nil
	}
	known.Slot = ""
	if err := r.journal.SetSource(ctx, known); err != nil {
		return fmt.Errorf("record that a resync has begun: %w", err)
	}
	return nil
}

// slotPatience is how long a slot may still be held by a connection that ends.
const slotPatience = 10 * time.Second

// freeSlot gives the old slot, if there is one, once nobody reads it.
func (r *resync) freeSlot(ctx context.Context) (s slotState, err error) {
	for deadline := time.Now().Add(slotPatience); ; {
		s, err = r.catalog.slot(ctx)
		if err != nil || !s.exists {
			return s, err
		}
		if err := s.misfit(r.cfg.Slot); err != nil {
			return s, err
		}
		if !s.active {
			return s, nil
		}
		if time.Now().After(deadline) {
			return s, fmt.Errorf("replication slot %q is being read by the PostgreSQL process %d; end its reader, then run `newswire resync` again", r.cfg.Slot, s.activePID)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return s, ctx.Err()
		}
	}
}

// dropSlot removes the old slot, if there is one.
func (r *resync) dropSlot(ctx context.Context, old slotState) error {
	if !old.exists {
		return nil
	}
	err := r.catalog.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", r.cfg.Slot)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop slot %q: %w", r.cfg.Slot, err)
	}
	return nil
}

// createSlot makes the new slot; its snapshot lives as long as conn does
// nothing else.
func (r *resync) createSlot(ctx context.Context, conn *pgconn.PgConn) (at journal.LSN, snapshot string, err error) {
	command := "CREATE_REPLICATION_SLOT " + pgx.Identifier{r.cfg.Slot}.Sanitize() + " LOGICAL pgoutput EXPORT_SNAPSHOT"
	if serverMajor(conn) >= 17 { // as setup makes it: standbys keep it too
		command = "CREATE_REPLICATION_SLOT " + pgx.Identifier{r.cfg.Slot}.Sanitize() + " LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER 'true')"
	}
	made, err := pglogrepl.ParseCreateReplicationSlot(conn.Exec(ctx, command))
	if err != nil {
		return 0, "", fmt.Errorf("create slot %q: %w", r.cfg.Slot, err)
	}
	lsn, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return 0, "", fmt.Errorf("create slot %q: position %q: %w", r.cfg.Slot, made.ConsistentPoint, err)
	}
	return journal.LSN(lsn), made.SnapshotName, nil
}

func serverMajor(conn *pgconn.PgConn) int {
	major, _, _ := strings.Cut(conn.ParameterStatus("server_version"), ".")
	n, _ := strconv.Atoi(strings.TrimFunc(major, func(c rune) bool { return c < '0' || c > '9' }))
	return n
}

// source is the history from now on. Where its positions cannot be compared
// with the journal's, it is a new epoch.
func (r *resync) source(who server, at journal.LSN) journal.Source {
	known, began := r.journal.Source()
	if !began {
		return who.begin(r.cfg.Slot, firstEpoch)
	}
	accepted := r.journal.Accepted()
	now, err := who.succeed(known, accepted)
	if err != nil || at <= accepted {
		return who.begin(r.cfg.Slot, known.Epoch+1)
	}
	now.Slot, now.Away = r.cfg.Slot, nil
	return now
}

// learn remembers the published rows without a word to readers.
func (r *resync) learn(ctx context.Context, snapshot string, at journal.LSN) error {
	l := &Listener{cfg: r.cfg, journal: r.journal, metrics: r.metrics, log: slog.New(slog.DiscardHandler)}
	now, err := r.catalog.now(ctx)
	if err != nil {
		return err
	}
	for _, t := range r.tables {
		n, err := l.fillTable(ctx, r.catalog, t, fillFrom{snapshot: snapshot, at: at, now: now})
		if err != nil {
			return fmt.Errorf("read %s as of the snapshot: %w", t.name, err)
		}
		r.progress(fmt.Sprintf("%s: %d published rows are known now.", t.name, n))
	}
	return nil
}
