package journal

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestSpooledRowsCountOnlyWithTheirCommit(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	mustAppend(t, j, rowsCommit(0x10, "a", "one", "b", "one", "c", "one"))
	spooled := func(lsn LSN) (first, second, rest Commit) {
		first = rowsCommit(lsn, "a", "two", "b", "", "d", "two")
		second = rowsCommit(lsn, "a", "three", "b", "again", "e", "two")
		rest = rowsCommit(lsn, "b", "", "e", "three")
		second.Spooled, rest.Spooled = 1, 2
		return first, second, rest
	}
	before := map[string]string{"a": "one", "b": "one", "c": "one"}
	within := map[string]string{"a": "three", "b": "again", "c": "one", "d": "two", "e": "two"}
	after := map[string]string{"a": "three", "c": "one", "d": "two", "e": "three"}
	want := func(when string, want map[string]string) {
		t.Helper()
		if got := states(t, j, ""); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: rows = %v, want %v", when, got, want)
		}
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			got, ok, err := j.Row([]byte(key))
			if _, there := want[key]; err != nil || string(got) != want[key] || ok != there {
				t.Errorf("%s: Row(%s) = %q, %t, %v", when, key, got, ok, err)
			}
		}
	}
	first, second, rest := spooled(0x20)
	mustSpool(t, j, first, second)
	want("spooled, perhaps not written", within)
	if err := j.ApplySync(deadline(t), Update{}); err != nil {
		t.Fatal(err)
	}
	want("spooled and written", within)
	mustDrop(t, j)
	want("dropped", before)
	mustSpool(t, j, first, second)
	mustAppend(t, j, rest)
	want("committed", after)
	end()
	j, end = start(t, dir)
	want("committed and reopened", after)
	first, second, _ = spooled(0x30)
	mustSpool(t, j, first, second)
	end()
	j, end = start(t, dir)
	want("unfinished and reopened", after)
	// Nobody keeps what no longer counts.
	if gone, err := j.Expire(deadline(t), time.Time{}, 0, nil); gone != 0 || err != nil {
		t.Fatal(gone, err)
	}
	want("mended", after)
	end()
	j, _ = start(t, dir)
	want("mended and reopened", after)
	if n := spoolSets(t, j); n != 0 || len(j.sets) != 0 {
		t.Errorf("%d sets are left on disk, %d in memory", n, len(j.sets))
	}
	records := 0
	err := j.View(func(v View) error {
		return v.Scan(spaceRows, nil, func(_, record []byte) (bool, error) {
			records++
			if record[0] != recordRow {
				t.Errorf("record %q tells of no row", record)
			}
			return true, nil
		})
	})
	if err != nil || records != len(after) {
		t.Errorf("%d records of rows, %v, want %d", records, err, len(after))
	}
}

func TestRepeatOfASpooledCommitChangesNothing(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	c := withRows(commit(1, 0x10, 20, 50), 0)
	appendSpooled(t, j, c, 8)
	mustAppend(t, j, rowsCommit(0x20, "t/000", "later"))
	for _, reopen := range []bool{false, true} {
		if reopen {
			end()
			j, end = start(t, dir)
		}
		appendSpooled(t, j, c, 8) // in the same parts
		appendSpooled(t, j, c, 3) // in others
		mustAppend(t, j, c)       // whole
		if err := j.ApplySync(deadline(t), Update{}); err != nil {
			t.Fatal(err)
		}
		wantMessages(t, read(t, j, 0, 10), 0, c)
		if n := spoolRecords(t, j); n != 20 {
			t.Errorf("%d spooled records, want the 20 of the commit", n)
		}
		if state, _, err := j.Row([]byte("t/000")); string(state) != "later" || err != nil {
			t.Errorf("row = %q, %v", state, err)
		}
	}
}

func TestExpireTakesSpooledCommitsFromTheFront(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	all := []Commit{commit(1, 0x10, 5, 10), commit(1, 0x20, 30, 10), commit(1, 0x30, 5, 10), commit(1, 0x40, 30, 10)}
	all[1].Messages[2].Data, all[1].Messages[20].Data = noise(1, 2*maxValue+1), noise(2, 2*maxValue+1)
	var messages []Message
	for i, c := range all {
		if i%2 == 0 {
			mustAppend(t, j, c)
		} else {
			appendSpooled(t, j, c, 9)
		}
		messages = append(messages, c.Messages...)
	}
	mustSync(t, j)
	var told []Seq
	for _, through := range []Seq{3, 7, 12, 34, 35, 38, 50} {
		_, err := j.Expire(deadline(t), time.Now(), through, func(_ *Update, seq Seq, _ *Message) error {
			told = append(told, seq)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if j.Oldest() != through+1 || len(told) != int(through) {
				t.Fatalf("oldest is %d, %d entries were told gone; want all through %d", j.Oldest(), len(told), through)
			}
			wantMessages(t, read(t, j, 0, 7), through, Commit{Messages: messages[through:]})
			wantFound(t, j, through, messages[through:])
			for i, m := range messages[:through] {
				gone := i+1 < int(through) // behind the last one nothing has gone
				if p, err := j.Find(m.ID); err != nil || p != (Place{Gone: gone}) {
					t.Fatalf("Find(%s) of what has gone = %+v, %v", m.ID, p, err)
				}
			}
			end()
			j, end = start(t, dir)
		}
	}
	if len(j.extents) != 1 {
		t.Errorf("%d extents are left, want 1", len(j.extents))
	}
}

func TestExtentSurvivesItsRecord(t *testing.T) {
	x := extent{first: 7, count: 500_000, spool: 3, from: ID{1, 0x20, 0}, through: ID{1, 0x20, 499_999}}
	got, err := decodeExtent(7, x.encode())
	if err != nil || !reflect.DeepEqual(got, x) {
		t.Errorf("extent %+v is read as %+v, %v", x, got, err)
	}
	if _, err := decodeExtent(7, x.encode()[1:]); !errors.Is(err, ErrDamaged) {
		t.Errorf("a shortened record: %v, want ErrDamaged", err)
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add(rowRecord{7, []byte("state")}.encode())
	f.Add(rowRecord{1 << 60, []byte{}}.encode())
	f.Add(rowRecord{7, nil}.encode())
	f.Fuzz(func(t *testing.T, record []byte) {
		r, err := decodeRow([]byte("key"), record)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("error %v is not ErrDamaged", err)
			}
			return
		}
		back, err := decodeRow(nil, r.encode())
		if err != nil || back.generation != r.generation || (back.state == nil) != (r.state == nil) || !bytes.Equal(back.state, r.state) {
			t.Errorf("%x reads as %+v, that as %+v, %v", record, r, back, err)
		}
	})
}

func FuzzUnpackRows(f *testing.F) {
	for _, b := range packRows([]Row{{[]byte("a"), []byte("state")}, {[]byte("b"), nil}, {[]byte("c"), []byte{}}}) {
		f.Add(b.value)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		rows, err := unpackRows(record)
		if (err == nil) != (len(rows) > 0) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("unpackRows = %d rows, %v", len(rows), err)
		}
	})
}
