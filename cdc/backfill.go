package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// A backfill tells at the first start what became news in the last hours, so
// that readers find today's news. Its messages stand before everything that the
// slot brings: their ids have the position just before the slot's, and their
// places in the order of the times. It can be killed and goes on at the next
// start: a row that was told has its state, and that is one with its message.
//
// The snapshot that it reads is younger than the slot. What the stream then
// tells of a row that was backfilled, up to the snapshot's position, the
// snapshot knew already: it is absorbed.

// progress is the record of a backfill.
type progress struct {
	since instant     // rows that became news behind it are told
	at    journal.LSN // of the latest snapshot; 0: nothing was begun
	next  uint32      // ordinal
}

var progressKey = []byte("\x00backfill\x00")

func (p progress) row() journal.Row {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.since))
	b = binary.BigEndian.AppendUint64(b, uint64(p.at))
	return journal.Row{Key: progressKey, State: binary.BigEndian.AppendUint32(b, p.next)}
}

func readProgress(j Journal) (p progress, err error) {
	record, ok, err := j.Row(progressKey)
	switch {
	case err != nil || !ok:
		return p, err
	case len(record) != 20:
		return p, fmt.Errorf("progress of the backfill: %w", errRowState)
	}
	p.since = instant(binary.BigEndian.Uint64(record))
	p.at = journal.LSN(binary.BigEndian.Uint64(record[8:]))
	p.next = binary.BigEndian.Uint32(record[16:])
	return p, nil
}

// backfill is one run of it.
type backfill struct {
	journal  Journal
	now      instant
	before   journal.LSN // where the slot stands
	resumed  bool
	progress progress
}

// beginBackfill takes up a backfill where it was left, or begins it. It is nil
// when nothing is to be told.
func (l *Listener) beginBackfill(ctx context.Context, at, before journal.LSN, now time.Time) (*backfill, error) {
	if l.cfg.Backfill == 0 {
		return nil, nil
	}
	p, err := readProgress(l.journal)
	if err != nil {
		return nil, err
	}
	b := &backfill{journal: l.journal, now: instantOf(now), before: before, resumed: p.at > 0, progress: p}
	if !b.resumed {
		b.progress.since = instantOf(now.Add(-l.cfg.Backfill))
	}
	b.progress.at = at
	err = l.journal.FillRows(ctx, func(yield func(journal.Row) bool) { yield(b.progress.row()) })
	return b, err
}

// takes tells whether a row is one that the backfill tells, or has told.
func (b *backfill) takes(v *rowValues, a *article, key []byte) (bool, error) {
	if b == nil || a.waits() {
		return false, nil
	}
	if since, ok := v.since(); ok && since > b.progress.since && since <= b.now {
		return true, nil
	}
	return b.told(key)
}

// told tells whether a message of an earlier run was about the row.
func (b *backfill) told(key []byte) (bool, error) {
	if !b.resumed {
		return false, nil
	}
	raw, ok, err := b.journal.Row(key)
	if err != nil || !ok {
		return false, err
	}
	s, err := decodeRowState(raw)
	if err != nil {
		return false, fmt.Errorf("row %q: %w", key, err)
	}
	return !s.id.IsZero(), nil
}

// since tells since when the row is news, where a column says so.
func (v *rowValues) since() (since instant, ok bool) {
	i := v.relation.since
	if i < 0 || v.row.Columns[i].DataType != pglogrepl.TupleDataTypeText {
		return 0, false
	}
	return parseInstant(v.row.Columns[i].Data)
}

// recent is one table's rows of the backfill, in the order of their times.
type recent struct {
	relation *relation
	conn     *pgconn.PgConn
	results  *pgconn.MultiResultReader
	rows     *pgconn.ResultReader // nil before the first row

	// The next row; article is nil behind the last.
	since   instant
	article *article
	key     []byte
}

// run tells the rows of all tables, in the order of their times.
func (b *backfill) run(ctx context.Context, l *Listener, c *catalog, snapshot string) (n int, err error) {
	var open []*recent
	defer func() {
		for _, r := range open {
			hangUp(r.conn)
		}
	}()
	for _, t := range l.tables {
		r, err := b.open(ctx, l, c, t, snapshot)
		if pgCode(err) == codeInsufficientPrivilege && t.query == nil {
			continue // was told
		}
		if err != nil {
			return 0, fmt.Errorf("read %s as of the snapshot: %w", t.name, err)
		}
		if r != nil {
			open = append(open, r)
		}
	}
	part := &backfillPart{backfill: b}
	for {
		var first *recent
		for _, r := range open {
			if r.article != nil && (first == nil || r.since < first.since) {
				first = r
			}
		}
		if first == nil {
			return n, part.flush(ctx)
		}
		n++
		if err := part.add(ctx, first); err != nil {
			return n, err
		}
		if err := first.next(b); err != nil {
			return n, fmt.Errorf("read %s as of the snapshot: %w", first.relation.table.name, err)
		}
	}
}

