package journal

import (
	"testing"
	"time"
)

// The last ID that has gone is still known for what it is: everything behind it
// is kept, also when that is nothing, and also after reopening.
func TestIDThatHasJustGoneIsNoGap(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	mustAppend(t, j, commit(1, 0x10, 1, 10), commit(1, 0x20, 1, 10), commit(1, 0x30, 1, 10), commit(1, 0x40, 1, 10))
	mustSync(t, j)
	expire := func(through Seq) {
		t.Helper()
		if _, err := j.Expire(deadline(t), time.Now(), through, func(*Update, Seq, *Message) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	check := func(lsn LSN, want Place) {
		t.Helper()
		if got, err := j.Find(ID{Epoch: 1, LSN: lsn}); err != nil || got != want {
			t.Errorf("Find(%s) = %+v, %v, want %+v", lsn, got, err, want)
		}
	}
	expire(2)
	for range 2 {
		check(0x10, Place{Gone: true})
		check(0x20, Place{})
		check(0x28, Place{})
		check(0x30, Place{Seq: 3, Exact: true})
		check(0x48, Place{Seq: 4, Ahead: true})
		end()
		j, end = start(t, dir)
	}
	expire(4)
	for range 2 {
		check(0x30, Place{Gone: true})
		check(0x40, Place{})
		check(0x48, Place{Seq: 4, Ahead: true})
		end()
		j, end = start(t, dir)
	}
}
