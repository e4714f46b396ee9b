package journal

import (
	"slices"
	"sync"
)

// mostOpen is how many blocks, and how many sets of states, stay open: about
// what as many readers who catch up at the same time need to read each block
// once. They take 2 MB, and 4.
const mostOpen = 32

// recent keeps what was read last. The zero value is ready.
type recent[K comparable, V any] struct {
	mu   sync.Mutex // guards list
	list []lookedAt[K, V]
}

type lookedAt[K comparable, V any] struct {
	key   K
	value V
}

func (c *recent[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.list, func(r lookedAt[K, V]) bool { return r.key == key })
	if i < 0 {
		return value, false
	}
	found := c.list[i]
	copy(c.list[1:i+1], c.list[:i])
	c.list[0] = found
	return found.value, true
}

func (c *recent[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == mostOpen {
		clear(c.list[mostOpen-1:])
		c.list = c.list[:mostOpen-1]
	}
	c.list = slices.Insert(c.list, 0, lookedAt[K, V]{key, value})
}
