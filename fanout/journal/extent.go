package journal

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// extent is a spooled commit in the journal: its entries have their places
// there, and their records stay where they were spooled.
type extent struct {
	first         Seq
	count         uint64
	spool         uint64
	from, through ID // of its first and its last message
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

// spot tells where the record of the entry at seq is.
func (xs extents) spot(seq Seq) spot {
	if x, ok := xs.at(seq); ok && x.first <= seq {
		return spot{x.spool, uint64(seq - x.first)}
	}
	return spot{0, uint64(seq)}
}

// walk calls each for the entries from one Seq up to and with another, as far
// as they are kept, in order, until it returns false.
func (v View) walk(xs extents, from, through Seq, each func(seq Seq, at spot, value []byte) (more bool, err error)) error {
	more := true
	for more && from <= through {
		last := through
		x, ok := xs.at(from)
		within := ok && x.first <= from
		s, base := spaceEntries, Seq(0)
		switch {
		case within:
			last = min(through, x.last())
			s, base = spaceSpools, x.first
		case ok:
			last = min(through, x.first-1)
		}
		start := spot{x.spool, uint64(from - base)}
		if !within {
			start.spool = 0
		}
		err := v.Scan(s, start.key(), func(key, value []byte) (bool, error) {
			at, whole := spotOf(key)
			if !whole {
				return true, nil
			}
			if at.spool != start.spool || base+Seq(at.n) > last {
				return false, nil
			}
			var err error
			more, err = each(base+Seq(at.n), at, value)
			return more && err == nil, err
		})
		if err != nil {
			return err
		}
		from = last + 1
	}
	return nil
}

// search finds, among the first count entries of a spooled commit, those from
// low on, the last whose ID is not behind id. ok is false when none is kept.
func (j *Journal) search(spool, low, count uint64, id ID) (n uint64, exact, ok bool, err error) {
	after := sort.Search(int(count-low), func(i int) bool {
		if err != nil {
			return true
		}
		at, kept, fault := j.idAt(spot{spool, low + uint64(i)})
		if err = fault; err != nil || kept && at.Compare(id) > 0 {
			return true
		}
		exact, ok = at == id, kept // the last one that is not behind id is asked last of those
		return false
	})
	return low + uint64(after) - 1, exact, ok, err
}

// idAt gives the ID of a spooled message without reading the rest of it.
func (j *Journal) idAt(at spot) (id ID, kept bool, err error) {
	j.mu.Lock()
	record := j.unwrittenLocked(at)
	j.mu.Unlock()
	if kept = record != nil; !kept {
		err = j.View(func(v View) (err error) {
			if record, kept, err = v.Get(at.key()); err == nil && kept && inParts(record) {
				record, kept, err = v.Get(at.part(0))
			}
			return err
		})
	}
	if err != nil || !kept {
		return ID{}, false, err
	}
	if len(record) < 1+idBytes || record[0] != recordMessage {
		return ID{}, false, fmt.Errorf("spooled entry %d of %d: %w", at.n, at.spool, ErrDamaged)
	}
	return idFromBytes(record[1:]), true, nil
}
