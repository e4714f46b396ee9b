package journal

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
)

// Row is what the journal shall remember of a table's row from a commit on.
type Row struct {
	Key   []byte // the table and the row's key, as the caller makes it
	State []byte // nil forgets the row
}

// pendingRow is a row's state on its way to the disk.
type pendingRow struct {
	state  []byte
	writes int // items in the queue that carry the row
}

// rowKey is the key of a row's record.
func rowKey(key []byte) []byte { return spaceRows.Key(key...) }

// setRowsLocked adds rows to a commit's item; from now on Row tells them.
func (j *Journal) setRowsLocked(it *item, rows []Row) {
	for _, r := range rows {
		if r.State == nil {
			it.update.Delete(rowKey(r.Key))
		} else {
			it.update.Set(rowKey(r.Key), r.State)
		}
		p := j.rows[string(r.Key)]
		j.rows[string(r.Key)] = pendingRow{r.State, p.writes + 1}
	}
	it.rows = rows
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

// Row gives the state of a row behind all commits that have a place; ok is
// false when there is none. Whoever changes the state must not keep it.
func (j *Journal) Row(key []byte) (state []byte, ok bool, err error) {
	j.mu.Lock()
	p, pending := j.rows[string(key)]
	j.mu.Unlock()
	if pending {
		return p.state, p.state != nil, nil
	}
	err = j.View(func(v View) error {
		state, ok, err = v.Get(rowKey(key))
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read row state: %w", err)
	}
	return state, ok, nil
}

// Rows calls each for every row whose key begins with prefix, in key order,
// as they stand behind all commits that have a place.
func (j *Journal) Rows(prefix []byte, each func(key, state []byte) error) error {
	j.mu.Lock()
	pending := maps.Clone(j.rows)
	j.mu.Unlock()
	err := j.View(func(v View) error {
		return v.Scan(spaceRows, rowKey(prefix), func(key, state []byte) (bool, error) {
			key = key[1:]
			if !bytes.HasPrefix(key, prefix) {
				return false, nil
			}
			if p, ok := pending[string(key)]; ok {
				if delete(pending, string(key)); p.state == nil {
					return true, nil
				}
				state = p.state
			}
			return true, each(slices.Clone(key), slices.Clone(state))
		})
	})
	if err != nil {
		return fmt.Errorf("read row states: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(pending)) {
		if p := pending[key]; p.state != nil && bytes.HasPrefix([]byte(key), prefix) {
			if err := each([]byte(key), p.state); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillStep is how many bytes of row states are written at once.
const fillStep = 1 << 20

// FillRows records the states of many rows outside of any commit, as of a
// snapshot. It returns when they are durable; a crash in between leaves some.
func (j *Journal) FillRows(ctx context.Context, rows func(yield func(Row) bool)) error {
	var u Update
	for r := range rows {
		u.Set(rowKey(r.Key), r.State)
		if u.Size() < fillStep {
			continue
		}
		if err := j.Apply(ctx, u, nil); err != nil {
			return fmt.Errorf("fill row states: %w", err)
		}
		u = Update{}
	}
	if err := j.ApplySync(ctx, u); err != nil {
		return fmt.Errorf("fill row states: %w", err)
	}
	return nil
}
