package journal

import (
	"testing"
)

// records counts what is kept in a space.
func records(t *testing.T, j *Journal, s Space) (n int) {
	t.Helper()
	err := j.View(func(v View) error {
		return v.keys(s, nil, func([]byte) (bool, error) { n++; return true, nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBacklogIsBundled(t *testing.T) {
	dir := t.TempDir()
	j, end := open(t, dir) // not running: all of it is written together
	var all []Message
	for i := range 3 * bundleFrom {
		c := withRows(commit(1, LSN(0x10*(i+1)), 2, 20), 2*i)
		mustAppend(t, j, c)
		all = append(all, c.Messages...)
	}
	wantMessages(t, read(t, j, 0, 500), 0, Commit{Messages: all}) // at once, from memory
	end2 := run(t, j)
	mustSync(t, j)
	if n := records(t, j, spaceEntries) + records(t, j, spaceIDs); n != 0 || len(j.extents) == 0 {
		t.Errorf("%d records of single messages beside %d bundles, want bundles alone", n, len(j.extents))
	}
	if entries, blocks := len(all), records(t, j, spaceSpools); blocks > entries/20 {
		t.Errorf("%d blocks for %d messages", blocks, entries)
	}
	wantFound(t, j, 0, all)
	if plain, sets := records(t, j, spaceRows), spoolSets(t, j); plain != 0 || sets == 0 || sets > len(all)/100 {
		t.Errorf("%d records of rows beside %d sets for %d rows, want sets alone", plain, sets, len(all))
	}
	end2()
	end()
	j, _ = start(t, dir)
	wantMessages(t, read(t, j, 0, 500), 0, Commit{Messages: all})
	wantFound(t, j, 0, all)
	if got := states(t, j, ""); len(got) != len(all) {
		t.Errorf("%d rows, want %d", len(got), len(all))
	}
}

func TestChangesStandBetweenBundles(t *testing.T) {
	dir := t.TempDir()
	j, end := open(t, dir)
	j.bundleFrom = 4
	first, few, last := commit(1, 0x10, 5, 20), commit(1, 0x20, 3, 20), commit(1, 0x30, 6, 20)
	change := func() {
		if _, err := j.AppendChange(t.Context(), Change{Name: "ann"}, Update{}); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, j, first)
	change()
	mustAppend(t, j, few)
	change()
	mustAppend(t, j, last)
	stop := run(t, j)
	mustSync(t, j)
	if len(j.extents) != 2 || records(t, j, spaceEntries) != 3+2 {
		t.Errorf("%d bundles and %d single entries, want the first and the last commit, and what is between", len(j.extents), records(t, j, spaceEntries))
	}
	for _, reopen := range []bool{false, true} {
		if reopen {
			stop()
			end()
			j, _ = start(t, dir)
		}
		entries := read(t, j, 0, 4)
		if len(entries) != 16 || entries[5].Change == nil || entries[9].Change == nil {
			t.Fatalf("read %d entries", len(entries))
		}
		wantFound(t, j, 0, first.Messages)
		wantFound(t, j, 6, few.Messages)
		wantFound(t, j, 10, last.Messages)
	}
}
