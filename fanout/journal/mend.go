package journal

import (
	"context"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4/y"
)

// mendRows merges the sets into the rows' own records, but those of an open
// spool, one set at a time and in their order, so that a crash in between leaves
// the rest to do.
func (j *Journal) mendRows(ctx context.Context) error {
	for {
		j.mu.Lock()
		var b *rowBlock
		sets := rowSets{list: j.sets}
		sets.holdLocked()
		if len(j.sets) > 0 && (j.spool == nil || j.sets[0].spool != j.spool.id) {
			b = j.sets[0]
		}
		j.mu.Unlock()
		if b == nil {
			return nil
		}
		if err := j.mendSet(ctx, sets, b); err != nil {
			return fmt.Errorf("merge row states: %w", err)
		}
	}
}

// mendSet merges the first set. What is read here may be old when it is
// written; so the writer looks at each record once more.
func (j *Journal) mendSet(ctx context.Context, sets rowSets, b *rowBlock) error {
	var rows rowSet
	if err := j.View(func(v View) (err error) {
		rows, err = sets.open(v, b)
		return err
	}); err != nil {
		return err
	}
	it := &item{apart: true}
	for _, r := range rows {
		it.update.Amend(rowKey(r.Key), len(r.State)+16, func(present []byte) []byte { return j.merged(b.generation, r, present) })
	}
	it.update.Delete(b.key())
	if err := j.writeWith(ctx, it, func() {}); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sets = slices.DeleteFunc(slices.Clone(j.sets), func(other *rowBlock) bool { return other == b })
	return nil
}

// merged gives the record of a row of which a set tells; nil for none.
func (j *Journal) merged(generation uint64, told Row, present []byte) []byte {
	r, err := decodeRow(told.Key, present)
	switch {
	case present != nil && err != nil:
		return present // not to be made worse; who reads it says so
	case present == nil || r.generation < generation:
		if told.State == nil {
			return nil
		}
		return rowRecord{generation, told.State}.encode()
	case r.state == nil && !j.toldBetween(generation, r.generation, told.Key):
		return nil // nothing is left that the row could come back from
	}
	return present
}

// toldBetween tells whether a set behind one generation, up to and with
// another, may tell of a row.
func (j *Journal) toldBetween(after, upto uint64, key []byte) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	hash := y.Hash(key)
	return slices.ContainsFunc(j.sets, func(b *rowBlock) bool {
		return after < b.generation && b.generation <= upto && b.may(key, hash)
	})
}
