package cdc

import (
	"bytes"
	"testing"
)

func TestSlabGivesMemoryToOneOnly(t *testing.T) {
	const piece = 64
	var s slab[byte]
	var kept [][]byte
	for i := range 100 {
		want := bytes.Repeat([]byte{byte(i)}, i%40)
		b := append(s.room(i%20, piece), want...) // now and then it outgrows its room
		if i%3 == 0 {
			inner := append(s.room(5, piece), "inner"...) // while the other is being filled
			kept = append(kept, s.keep(inner))
		} else {
			kept = append(kept, []byte("inner"))
		}
		kept = append(kept, s.keep(b))
	}
	for i := range 100 {
		want := bytes.Repeat([]byte{byte(i)}, i%40)
		if !bytes.Equal(kept[2*i], []byte("inner")) || !bytes.Equal(kept[2*i+1], want) {
			t.Errorf("round %d: %q, %q, want %q", i, kept[2*i], kept[2*i+1], want)
		}
		if b := kept[2*i+1]; cap(b) != len(b) {
			t.Errorf("round %d: one could write behind what was kept", i)
		}
	}
	var counts slab[int]
	seen := make(map[*int]bool)
	for range 3 * slabItems {
		p := counts.one()
		if seen[p] || *p != 0 {
			t.Fatal("given twice, or not zeroed")
		}
		seen[p], *p = true, 1
	}
}
