package journal

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// Bounds of one update that mends.
const (
	mendStep  = 1000 // records
	mendBytes = 256 << 10
)

// mendRows makes the records of rows plain that spooled commits have written,
// all but those of the one that is open. Rows that are no longer remembered
// leave the disk with that, and the spools that were dropped can be forgotten.
func (j *Journal) mendRows(ctx context.Context) error {
	j.mu.Lock()
	upto, mended, dropped := j.spools.Last, j.spools.Mended, j.spools.Dropped
	if j.spools.Open {
		upto--
	}
	j.mu.Unlock()
	if upto <= mended {
		return nil
	}
	// What is read here may be old when it is written; so the writer looks at
	// the record once more.
	settle := func(key, record []byte) (plain []byte, spooled bool) {
		r, err := decodeRow(key, record)
		if err != nil || r.spool == 0 || r.spool > upto {
			return record, false
		}
		if state := r.present(dropped); state != nil {
			return plainRow(state), true
		}
		return nil, true
	}
	var u Update
	err := j.View(func(v View) error {
		return v.Scan(spaceRows, nil, func(key, record []byte) (bool, error) {
			if _, spooled := settle(key, record); !spooled {
				return true, ctx.Err()
			}
			key = bytes.Clone(key)
			u.add(op{key: key, more: len(record), amend: func(present []byte) []byte {
				plain, _ := settle(key, present)
				return plain
			}})
			if len(u.ops) < mendStep && u.Size() < mendBytes {
				return true, nil
			}
			full := u
			u = Update{}
			return true, j.Apply(ctx, full, nil)
		})
	})
	if err == nil {
		err = j.ApplySync(ctx, u) // before a dropped spool is forgotten, nothing on disk may name it
	}
	if err == nil {
		it := &item{}
		err = j.queueWith(ctx, it, func() {
			j.spools.Mended = upto
			j.spools.Dropped = slices.DeleteFunc(slices.Clone(j.spools.Dropped), func(id uint64) bool { return id <= upto })
			j.spools.set(&it.update)
		})
	}
	if err != nil {
		return fmt.Errorf("mend row states: %w", err)
	}
	return nil
}
