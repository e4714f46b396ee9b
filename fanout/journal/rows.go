package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/dgraph-io/badger/v4/y"
)

// Row is what the journal shall remember of a table's row from a commit on.
type Row struct {
	Key   []byte // the table and the row's key, as the caller makes it
	State []byte // nil forgets the row
}

// rowRecord is what is known of a row in one place: its own record, on disk or
// on its way there, or a set of states. Each state that is told of any row has a
// generation, and they grow in the order of the queue; that of a set is one of
// those that it holds. Where several places tell of a row, the latest counts: a
// record behind the sets up to its generation, and before those behind it.
type rowRecord struct {
	generation uint64
	state      []byte // nil: nothing is remembered of the row
}

// The first byte of a row's record.
const (
	recordRow  byte = 1 // generation and state follow
	recordGone byte = 2 // generation: until sets up to it are merged, the row must not come back from them
)

// rowKey is the key of a row's record.
func rowKey(key []byte) []byte { return spaceRows.Key(key...) }

func (r rowRecord) encode() []byte {
	kind := recordRow
	if r.state == nil {
		kind = recordGone
	}
	b := append(make([]byte, 0, 1+binary.MaxVarintLen64+len(r.state)), kind)
	return append(binary.AppendUvarint(b, r.generation), r.state...)
}

// decodeRow reads a row's record; the state is a slice of it.
func decodeRow(key, record []byte) (r rowRecord, err error) {
	d := Decoder{Rest: record}
	kind := d.Byte()
	r.generation = d.Uvarint()
	switch {
	case d.Bad:
	case kind == recordRow:
		if r.state = d.Rest; r.state == nil {
			r.state = []byte{}
		}
		return r, nil
	case kind == recordGone && len(d.Rest) == 0:
		return r, nil
	}
	return rowRecord{}, fmt.Errorf("row %q: %w", key, ErrDamaged)
}

// pendingRow is a row's record on its way to the disk.
type pendingRow struct {
	rowRecord
	writes int // items in the queue that carry the row
}

// setRowsLocked adds rows to a commit's item; from now on Row tells them.
func (j *Journal) setRowsLocked(it *item, rows []Row) {
	j.at.Generation += uint64(len(rows))
	for _, r := range rows {
		p := j.rows[string(r.Key)]
		j.rows[string(r.Key)] = pendingRow{rowRecord{j.at.Generation, r.State}, p.writes + 1}
		it.size += r.cost()
	}
	it.ops += len(rows)
	it.rows, it.told = rows, j.at.Generation
}

// rowsWrittenLocked forgets what is on disk by now.
func (j *Journal) rowsWrittenLocked(rows []Row) {
	for _, r := range rows {
		if p := j.rows[string(r.Key)]; p.writes > 1 {
			p.writes--
			j.rows[string(r.Key)] = p
		} else {
			delete(j.rows, string(r.Key))
		}
	}
}

// Row gives the state of a row behind all commits that have a place, and behind
// what is spooled; ok is false when there is none. Whoever changes the state
// must not keep it.
func (j *Journal) Row(key []byte) (state []byte, ok bool, err error) {
	j.lockPacked()
	p, pending := j.rows[string(key)]
	all := j.sets
	j.mu.Unlock()
	r := p.rowRecord
	sets := j.setsOf(key, all, r.generation)
	if pending && len(sets.list) == 0 {
		return r.state, r.state != nil, nil
	}
	err = j.View(func(v View) error {
		if !pending {
			record, found, err := v.Get(rowKey(key))
			if err != nil {
				return err
			}
			if found {
				if r, err = decodeRow(key, record); err != nil {
					return err
				}
			}
		}
		for _, b := range sets.list {
			if b.generation <= r.generation {
				return nil
			}
			rows, err := j.openSet(v, sets, b)
			if err != nil {
				return err
			}
			if state, told := rows.find(key); told {
				r.state = state
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read row state: %w", err)
	}
	return r.state, r.state != nil, nil
}

// setsOf gives those of the sets behind a generation that may tell of a row,
// the latest first.
func (j *Journal) setsOf(key []byte, all []*rowBlock, generation uint64) (of rowSets) {
	hash := y.Hash(key)
	for i := len(all) - 1; i >= 0 && all[i].generation > generation; i-- {
		if all[i].may(key, hash) {
			of.list = append(of.list, all[i])
		}
	}
	if len(of.list) > 0 {
		j.mu.Lock()
		defer j.mu.Unlock()
		of.holdLocked()
	}
	return of
}

// Rows calls each for every row whose key begins with prefix, in key order,
// as they stand behind all commits that have a place, and behind what is
// spooled, when it is called.
func (j *Journal) Rows(prefix []byte, each func(key, state []byte) error) error {
	j.lockPacked()
	pending := maps.Clone(j.rows)
	sets := rowSets{list: j.sets}
	sets.holdLocked()
	j.mu.Unlock()
	err := j.View(func(v View) error {
		m := newRowMerge(prefix, pending, sets, v)
		tell := func(key, state []byte) error {
			if state == nil {
				return nil
			}
			return each(slices.Clone(key), slices.Clone(state))
		}
		err := v.Scan(spaceRows, rowKey(prefix), func(key, record []byte) (bool, error) {
			key = key[1:]
			if !bytes.HasPrefix(key, prefix) {
				return false, nil
			}
			if err := m.before(key, tell); err != nil {
				return false, err
			}
			r, err := decodeRow(key, record)
			if err != nil {
				return false, err
			}
			if later, ok, err := m.at(key, r.generation); err != nil {
				return false, err
			} else if ok {
				r.state = later
			}
			return true, tell(key, r.state)
		})
		if err != nil {
			return err
		}
		return m.before(nil, tell)
	})
	if err != nil {
		return fmt.Errorf("read row states: %w", err)
	}
	return nil
}

// fillStep is how many bytes of row states are written at once.
const fillStep = 1 << 20

// FillRows records the states of many rows outside of any commit, as of a
// snapshot. It returns when they are durable; a crash in between leaves some.
func (j *Journal) FillRows(ctx context.Context, rows func(yield func(Row) bool)) error {
	j.mu.Lock()
	generation := j.at.Generation
	j.mu.Unlock()
	it := &item{apart: true}
	for r := range rows {
		it.update.Set(rowKey(r.Key), rowRecord{generation, r.State}.encode())
		if it.update.Size() < fillStep {
			continue
		}
		err := j.waitIntake(ctx, maxQueue)
		if err == nil {
			err = j.queueWith(ctx, it, func() {})
		}
		if err != nil {
			return fmt.Errorf("fill row states: %w", err)
		}
		it = &item{apart: true}
	}
	if err := j.writeWith(ctx, it, func() {}); err != nil {
		return fmt.Errorf("fill row states: %w", err)
	}
	return nil
}
