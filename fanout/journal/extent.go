package journal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/dgraph-io/badger/v4"
)

// extent is a spooled commit in the journal, or a bundle of small ones: its
// entries have their places there, and their records are in blocks.
type extent struct {
	first         Seq
	count         uint64
	spool         uint64
	from, through ID // of its first and its last message
	blocks        blocks
}

func (x extent) last() Seq { return x.first + Seq(x.count) - 1 }

func (x extent) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, x.count)
	b = binary.BigEndian.AppendUint64(b, x.spool)
	return x.through.appendTo(x.from.appendTo(b))
}

func decodeExtent(first Seq, b []byte) (extent, error) {
	if len(b) != 16+2*idBytes {
		return extent{}, fmt.Errorf("read spooled commit at %d: %d bytes: %w", first, len(b), ErrDamaged)
	}
	return extent{
		first:   first,
		count:   binary.BigEndian.Uint64(b),
		spool:   binary.BigEndian.Uint64(b[8:]),
		from:    idFromBytes(b[16:]),
		through: idFromBytes(b[16+idBytes:]),
	}, nil
}

// extents are those of a journal, in its order. A list is never changed, only
// replaced, so a reading keeps the one that it began with.
type extents []extent

// with gives the list with more of them, in order.
func (xs extents) with(more extents) extents {
	for _, x := range more {
		i := sort.Search(len(xs), func(i int) bool { return xs[i].first > x.first })
		xs = slices.Insert(slices.Clone(xs), i, x)
	}
	return xs
}

// at gives the first extent that ends at or behind seq.
func (xs extents) at(seq Seq) (x extent, ok bool) {
	i := sort.Search(len(xs), func(i int) bool { return xs[i].last() >= seq })
	if i == len(xs) {
		return extent{}, false
	}
	return xs[i], true
}

// before gives the last extent that begins at or before an ID.
func (xs extents) before(id ID) (x extent, ok bool) {
	i := sort.Search(len(xs), func(i int) bool { return xs[i].from.Compare(id) > 0 })
	if i == 0 {
		return extent{}, false
	}
	return xs[i-1], true
}

// stored is an entry's record as it is found on disk.
type stored struct {
	seq    Seq
	record []byte // whole
}

// walk calls each for the entries from one Seq up to and with another, as far
// as they are kept, in order, until it returns false. What each gets is its
// own only until it returns.
func (v View) walk(xs extents, from, through Seq, each func(e stored) (more bool, err error)) error {
	more, err := true, error(nil)
	for more && err == nil && from <= through {
		last := through
		x, ok := xs.at(from)
		if ok && x.first <= from {
			last = min(through, x.last())
			more, err = v.walkSpooled(x, from, last, each)
		} else {
			if ok {
				last = min(through, x.first-1)
			}
			more, err = v.walkPlain(from, last, each)
		}
		from = last + 1
	}
	return err
}

func (v View) walkPlain(from, through Seq, each func(e stored) (bool, error)) (more bool, err error) {
	more = true
	err = v.Scan(spaceEntries, spaceEntries.Seq(from), func(key, value []byte) (bool, error) {
		e := stored{seq: SeqOf(key)}
		if e.seq > through {
			return false, nil
		}
		if e.record, err = v.whole(entryPlace(e.seq), value); err == nil {
			more, err = each(e)
		}
		return more && err == nil, err
	})
	return more, err
}

// walkSpooled reads block by block: who wants a few hundred entries needs a few
// of the records, and an iterator that fetches ahead would copy dozens.
func (v View) walkSpooled(x extent, from, through Seq, each func(e stored) (bool, error)) (more bool, err error) {
	more = true
	start := binary.BigEndian.AppendUint64(spaceSpools.Seq(Seq(x.spool)), uint64(from-x.first))
	err = v.scan(spaceSpools, start, false, func(item *badger.Item) (bool, error) {
		spool, b, whole := blockOf(item.Key())
		if !whole {
			return true, nil
		}
		if spool != x.spool || x.first+Seq(b.first) > through {
			return false, nil
		}
		err := item.Value(func(value []byte) (err error) {
			more, err = v.walkBlock(x, b, value, from, through, each)
			return err
		})
		return more && err == nil, err
	})
	return more, err
}

// walkBlock calls each for the entries of one block, of which value is the record.
func (v View) walkBlock(x extent, b block, value []byte, from, through Seq, each func(e stored) (bool, error)) (more bool, err error) {
	content, err := v.whole(b.at(x.spool), value)
	if err != nil {
		return false, err
	}
	o, err := unpack(x.spool, b, content)
	if err != nil {
		return false, err
	}
	more = true
	for n := max(b.first, uint64(from-x.first)); more && err == nil && n <= min(b.last, uint64(through-x.first)); n++ {
		more, err = each(stored{seq: x.first + Seq(n), record: o.record(n)})
	}
	return more, err
}

// loadExtents reads the list of spooled commits, and which blocks of them are
// kept. Blocks of a commit that came to nothing are not among them.
func (j *Journal) loadExtents() error {
	return j.View(func(v View) error {
		err := v.Scan(spaceExtents, nil, func(key, value []byte) (bool, error) {
			x, err := decodeExtent(SeqOf(key), value)
			j.extents = append(j.extents, x)
			return true, err
		})
		if err != nil {
			return err
		}
		of := make(map[uint64]*extent, len(j.extents))
		for i := range j.extents {
			of[j.extents[i].spool] = &j.extents[i]
		}
		return v.keys(spaceSpools, nil, func(key []byte) (bool, error) {
			if spool, b, whole := blockOf(key); whole && of[spool] != nil {
				of[spool].blocks = append(of[spool].blocks, b)
			}
			return true, nil
		})
	})
}
