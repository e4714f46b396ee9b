package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Row is what the journal shall remember of a table's row from a commit on.
type Row struct {
	Key   []byte // the table and the row's key, as the caller makes it
	State []byte // nil forgets the row
}

// pendingRow is a row's state on its way to the disk.
type pendingRow struct {
	state  []byte
	spool  uint64 // that set it; 0: none
	former []byte // before that spool
	writes int    // items in the queue that carry the row
}

// The first byte of a row's record.
const (
	recordRow     byte = 1 // the state follows
	recordSpooled byte = 2 // the spool that set the state, the state before it, the state
)

// rowKey is the key of a row's record.
func rowKey(key []byte) []byte { return spaceRows.Key(key...) }

func plainRow(state []byte) []byte {
	return append([]byte{recordRow}, state...)
}

// rowRecord is what stands on disk about a row. It is as good as the commit
// that wrote it: while that is open, and when it came to nothing, the former
// state counts. Nil is none.
type rowRecord struct {
	spool         uint64 // 0: none; then there is no former state
	former, state []byte
}

func (r rowRecord) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordSpooled}, r.spool)
	for _, state := range [][]byte{r.former, r.state} {
		if state == nil {
			b = binary.AppendUvarint(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(state))+1)
		b = append(b, state...)
	}
	return b
}

// decodeRow reads a row's record; the states are slices of it.
func decodeRow(key, record []byte) (r rowRecord, err error) {
	d := Decoder{Rest: record}
	switch d.Byte() {
	case recordRow:
		r.state = d.Rest
		return r, nil
	case recordSpooled:
		if spool := d.Take(8); spool != nil {
			r.spool = binary.BigEndian.Uint64(spool)
		}
		for _, state := range []*[]byte{&r.former, &r.state} {
			if n := d.Uvarint(); n > 0 {
				*state = d.Take(int(min(n, uint64(len(record)+1))) - 1)
			}
		}
		if d.Whole() {
			return r, nil
		}
	}
	return r, fmt.Errorf("row %q: %w", key, ErrDamaged)
}

// present is the state that counts; nil when there is none.
func (r rowRecord) present(dropped []uint64) []byte {
	if slices.Contains(dropped, r.spool) {
		return r.former
	}
	return r.state
}

// setRowsLocked adds rows to a commit's item; from now on Row tells them.
func (j *Journal) setRowsLocked(it *item, rows []Row) {
	for _, r := range rows {
		if r.State == nil {
			it.update.Delete(rowKey(r.Key))
		} else {
			it.update.Set(rowKey(r.Key), plainRow(r.State))
		}
		p := j.rows[string(r.Key)]
		j.rows[string(r.Key)] = pendingRow{state: r.State, writes: p.writes + 1}
	}
	it.rows = rows
}

// spooledRow is a row of a spooled commit with what it was before that.
type spooledRow struct {
	Row
	former []byte
}

// spoolRows finds out what the rows of a part were before the commit.
func (j *Journal) spoolRows(c Commit) ([]spooledRow, error) {
	rows := make([]spooledRow, len(c.Rows))
	var stored []int // those that are not on their way to the disk
	j.mu.Lock()
	var open uint64
	if j.spool != nil {
		open = j.spool.id
	}
	dropped := j.spools.Dropped
	for i, r := range c.Rows {
		rows[i].Row = r
		if p, pending := j.rows[string(r.Key)]; !pending {
			stored = append(stored, i)
		} else if rows[i].former = p.state; open > 0 && p.spool == open {
			rows[i].former = p.former
		}
	}
	j.mu.Unlock()
	if len(stored) == 0 {
		return rows, nil
	}
	err := j.View(func(v View) error {
		for _, i := range stored {
			record, ok, err := v.Get(rowKey(rows[i].Key))
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			r, err := decodeRow(rows[i].Key, record)
			if err != nil {
				return err
			}
			if rows[i].former = r.present(dropped); open > 0 && r.spool == open {
				rows[i].former = r.former
			}
		}
		return nil
	})
	return rows, err
}

// setSpooledRowsLocked adds rows to a part's item.
func (j *Journal) setSpooledRowsLocked(it *item, spool uint64, rows []spooledRow) {
	for _, r := range rows {
		it.update.Set(rowKey(r.Key), rowRecord{spool, r.former, r.State}.encode())
		p := j.rows[string(r.Key)]
		j.rows[string(r.Key)] = pendingRow{r.State, spool, r.former, p.writes + 1}
	}
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
	j.mu.Lock()
	p, pending := j.rows[string(key)]
	dropped := j.spools.Dropped
	j.mu.Unlock()
	if pending {
		return p.state, p.state != nil, nil
	}
	err = j.View(func(v View) error {
		record, found, err := v.Get(rowKey(key))
		if err != nil || !found {
			return err
		}
		r, err := decodeRow(key, record)
		state = r.present(dropped)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read row state: %w", err)
	}
	return state, state != nil, nil
}

// Rows calls each for every row whose key begins with prefix, in key order,
// as they stand behind all commits that have a place, and behind what is
// spooled, when it is called.
func (j *Journal) Rows(prefix []byte, each func(key, state []byte) error) error {
	j.mu.Lock()
	pending := maps.Clone(j.rows)
	dropped := j.spools.Dropped
	j.mu.Unlock()
	ahead := slices.Sorted(maps.Keys(pending)) // not on disk, or not as it stands there
	tell := func(upto []byte) error {          // those of them before upto; all for nil
		for len(ahead) > 0 && (upto == nil || ahead[0] < string(upto)) {
			key := ahead[0]
			ahead = ahead[1:]
			if p := pending[key]; p.state != nil && strings.HasPrefix(key, string(prefix)) {
				if err := each([]byte(key), p.state); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := j.View(func(v View) error {
		return v.Scan(spaceRows, rowKey(prefix), func(key, record []byte) (bool, error) {
			key = key[1:]
			if !bytes.HasPrefix(key, prefix) {
				return false, nil
			}
			if err := tell(key); err != nil {
				return false, err
			}
			if _, changed := pending[string(key)]; changed {
				return true, nil // told next
			}
			r, err := decodeRow(key, record)
			if err != nil {
				return false, err
			}
			if state := r.present(dropped); state != nil {
				return true, each(slices.Clone(key), slices.Clone(state))
			}
			return true, nil
		})
	})
	if err != nil {
		return fmt.Errorf("read row states: %w", err)
	}
	return tell(nil)
}

// fillStep is how many bytes of row states are written at once.
const fillStep = 1 << 20

// FillRows records the states of many rows outside of any commit, as of a
// snapshot. It returns when they are durable; a crash in between leaves some.
func (j *Journal) FillRows(ctx context.Context, rows func(yield func(Row) bool)) error {
	var u Update
	for r := range rows {
		u.Set(rowKey(r.Key), plainRow(r.State))
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
