package journal

import (
	"fmt"
	"reflect"
	"testing"
)

// states gives the rows whose key begins with prefix.
func states(t *testing.T, j *Journal, prefix string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := j.Rows([]byte(prefix), func(key, state []byte) error {
		got[string(key)] = string(state)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func rowsCommit(lsn LSN, rows ...string) Commit {
	c := Commit{Epoch: 1, LSN: lsn, End: lsn + 8}
	for i := 0; i < len(rows); i += 2 {
		r := Row{Key: []byte(rows[i])}
		if rows[i+1] != "" {
			r.State = []byte(rows[i+1])
		}
		c.Rows = append(c.Rows, r)
	}
	return c
}

func TestRowsStandBehindAllCommitsOnDiskOrNot(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	mustAppend(t, j, rowsCommit(10, "a/1", "one", "a/2", "two", "b/1", "other"))
	if err := j.Advance(deadline(t), 20); err != nil {
		t.Fatal(err)
	}
	eventuallyConfirmed(t, j, 20)
	mustAppend(t, j, rowsCommit(30, "a/1", "changed", "a/2", "", "a/3", "three"))
	want := map[string]string{"a/1": "changed", "a/3": "three"}
	if got := states(t, j, "a/"); !reflect.DeepEqual(got, want) {
		t.Errorf("rows = %v, want %v", got, want)
	}
	end()
	j, _ = open(t, dir)
	if got := states(t, j, "a/"); !reflect.DeepEqual(got, want) {
		t.Errorf("after reopening rows = %v, want %v", got, want)
	}
	for key, state := range map[string]string{"a/1": "changed", "a/2": "", "b/1": "other", "c": ""} {
		got, ok, err := j.Row([]byte(key))
		if err != nil || string(got) != state || ok != (state != "") {
			t.Errorf("Row(%s) = %q, %t, %v; want %q", key, got, ok, err, state)
		}
	}
}

func TestRowsOfACommitThatIsRepeatedChangeNothing(t *testing.T) {
	j, _ := start(t, t.TempDir())
	mustAppend(t, j, rowsCommit(10, "a", "one"), rowsCommit(20, "a", "two"), rowsCommit(10, "a", "one"))
	if got := states(t, j, ""); !reflect.DeepEqual(got, map[string]string{"a": "two"}) {
		t.Errorf("rows = %v, want what the last commit left", got)
	}
}

func TestFilledRowsAreDurable(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	err := j.FillRows(deadline(t), func(yield func(Row) bool) {
		for i := range 10_000 {
			if !yield(Row{fmt.Appendf(nil, "a/%05d", i), make([]byte, 300)}) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	end()
	j, _ = open(t, dir)
	if got := states(t, j, "a/"); len(got) != 10_000 {
		t.Errorf("%d rows, want 10,000", len(got))
	}
}

// eventuallyConfirmed waits until everything up to lsn is durable.
func eventuallyConfirmed(t *testing.T, j *Journal, lsn LSN) {
	t.Helper()
	if err := j.ApplySync(deadline(t), Update{}); err != nil {
		t.Fatal(err)
	}
	if got := j.Confirmed(); got < lsn {
		t.Fatalf("confirmed %s, want %s", got, lsn)
	}
}
