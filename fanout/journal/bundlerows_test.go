package journal

import (
	"fmt"
	"maps"
	"testing"
	"time"
)

// tellings is every way in which three commits may tell of a row, one after the
// other: written in a bundle, alone, or spooled; a state, or that it has gone.
func tellings() (list []string) {
	const kinds = "BASbas" // capitals: a state
	for _, first := range kinds {
		for _, second := range kinds {
			for _, third := range kinds {
				list = append(list, string([]rune{first, second, third}))
			}
		}
	}
	return list
}

// tellStep appends what one step of all ways tells, and notes it in want.
func tellStep(t *testing.T, j *Journal, step int, want map[string]string) {
	t.Helper()
	rowsOf := func(kind byte) (rows []Row) {
		for _, way := range tellings() {
			r := Row{Key: []byte("row " + way)}
			switch way[step] {
			case kind - 'a' + 'A':
				r.State = fmt.Appendf(nil, "step %d of %s", step, way)
				want[string(r.Key)] = string(r.State)
			case kind:
				delete(want, string(r.Key))
			default:
				continue
			}
			rows = append(rows, r)
		}
		return rows
	}
	lsn := LSN(0x100 * (step + 1))
	bundled, spooled, spooled2, alone := commit(1, lsn, 0, 0), commit(1, lsn+0x20, 0, 0), commit(1, lsn+0x60, 0, 0), commit(1, lsn+0x40, 0, 0)
	bundled.Rows = rowsOf('b')
	for i := range bundleFrom {
		r := Row{fmt.Appendf(nil, "filler %d", i), fmt.Appendf(nil, "step %d", step)}
		want[string(r.Key)] = string(r.State)
		bundled.Rows = append(bundled.Rows, r)
	}
	all := rowsOf('s')
	spooled.Rows, spooled2.Rows = all[:len(all)/2], all[len(all)/2:]
	alone.Rows = rowsOf('a')
	mustAppend(t, j, bundled)
	appendSpooled(t, j, spooled, 20) // what stands before it is not written with what stands behind it
	mustAppend(t, j, alone)
	appendSpooled(t, j, spooled2, 20)
}

// What was told of a row last counts, wherever it stands: in the queue, in sets
// of bundles and of spooled commits, in a record of its own, or merged.
func TestLastStateOfARowCountsWhereverItStands(t *testing.T) {
	for name, between := range map[string]func(j *Journal){
		"written together":            func(*Journal) {},
		"written one after the other": func(j *Journal) { runFor(t, j, mustBeWritten) },
		"merged between":              func(j *Journal) { runFor(t, j, mustMerge) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j, end := open(t, dir)
			want := make(map[string]string)
			check := func(when string) {
				t.Helper()
				if got := states(t, j, ""); !maps.Equal(got, want) {
					t.Errorf("%s: %d rows, want %d, or they differ", when, len(got), len(want))
				}
				for _, way := range tellings() {
					key := "row " + way
					state, ok, err := j.Row([]byte(key))
					if _, there := want[key]; err != nil || ok != there || string(state) != want[key] {
						t.Errorf("%s: Row(%s) = %q, %t, %v; want %q", when, key, state, ok, err, want[key])
					}
				}
			}
			for step := range 3 {
				tellStep(t, j, step, want)
				check(fmt.Sprintf("behind step %d", step))
				between(j)
				check(fmt.Sprintf("behind step %d, %s", step, name))
			}
			stop := run(t, j)
			mustBeWritten(t, j)
			check("written")
			stop()
			end()
			j, end = start(t, dir)
			check("opened again")
			if name != "merged between" {
				mustMerge(t, j)
				check("merged")
			}
			if n := spoolSets(t, j); n != 0 || len(j.sets) != 0 {
				t.Errorf("%d sets are left on disk, %d in memory", n, len(j.sets))
			}
			end()
			j, _ = start(t, dir)
			check("merged and opened again")
		})
	}
}

// runFor runs a journal for a while; it may run again.
func runFor(t *testing.T, j *Journal, act func(*testing.T, *Journal)) {
	t.Helper()
	stop := run(t, j)
	act(t, j)
	stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = nil
}

// mustBeWritten waits until all that is queued is on disk.
func mustBeWritten(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.ApplySync(deadline(t), Update{}); err != nil {
		t.Fatal(err)
	}
}

// mustMerge merges all sets, as the retention does.
func mustMerge(t *testing.T, j *Journal) {
	t.Helper()
	mustBeWritten(t, j)
	if spoolSets(t, j) == 0 {
		t.Error("there are no sets to merge")
	}
	if _, err := j.Expire(deadline(t), time.Time{}, 0, nil); err != nil {
		t.Fatal(err)
	}
}

func TestBundlesMakeNoMoreSetsThanASearchCanBear(t *testing.T) {
	j, _ := start(t, t.TempDir())
	j.mu.Lock()
	for range mostSets {
		b := describe(rowSet{{[]byte("z"), nil}})
		b.value = packRows([]Row{{[]byte("z"), nil}})[0].value
		j.sets = append(j.sets, b)
	}
	j.mu.Unlock()
	c := commit(1, 0x10, 0, 0)
	for i := range bundleFrom {
		c.Rows = append(c.Rows, Row{fmt.Appendf(nil, "row %d", i), []byte("state")})
	}
	mustAppend(t, j, c)
	mustBeWritten(t, j)
	if n := records(t, j, spaceRows); n != bundleFrom {
		t.Errorf("%d records of rows, want %d", n, bundleFrom)
	}
}
