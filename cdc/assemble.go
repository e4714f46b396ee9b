package cdc

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"github.com/jackc/pglogrepl"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// shapes tells what a Relation message does not: a table's primary key and
// how values of its types are printed.
type shapes interface {
	// primaryKey is empty when the table has none.
	primaryKey(ctx context.Context, n name) ([]string, error)
	types(ctx context.Context, oids []uint32) ([]pgjson.Type, error)
	// reread reads one column of a row as it stands now, as PostgreSQL prints
	// it, once the transaction is seen. The error is errRowGone, errNoValue, or
	// the database's.
	reread(ctx context.Context, xid uint32, n name, key []keyValue, column string) (text []byte, null bool, err error)
	// describe makes of the catalogs what a Relation message tells.
	describe(ctx context.Context, t *table) (r *relation, columns []string, err error)
	// ask asks a table's query about rows, once the transaction is seen. There
	// is an answer for each key, nil where the row does not exist any more. The
	// error is ErrMapping when it is the query's own.
	ask(ctx context.Context, q question) ([]*answer, error)
}

// keyValue is one column of a row's key, its value as PostgreSQL prints it.
type keyValue struct{ column, text string }

// assembler makes commits of the stream's messages. One goroutine owns it.
type assembler struct {
	tables    map[name]*table
	queried   []*table // those whose tags a query tells, as configured
	shapes    shapes
	source    journal.Source // tells the epoch of each commit
	epoch     uint16         // of the open transaction
	metrics   *metrics
	log       *slog.Logger // nil: nothing is logged
	journal   Journal
	relations map[uint32]shape // by the server's number

	open       *journal.Commit // the transaction being read, without what was spooled; nil between two
	xid        uint32          // its number
	bytes      int             // about what its messages take
	repeat     bool            // the journal has the open transaction for certain
	ordinal    uint32          // of the next row change in it
	rows       rowBook
	values     rowValues // for the row that is read
	states     slab[rowState]
	deleted    map[string]deletion // by row key, in the open transaction since it was last spooled
	awaiting   awaiting            // what of it needs the answers of a query first
	unreadable unreadable
	moved      int         // how many more rows wait since the last commit
	waited     bool        // it made some wait, or wait for another time
	due        journal.LSN // the last commit at which those that were due went out
	backfilled journal.LSN // position of the snapshot that was backfilled from; 0: none was
	released   instant     // its time; of what the journal has when nothing was read yet
}

// shape is what a Relation message said: of a mapped table, either its
// relation, or why the mapping no longer fits, and of a link table whose tags
// it changes. None of them: a table that the configuration does not name.
type shape struct {
	relation *relation
	misfit   error // told when a new row needs the mapping, not before
	ties     []tie
}

func (s shape) mapped() bool { return s.relation != nil || s.misfit != nil }

func newAssembler(tables []*table, s shapes, source journal.Source, j Journal, m *metrics) *assembler {
	a := &assembler{
		tables:    make(map[name]*table),
		shapes:    s,
		source:    source,
		epoch:     source.Epoch,
		metrics:   m,
		journal:   j,
		relations: make(map[uint32]shape),
		rows:      rowBook{journal: j, epoch: source.Epoch},
	}
	for _, t := range tables {
		a.tables[t.name] = t
		if t.query != nil {
			a.queried = append(a.queried, t)
		}
	}
	return a
}

