package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4/y"
)

// A spooled commit stores the states of its rows in sets, and so does a bundle
// of small ones: each a sorted, compressed record of some hundred rows under a
// generation of its own. A record for each row would cost the disk several
// times as much while there is most to do. When they are committed, mend merges
// them into the rows' own records, at leisure.

// rowSetBytes is about what a set holds before it is compressed.
const rowSetBytes = 64 << 10

// filterBits is how many bits of a set's filter there are for each row: one lookup
// in two thousand opens a set in vain. A large commit has hundreds of sets, and rows
// with random keys may be in any of them.
const filterBits = 16

// rowBlock is a set that has not been merged.
type rowBlock struct {
	spool       uint64 // that has stored it, or bundleSpool; set when it is queued, then fixed, as are the next five
	generation  uint64
	first, last []byte // keys
	filter      y.Filter
	value       []byte // its record; guarded by Journal.mu, nil once that is on disk
}

func (b *rowBlock) key() []byte {
	return binary.BigEndian.AppendUint64(spaceSpooled.Seq(Seq(b.spool)), b.generation)
}

// may tells whether the set may tell of a row, whose key has that y.Hash.
func (b *rowBlock) may(key []byte, hash uint32) bool {
	return bytes.Compare(b.first, key) <= 0 && bytes.Compare(key, b.last) <= 0 && b.filter.MayContain(hash)
}

// rowSet is a set's content, sorted by key. A nil state forgets the row.
type rowSet []Row

func (s rowSet) find(key []byte) (state []byte, told bool) {
	i, found := slices.BinarySearchFunc(s, key, func(r Row, key []byte) int { return bytes.Compare(r.Key, key) })
	if !found {
		return nil, false
	}
	return s[i].State, true
}

// packRows makes sets of states of rows, which come in any order; of several of
// one row the last counts.
func packRows(rows []Row) (list []*rowBlock) {
	rows = lastStates(rows)
	raw := make([]byte, 0, rowSetBytes+rowSetBytes/8)
	begin := 0
	for i, r := range rows {
		raw = appendBytes(raw, r.Key)
		if r.State == nil {
			raw = binary.AppendUvarint(raw, 0)
		} else {
			raw = binary.AppendUvarint(raw, uint64(len(r.State))+1)
			raw = append(raw, r.State...)
		}
		if len(raw) >= rowSetBytes || i == len(rows)-1 {
			b := describe(rows[begin : i+1])
			b.value = compress(raw)
			list = append(list, b)
			begin, raw = i+1, raw[:0]
		}
	}
	return list
}

// lastStates gives the last state of each row, sorted by key.
func lastStates(rows []Row) (last []Row) {
	order := make([]int32, len(rows))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(bytes.Compare(rows[a].Key, rows[b].Key), cmp.Compare(a, b))
	})
	last = make([]Row, 0, len(rows))
	for _, i := range order {
		if n := len(last); n > 0 && bytes.Equal(last[n-1].Key, rows[i].Key) {
			last = last[:n-1]
		}
		last = append(last, rows[i])
	}
	return last
}

// describe makes what is kept in memory of a set.
func describe(rows rowSet) *rowBlock {
	hashes := make([]uint32, len(rows))
	for i, r := range rows {
		hashes[i] = y.Hash(r.Key)
	}
	return &rowBlock{
		first:  bytes.Clone(rows[0].Key),
		last:   bytes.Clone(rows[len(rows)-1].Key),
		filter: y.NewFilter(hashes, filterBits),
	}
}

// unpackRows reads the record of a set. What it gives shares nothing with it.
func unpackRows(record []byte) (rows rowSet, err error) {
	raw, err := decompress(record)
	if err != nil {
		return nil, err
	}
	for d := (Decoder{Rest: raw}); len(d.Rest) > 0; {
		r := Row{Key: d.Bytes()}
		if n := d.Uvarint(); n > 0 {
			r.State = d.Take(int(min(n-1, uint64(len(raw)+1))))
		}
		if d.Bad {
			return nil, ErrDamaged
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, ErrDamaged
	}
	return rows, nil
}

// rowSets are the sets at one moment, before a View is opened in which those
// that were on disk are read.
type rowSets struct {
	list []*rowBlock
	held map[*rowBlock][]byte // records of those that were not; nil for none
}

// holdLocked keeps the records that are not on disk.
func (s *rowSets) holdLocked() {
	for _, b := range s.list {
		if b.value == nil {
			continue
		}
		if s.held == nil {
			s.held = make(map[*rowBlock][]byte)
		}
		s.held[b] = b.value
	}
}

// open reads a set. One that is no longer there has been merged, which the
// rows' records in v tell, and is empty.
func (s rowSets) open(v View, b *rowBlock) (rowSet, error) {
	record, held := s.held[b]
	if !held {
		var ok bool
		var err error
		if record, ok, err = v.Get(b.key()); err != nil || !ok {
			return nil, err
		}
	}
	rows, err := unpackRows(record)
	if err != nil {
		return nil, fmt.Errorf("states of generation %d: %w", b.generation, err)
	}
	return rows, nil
}

// openSet is open that keeps what it has read.
func (j *Journal) openSet(v View, sets rowSets, b *rowBlock) (rowSet, error) {
	if rows, ok := j.openedSets.get(b); ok {
		return rows, nil
	}
	rows, err := sets.open(v, b)
	if err == nil && rows != nil {
		j.openedSets.put(b, rows)
	}
	return rows, err
}

// number gives sets their keys. They share the generations of the states that
// they were made of, of which told is the last: the last ones, of which there are
// enough, as no set is empty.
func number(sets []*rowBlock, spool, told uint64) {
	for i, b := range sets {
		b.spool, b.generation = spool, told-uint64(len(sets)-1-i)
	}
}

// addSetsLocked shows sets to readers.
func (j *Journal) addSetsLocked(sets []*rowBlock) {
	if len(sets) > 0 {
		j.sets = sortedSets(append(slices.Clip(j.sets), sets...))
	}
}

// sortedSets sorts a list by generation.
func sortedSets(list []*rowBlock) []*rowBlock {
	slices.SortFunc(list, func(a, b *rowBlock) int { return cmp.Compare(a.generation, b.generation) })
	return list
}

// dropRowsLocked forgets the sets of a spool that has come to nothing.
func (j *Journal) dropRowsLocked(spool uint64) {
	j.sets = slices.DeleteFunc(slices.Clone(j.sets), func(b *rowBlock) bool { return b.spool == spool })
}

// loadSets reads which sets there are.
func (j *Journal) loadSets() error {
	defer func() { j.sets = sortedSets(j.sets) }() // those of bundles stand behind those of spools
	return j.View(func(v View) error {
		return v.Scan(spaceSpooled, nil, func(key, record []byte) (bool, error) {
			rows, err := unpackRows(record)
			if err != nil {
				return false, fmt.Errorf("record %x: %w", key, err)
			}
			b := describe(rows)
			b.spool, b.generation = uint64(SeqOf(key)), binary.BigEndian.Uint64(key[9:])
			j.sets = append(j.sets, b)
			return true, nil
		})
	})
}
