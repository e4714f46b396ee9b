package journal

import (
	"slices"

	"github.com/dgraph-io/badger/v4/y"
)

// mostSets is how many sets there may be until bundles make no more of them: a
// search for a row goes through the filters of all, which takes 10 µs for so
// many, about as long as reading its record.
const mostSets = 1000

// placeRows adds the states of the items' rows to u: as a record for each, or
// where many are written together as sets, which it gives.
func (j *Journal) placeRows(u *Update, items []*item) (made []*rowBlock) {
	var run []*item
	count := 0
	end := func() {
		if count >= j.bundleFrom && j.setsLeft() > len(made) {
			made = append(made, bundleRows(u, run, count)...)
		} else {
			j.placeRowsSingly(u, run, made)
		}
		run, count = run[:0], 0
	}
	for _, it := range items {
		if it.apart {
			end()
		}
		if len(it.rows) > 0 {
			run = append(run, it)
			count += len(it.rows)
		}
	}
	end()
	return made
}

// setsLeft is how many sets bundles may still make.
func (j *Journal) setsLeft() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return mostSets - len(j.sets)
}

// bundleRows makes sets of what some items tell of rows, so many states in all.
func bundleRows(u *Update, run []*item, count int) []*rowBlock {
	rows := make([]Row, 0, count)
	for _, it := range run {
		rows = append(rows, it.rows...)
	}
	sets := packRows(rows)
	number(sets, bundleSpool, run[len(run)-1].told)
	for _, b := range sets {
		u.Set(b.key(), b.value)
		b.value = nil // nobody sees the set before it is on disk
	}
	return sets
}

// placeRowsSingly adds a record for each row. made are sets that are written
// before them and that nobody sees yet.
func (j *Journal) placeRowsSingly(u *Update, run []*item, made []*rowBlock) {
	for _, it := range run {
		for _, r := range it.rows {
			if r.State == nil && !j.inSet(r.Key, made) {
				u.Delete(rowKey(r.Key))
			} else {
				u.Set(rowKey(r.Key), rowRecord{it.told, r.State}.encode())
			}
		}
	}
}

// inSet tells whether a set that has not been merged, or one of those beside
// them, may tell of a row.
func (j *Journal) inSet(key []byte, made []*rowBlock) bool {
	j.mu.Lock()
	sets := j.sets
	j.mu.Unlock()
	hash := y.Hash(key)
	may := func(b *rowBlock) bool { return b.may(key, hash) }
	return slices.ContainsFunc(sets, may) || slices.ContainsFunc(made, may)
}
