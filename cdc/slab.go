package cdc

// slab gives small things out of larger pieces of memory, so that each of them
// costs the runtime nothing. A piece lives as long as the last thing in it, so
// what is given should live alike. The zero value is ready; one goroutine owns it.
type slab[T any] struct {
	free  []T
	given []T // by room, last, with what is free behind it; nil when kept
}

// slabItems is how many things a piece has.
const slabItems = 256

// one gives room for one thing, zeroed.
func (s *slab[T]) one() *T {
	if len(s.free) == 0 {
		s.free = make([]T, slabItems)
	}
	t := &s.free[0]
	s.free = s.free[1:]
	return t
}

// room gives an empty slice with room for n things.
func (s *slab[T]) room(n, piece int) []T {
	switch {
	case n > piece/4:
		return make([]T, 0, n)
	case n > len(s.free):
		s.free = make([]T, piece)
	}
	s.given, s.free = s.free, s.free[n:]
	return s.given[:0:n]
}

// keep takes back what is not used of the slice that room gave last.
func (s *slab[T]) keep(filled []T) []T {
	n := len(filled)
	if n > 0 && n <= len(s.given) && &filled[0] == &s.given[0] {
		s.free, s.given = s.given[n:], nil
	}
	return filled[:n:n]
}