// step takes the stream's next message. done is the transaction that it
// completes, if it does; idle is, when not 0, a position up to which the server
// has sent everything.
func (a *assembler) step(ctx context.Context, m pglogrepl.Message) (done *journal.Commit, idle journal.LSN, err error) {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		return nil, 0, a.begin(m)
	case *pglogrepl.CommitMessage:
		done, err = a.commit(ctx, m)
		return done, 0, err
	case *pglogrepl.RelationMessage:
		return nil, 0, a.relation(ctx, m)
	case *pglogrepl.InsertMessage:
		return nil, 0, a.spillAfter(ctx, 1, a.insert(ctx, m))
	case *pglogrepl.UpdateMessage:
		return nil, 0, a.spillAfter(ctx, 1, a.update(ctx, m))
	case *pglogrepl.DeleteMessage:
		// A row that moves is deleted and inserted at once: not between the two.
		return nil, 0, a.spillAfter(ctx, 2, a.delete(ctx, m))
	case *pglogrepl.TruncateMessage:
		return nil, 0, a.truncate(ctx, m)
	case *pglogrepl.LogicalDecodingMessage:
		if m.Transactional && m.Prefix == duePrefix {
			return nil, 0, a.release(ctx)
		}
		// Outside of a transaction it stands where the server has come to: all
		// that committed before it was sent before it.
		if a.open == nil && !m.Transactional {
			return nil, journal.LSN(m.LSN), nil
		}
	}
	return nil, 0, nil // Type and Origin change nothing here
}

func (a *assembler) begin(m *pglogrepl.BeginMessage) error {
	if a.open != nil {
		return fmt.Errorf("begin %s within transaction %s: %w", m.FinalLSN, a.open.LSN, ErrMalformed)
	}
	a.epoch = a.source.EpochAt(journal.LSN(m.FinalLSN))
	a.rows.epoch = a.epoch
	a.open = &journal.Commit{
		Epoch: a.epoch,
		LSN:   journal.LSN(m.FinalLSN),
		Time:  m.CommitTime.UTC(),
	}
	a.ordinal, a.xid = 0, m.Xid
	// Every confirmed position is the end of a record, so a commit record that
	// begins below it was read. Its rows are not mapped again: they may have a
	// shape from before a change that the configuration has followed.
	a.repeat = a.open.LSN < a.journal.Confirmed()
	return nil
}

func (a *assembler) commit(ctx context.Context, m *pglogrepl.CommitMessage) (*journal.Commit, error) {
	if a.open == nil || a.open.LSN != journal.LSN(m.CommitLSN) {
		return nil, fmt.Errorf("commit %s without its begin: %w", m.CommitLSN, ErrMalformed)
	}
	if err := a.resolve(ctx); err != nil {
		return nil, err
	}
	done := a.part()
	a.open = nil
	a.moved, a.waited = a.rows.waiting, a.rows.waited
	a.rows.waiting, a.rows.waited = 0, false
	if done.LSN < a.journal.Accepted() {
		a.moved = 0 // the journal has it, synced or not, and what waits there is counted
	}
	done.End = journal.LSN(m.TransactionEndLSN)
	a.metrics.transactions.Inc()
	return &done, nil
}

// A transaction that grows beyond one of these goes to the journal in parts, so
// that memory does not grow with it. They are large enough that what editors
// do stays one part: only within a part are a deletion and an insertion of the
// same row one change.
const (
	spoolMessages = 5000
	spoolBytes    = 4 << 20
)

// spillAfter gives the journal what the open transaction holds once that is so
// many times a part, unless the change before it has failed.
func (a *assembler) spillAfter(ctx context.Context, parts int, err error) error {
	if err != nil || a.open == nil {
		return err
	}
	if max(len(a.open.Messages), a.rows.changed.len(), len(a.rows.beside))+a.awaiting.size() < parts*spoolMessages && a.bytes+a.awaiting.bytes < parts*spoolBytes {
		return nil
	}
	if err := a.resolve(ctx); err != nil {
		return err
	}
	return a.spill(ctx, math.MaxUint32)
}

// spill gives the journal what the open transaction holds, of the messages
// those whose ordinals are below one.
func (a *assembler) spill(ctx context.Context, below uint32) error {
	late := a.sorted(below)
	keep := slices.Clone(a.open.Messages[late:])
	a.open.Messages = a.open.Messages[:late]
	if err := a.journal.Spool(ctx, a.part()); err != nil {
		return fmt.Errorf("store transaction %s: %w", a.open.LSN, err)
	}
	a.open.Spooled++
	a.open.Messages = make([]journal.Message, 0, spoolMessages) // more is likely to follow
	for _, m := range keep {
		a.add(m)
	}
	a.awaiting.answered = below != math.MaxUint32 // more comes before those that stay
	return nil
}

