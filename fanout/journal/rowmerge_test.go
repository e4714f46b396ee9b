package journal

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The rows of a large commit with random keys are in all of its sets, which must
// not all be in memory to be merged.
func TestManySetsAreMergedInLittleMemory(t *testing.T) {
	const parts, each = 300, 600
	j, _ := start(t, t.TempDir())
	rng := rand.New(rand.NewPCG(1, 2))
	want := make(map[string]string)
	for part := range parts {
		c := Commit{Epoch: 1, LSN: 0x10, End: 0x18, Spooled: part}
		mine := make(map[string]bool)
		for range each {
			r := Row{fmt.Appendf(nil, "row %06d", rng.IntN(parts*each/2)), fmt.Appendf(nil, "of part %d", part)}
			if mine[string(r.Key)] {
				continue
			}
			mine[string(r.Key)] = true
			c.Rows = append(c.Rows, r)
			want[string(r.Key)] = string(r.State)
		}
		mustSpool(t, j, c)
	}
	got := states(t, j, "")
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	for key, state := range want {
		if got[key] != state {
			t.Fatalf("%s = %q, want %q", key, got[key], state)
		}
	}
	mustBeWritten(t, j)
	if len(j.sets) < parts {
		t.Fatalf("%d sets", len(j.sets))
	}
	err := j.View(func(v View) error {
		m := newRowMerge(nil, nil, rowSets{list: j.sets}, v)
		rows, most := 0, 0
		err := m.before(nil, func(_, _ []byte) error {
			held := 0
			for _, s := range m.sources {
				held += len(s.rows)
			}
			rows++
			most = max(most, held)
			return nil
		})
		if rows != len(want) || most > mergeRows {
			t.Errorf("%d rows were told, want %d; %d were in memory, want at most %d", rows, len(want), most, mergeRows)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
