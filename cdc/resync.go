package cdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"newswire/cdc/pgjson"
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
// rows silently, as at a first start.
func Resync(ctx context.Context, cfg Config, j Journal, progress func(string)) error {
	tables, err := cfg.compile()
	if err != nil {
		return err
	}
	c := &catalog{cfg: cfg}
	defer c.close()
	r := &resync{cfg, tables, j, c, newMetrics(prometheus.NewRegistry()), progress}
	conn, err := connectReplication(ctx, cfg.DSN)
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
	if err := r.mark(ctx); err != nil {
		return err
	}
	if err := r.dropSlot(ctx); err != nil {
		return err
	}
	at, snapshot, err := r.createSlot(ctx, conn)
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("Replication slot %q was made anew at %s.", cfg.Slot, at))
	source := r.source(who, at)
	if _, began := j.Source(); !began {
		source.Filled = at
		err = r.learn(ctx, snapshot, at)
	} else {
		err = r.compare(ctx, source, snapshot, at)
	}
	if err != nil {
		return err
	}
	if err := j.Rebase(ctx, source, at); err != nil {
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

// dropSlot removes the old slot, if there is one.
func (r *resync) dropSlot(ctx context.Context) error {
	for deadline := time.Now().Add(slotPatience); ; {
		s, err := r.catalog.slot(ctx)
		if err != nil || !s.exists {
			return err
		}
		if err := s.misfit(r.cfg.Slot); err != nil {
			return err
		}
		if !s.active {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("replication slot %q is being read by the PostgreSQL process %d; end its reader, then run `newswire resync` again", r.cfg.Slot, s.activePID)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
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
	now.Slot = r.cfg.Slot
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

// compareStep and compareBytes are how many messages, and of what size, are
// journaled together: well within one transaction of the journal.
const (
	compareStep  = 500
	compareBytes = 1 << 20
)

// compare journals what differs, table by table.
func (r *resync) compare(ctx context.Context, source journal.Source, snapshot string, at journal.LSN) error {
	a := newAssembler(r.tables, r.catalog, source, r.journal, r.metrics)
	if err := a.recall(); err != nil {
		return err
	}
	// A commit record may begin exactly at the slot's position; one byte before
	// it no other message has its id.
	now, err := r.catalog.now(ctx)
	if err != nil {
		return err
	}
	a.open = &journal.Commit{Epoch: source.Epoch, LSN: at - 1, End: at, Time: now, Part: true}
	for _, t := range r.tables {
		c := &comparison{assembler: a, journal: r.journal, table: t, seen: make(map[uint64]struct{})}
		if err := c.run(ctx, r, snapshot); err != nil {
			return fmt.Errorf("compare %s with the journal: %w", t.name, err)
		}
		r.progress(fmt.Sprintf("%s: %d rows compared, %d messages made.", t.name, c.rows, c.messages))
	}
	return nil
}

// comparison is that of one table.
type comparison struct {
	assembler *assembler
	journal   Journal
	table     *table
	rows      int
	messages  int
	seen      map[uint64]struct{} // hashes of the published rows' keys
}

func (c *comparison) run(ctx context.Context, r *resync, snapshot string) error {
	rel, columns, err := r.catalog.describe(ctx, c.table)
	if err != nil {
		return err
	}
	if len(rel.key) == 0 {
		return errors.New("the table has no primary key, so its rows cannot be told apart; add one")
	}
	rel.oddValue = r.metrics.oddValues.Inc
	conn, err := connectAs(ctx, r.cfg.DSN, pgjson.Settings)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	results, err := selectRows(ctx, conn, c.table, rel, columns, snapshot, nil)
	if err != nil {
		return err
	}
	for results.NextResult() {
		for rows := results.ResultReader(); rows.NextRow(); {
			if err := c.row(ctx, selected(rel, rows.Values())); err != nil {
				return errors.Join(err, results.Close())
			}
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if err := c.gone(ctx, rel); err != nil {
		return err
	}
	return c.flush(ctx)
}

// row compares one row of the table.
func (c *comparison) row(ctx context.Context, v *rowValues) error {
	c.rows++
	a, rel := c.assembler, v.relation
	key, err := rel.rowKey(v.row)
	if err != nil {
		return err
	}
	was, err := a.rows.get(key, a.open.LSN)
	if err != nil {
		return err
	}
	v.was, v.at = was, a.now()
	next, err := v.article(a.skippedTag)
	if err != nil {
		return err
	}
	if next != nil {
		c.seen[xxhash.Sum64(key)] = struct{}{}
	}
	return c.decide(ctx, rel, key, was, next)
}

// gone retracts the rows that are remembered and were not seen.
func (c *comparison) gone(ctx context.Context, rel *relation) error {
	a := c.assembler
	return a.rows.of(c.table.name, a.open.LSN, func(key []byte, was *rowState) error {
		if _, seen := c.seen[xxhash.Sum64(key)]; seen {
			return nil
		}
		return c.decide(ctx, rel, key, was, nil)
	})
}

// decide makes the message, if any, and journals a step's worth of them. The
// ordinal counts what was compared, whether it makes a message or not.
func (c *comparison) decide(ctx context.Context, rel *relation, key []byte, was *rowState, next *article) error {
	a := c.assembler
	ordinal := a.ordinal
	a.ordinal++
	if err := a.decide(rel, key, was, next, ordinal); err != nil {
		return err
	}
	if max(len(a.open.Messages), len(a.rows.changed)) < compareStep && a.bytes < compareBytes {
		return nil
	}
	return c.flush(ctx)
}

func (c *comparison) flush(ctx context.Context) error {
	a := c.assembler
	c.messages += len(a.open.Messages)
	return c.journal.Append(ctx, a.part())
}