// sorted puts the messages in order, and tells how many are below an ordinal.
func (a *assembler) sorted(below uint32) int {
	if a.awaiting.answered { // behind others that have not waited
		slices.SortFunc(a.open.Messages, func(m, n journal.Message) int { return m.ID.Compare(n.ID) })
		a.awaiting.answered = false
	}
	n, _ := slices.BinarySearchFunc(a.open.Messages, below, func(m journal.Message, below uint32) int { return cmp.Compare(m.ID.Ordinal, below) })
	return n
}

// part takes out of the open transaction what it holds.
func (a *assembler) part() journal.Commit {
	a.sorted(0)
	part := *a.open
	part.Messages = slices.DeleteFunc(part.Messages, func(m journal.Message) bool { return m.Action == "" })
	part.Rows = a.rows.take()
	a.open.Messages, a.bytes, a.deleted = nil, 0, nil
	return part
}

// add puts a message into the open transaction.
func (a *assembler) add(m journal.Message) {
	const rest = 256 // everything but key and data
	a.open.Messages = append(a.open.Messages, m)
	a.bytes += rest + len(m.Key) + len(m.Data)
}

// relation learns a table's shape, which the server sends before the first row
// and after every change of it.
func (a *assembler) relation(ctx context.Context, m *pglogrepl.RelationMessage) error {
	n := name{m.Namespace, m.RelationName}
	ties := a.tie(n, m)
	t := a.tables[n]
	if t == nil {
		a.relations[m.RelationID] = shape{ties: ties}
		return nil
	}
	delete(a.awaiting.described, t)
	var oids []uint32
	for _, c := range m.Columns {
		oids = append(oids, c.DataType)
	}
	types, err := a.shapes.types(ctx, oids)
	if err != nil {
		return fmt.Errorf("load types of %s: %w", t.name, err)
	}
	var key []string
	// With the default identity the marked columns are the primary key, as of
	// this very point of the stream; the catalog knows only today's.
	if !marksKey(m) {
		if key, err = a.shapes.primaryKey(ctx, t.name); err != nil {
			return fmt.Errorf("load primary key of %s: %w", t.name, err)
		}
	}
	r, err := t.resolve(m, key, types)
	if err == nil {
		r.oddValue = a.metrics.oddValues.Inc
	} else {
		err = fmt.Errorf("%w;"+goOn, err)
	}
	a.relations[m.RelationID] = shape{relation: r, misfit: err, ties: ties}
	return nil
}

func marksKey(m *pglogrepl.RelationMessage) bool {
	if m.ReplicaIdentity != 'd' {
		return false
	}
	for _, c := range m.Columns {
		if c.Flags&1 != 0 {
			return true
		}
	}
	return false
}

// change counts one row change and finds its table.
func (a *assembler) change(relation uint32) (s shape, ordinal uint32, err error) {
	if a.open == nil {
		return s, 0, fmt.Errorf("row change outside of a transaction: %w", ErrMalformed)
	}
	s, known := a.relations[relation]
	if !known {
		return s, 0, fmt.Errorf("row of relation %d, which the stream has not described: %w", relation, ErrMalformed)
	}
	switch {
	case !s.mapped() && len(s.ties) == 0:
		a.count(rowUnmapped)
	case a.repeat:
		a.count(rowRepeated)
	case !s.mapped():
		a.count(rowLink)
	}
	return s, a.next(), nil
}

// next takes an ordinal.
func (a *assembler) next() uint32 {
	a.ordinal++
	return a.ordinal - 1
}

func (a *assembler) count(fate rowFate) { a.metrics.fates[fate].Inc() }

func (a *assembler) skippedTag(why tagFate) {
	a.metrics.tagsSkipped.WithLabelValues(string(why)).Inc()
}
