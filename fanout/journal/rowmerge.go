package journal

import (
	"bytes"
	"container/heap"
	"maps"
	"slices"
	"sort"
)

// rowMerge goes through what is told of rows beside their records on disk, in
// key order.
type rowMerge struct {
	prefix  []byte
	sources sourceHeap
	sets    rowSets
	v       View
	window  int // rows of a set that are in memory at a time
}

// mergeRows is about how many rows of sets are in memory while they are merged:
// some MB. The sets of a large commit may all begin and end alike.
const mergeRows = 32 << 10

// leastWindow is how many there are of each set, at least: with fewer, opening
// it again and again would take too long.
const leastWindow = 8

// rowSource is what one set tells, or what is pending.
type rowSource struct {
	pending     bool
	generation  uint64    // of all of it, unless generations
	generations []uint64  // of each row; for what is pending
	block       *rowBlock // of a set that has more than rows; nil for none
	at          int       // so many rows of the set were read
	rows        rowSet    // what comes next first
	next        []byte    // key of that; where it is not in memory, no later than that
}

func newRowMerge(prefix []byte, pending map[string]pendingRow, sets rowSets, v View) *rowMerge {
	m := &rowMerge{prefix: prefix, sets: sets, v: v}
	own := &rowSource{pending: true}
	for _, key := range slices.Sorted(maps.Keys(pending)) {
		if p := pending[key]; bytes.HasPrefix([]byte(key), prefix) {
			own.rows = append(own.rows, Row{[]byte(key), p.state})
			own.generations = append(own.generations, p.generation)
		}
	}
	if len(own.rows) > 0 {
		own.next = own.rows[0].Key
		m.sources = append(m.sources, own)
	}
	for _, b := range sets.list {
		if bytes.Compare(b.last, prefix) < 0 || bytes.Compare(b.first, prefix) > 0 && !bytes.HasPrefix(b.first, prefix) {
			continue
		}
		m.sources = append(m.sources, &rowSource{generation: b.generation, block: b, next: b.first})
	}
	heap.Init(&m.sources)
	m.window = max(leastWindow, mergeRows/max(1, len(m.sources)))
	return m
}

// before calls tell for each row before key, all for nil, with its state.
func (m *rowMerge) before(key []byte, tell func(key, state []byte) error) error {
	for {
		next, ok, err := m.peek()
		if err != nil || !ok || !bytes.HasPrefix(next, m.prefix) || key != nil && bytes.Compare(next, key) >= 0 {
			return err
		}
		state, _, err := m.at(next, 0)
		if err != nil {
			return err
		}
		if err := tell(next, state); err != nil {
			return err
		}
	}
}

// at takes what is told of a row and gives the state if it is later than a
// record of the row with that generation.
func (m *rowMerge) at(key []byte, generation uint64) (state []byte, later bool, err error) {
	pending := false
	for {
		next, ok, err := m.peek()
		if err != nil || !ok || !bytes.Equal(next, key) {
			return state, later, err
		}
		s := m.sources[0]
		g := s.generation
		if s.pending {
			g = s.generations[0]
		}
		// A pending record is behind the one on disk, and behind the sets up to its generation.
		if g > generation || g == generation && s.pending && !pending {
			state, generation, later, pending = s.rows[0].State, g, true, s.pending
		}
		m.advance()
	}
}

// peek gives the next key that any source tells of.
func (m *rowMerge) peek() (key []byte, ok bool, err error) {
	for len(m.sources) > 0 {
		s := m.sources[0]
		if len(s.rows) > 0 {
			return s.next, true, nil
		}
		if err := m.read(s); err != nil {
			return nil, false, err
		}
		m.settle()
	}
	return nil, false, nil
}

// read brings the next rows of a set into memory.
func (m *rowMerge) read(s *rowSource) error {
	rows, err := m.sets.open(m.v, s.block)
	if err != nil {
		return err
	}
	if s.at == 0 {
		s.at = sort.Search(len(rows), func(i int) bool { return bytes.Compare(rows[i].Key, m.prefix) >= 0 })
	}
	n := min(m.window, len(rows)-s.at)
	s.rows = rows[s.at : s.at+n]
	if s.at += n; s.at == len(rows) {
		s.block = nil
	}
	if n < len(rows) { // or they would keep all of the set alive
		s.rows = slices.Clone(s.rows)
		for i, r := range s.rows {
			s.rows[i] = Row{bytes.Clone(r.Key), bytes.Clone(r.State)}
		}
	}
	return nil
}

// advance goes past what the first source tells next.
func (m *rowMerge) advance() {
	s := m.sources[0]
	s.rows = s.rows[1:]
	if s.pending {
		s.generations = s.generations[1:]
	}
	m.settle()
}

// settle puts the first source where its next row belongs.
func (m *rowMerge) settle() {
	s := m.sources[0]
	switch {
	case len(s.rows) > 0:
		s.next = s.rows[0].Key
		heap.Fix(&m.sources, 0)
	case s.block == nil:
		heap.Pop(&m.sources)
	} // else it has to be read, and stays where it is
}

// sourceHeap has the source with the smallest next key first; of several, one
// that has been opened.
type sourceHeap []*rowSource

func (h sourceHeap) Len() int           { return len(h) }
func (h sourceHeap) Less(i, k int) bool { return bytes.Compare(h[i].next, h[k].next) < 0 }
func (h sourceHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *sourceHeap) Push(x any)        { *h = append(*h, x.(*rowSource)) }

func (h *sourceHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