// open begins to read a table; nil for one whose rows have no time, or no key.
func (b *backfill) open(ctx context.Context, l *Listener, c *catalog, t *table, snapshot string) (*recent, error) {
	r, columns, err := c.describe(ctx, t)
	if err != nil || len(r.key) == 0 {
		return nil, err
	}
	if r.since < 0 {
		l.log.WarnContext(ctx, "a table does not tell since when its rows are news, so none is backfilled; name the column in its key time", "table", t.name.String())
		return nil, nil
	}
	r.oddValue = l.metrics.oddValues.Inc
	conn, err := connectAs(ctx, l.cfg.DSN, pgjson.Settings)
	if err != nil {
		return nil, err
	}
	of := &recent{relation: r, conn: conn}
	of.results, err = selectRows(ctx, conn, t, r, columns, snapshot, &window{columns[r.since], b.progress.since, b.now})
	if err == nil {
		err = of.next(b)
	}
	if err != nil {
		hangUp(conn)
		return nil, err
	}
	return of, nil
}

// next reads on to the next row that is to be told.
func (r *recent) next(b *backfill) error {
	r.article = nil
	if r.rows == nil {
		if !r.results.NextResult() {
			return r.results.Close()
		}
		r.rows = r.results.ResultReader()
	}
	for r.rows.NextRow() {
		v := selected(r.relation, r.rows.Values())
		v.at = b.now
		since, ok := v.since()
		if !ok || since <= b.progress.since || since > b.now {
			continue
		}
		a, err := v.article(func(tagFate) {})
		if err != nil {
			return errors.Join(err, r.results.Close())
		}
		if a == nil || a.waits() {
			continue
		}
		key := rowKey(r.relation.table.name, a.key)
		if told, err := b.told(key); err != nil {
			return err
		} else if told {
			continue
		}
		r.since, r.article, r.key = since, a, key
		return nil
	}
	return r.results.Close()
}

// backfillPart is what of a backfill is journaled together.
type backfillPart struct {
	*backfill
	commit journal.Commit
	bytes  int
}

// add puts a row's message and its state into the part.
func (p *backfillPart) add(ctx context.Context, r *recent) error {
	a := r.article
	id := journal.ID{Epoch: firstEpoch, LSN: p.before - 1, Ordinal: p.progress.next}
	p.progress.next++
	state := &rowState{id: id, filled: p.progress.at, hashes: a.hashes, tags: a.tags}
	p.commit.Messages = append(p.commit.Messages, journal.Message{
		ID: id, Action: journal.Publish, Tags: a.tags, Source: r.relation.table.name.String(), Key: a.key,
		Time: r.since.time(), Data: a.data, Truncated: a.truncated, Backfilled: true,
	})
	p.commit.Rows = append(p.commit.Rows, journal.Row{Key: r.key, State: state.encode()})
	if p.bytes += len(a.data); len(p.commit.Messages) < compareStep && p.bytes < compareBytes {
		return nil
	}
	return p.flush(ctx)
}

func (p *backfillPart) flush(ctx context.Context) error {
	if len(p.commit.Messages) == 0 {
		return nil
	}
	c := p.commit
	p.commit, p.bytes = journal.Commit{}, 0
	c.Epoch, c.LSN, c.Part = firstEpoch, p.before-1, true
	c.Time = c.Messages[len(c.Messages)-1].Time
	c.Rows = append(c.Rows, p.progress.row())
	return p.journal.Append(ctx, c)
}

// absorb takes out of a change what the snapshot of the backfill knew already.
func (a *assembler) absorb(c *change) error {
	if a.open.LSN >= a.backfilled || a.epoch != firstEpoch {
		return nil
	}
	for _, key := range []*[]byte{&c.left, &c.key} {
		if *key == nil {
			continue
		}
		raw, ok, err := a.journal.Row(*key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		s, err := decodeRowState(raw)
		if err != nil {
			return fmt.Errorf("row %q: %w", *key, err)
		}
		if s.id.IsZero() || s.filled <= a.open.LSN {
			continue
		}
		a.count(rowUnchanged)
		*key = nil
	}
	if c.key == nil {
		c.row, c.inserted = nil, false
	}
	return nil
}
