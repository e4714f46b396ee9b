package ack

import (
	"slices"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"
)

// bitmapOf gives the readers 1 to n.
func bitmapOf(n int) *roaring.Bitmap {
	m := roaring.New()
	m.AddRange(1, uint64(n)+1)
	return m
}

// onDisk gives what the disk holds of an entry.
func onDisk(t tester, dir string, e *entry) (loaded *entry, audience, progress []byte) {
	t.Helper()
	d := &desk{t: t}
	d.load(dir, usual)
	defer d.close()
	var u journal.Update
	storeAudience(&u, e)
	if !storeChanges(&u, e) {
		t.Fatalf("the entry does not fit one update")
	}
	d.start("journal", d.j.Run)
	d.must(d.j.ApplySync(t.(testing.TB).Context(), u))
	d.must(d.j.View(func(v journal.View) (err error) {
		if loaded, _, err = loadEntry(v, e.seq); err != nil {
			return err
		}
		if audience, _, err = v.Get(journal.SpaceAudience.Seq(e.seq)); err != nil {
			return err
		}
		progress, _, err = v.Get(journal.SpaceProgress.Seq(e.seq))
		return err
	}))
	return loaded, audience, progress
}

func busyEntry() *entry {
	opened := time.UnixMicro(1_700_000_000_123_456)
	e := newEntry(7, idAt(42), opened, bitmapOf(5000))
	for r := range journal.Reader(900) {
		e.record(r+1, 1+int(r)%3, opened.Add(time.Duration(r)*time.Millisecond))
	}
	e.read.AddRange(1, 401)
	e.handed.AddRange(300, 501)
	e.forgotten.AddRange(600, 701)
	e.reads.note(opened.Add(time.Second))
	e.hands.note(opened.Add(time.Minute))
	e.retracted = true
	e.left = 4399
	return e
}

func sameEntry(a, b *entry) bool {
	return a.seq == b.seq && a.id == b.id && a.opened.Equal(b.opened) && a.left == b.left && a.retracted == b.retracted &&
		a.audience.Equals(b.audience) && a.read.Equals(b.read) && a.handed.Equals(b.handed) &&
		a.forgotten.Equals(b.forgotten) && a.sent.Equals(b.sent) && sameSpan(a.reads, b.reads) && sameSpan(a.hands, b.hands) &&
		slices.EqualFunc(a.sends, b.sends, func(a, b send) bool {
			return a.n == b.n && a.at.Equal(b.at) && a.readers.Equals(b.readers) && a.serial == b.serial
		})
}

func sameSpan(a, b span) bool { return a.first.Equal(b.first) && a.last.Equal(b.last) }

func TestRecordsRoundTrip(t *testing.T) {
	fresh := newEntry(1, journal.ID{Epoch: 65535, LSN: 1 << 63, Ordinal: 1 << 31}, time.UnixMicro(0), bitmapOf(1))
	for name, e := range map[string]*entry{"fresh": fresh, "busy": busyEntry()} {
		got, audience, _ := onDisk(t, t.TempDir(), e)
		if !sameEntry(got, e) {
			t.Errorf("%s: loaded %+v, want %+v", name, got, e)
		}
		got, err := decodeRecords(e.seq, audience, nil)
		if err != nil || got.left != int(e.audience.GetCardinality()) || len(got.sends) > 0 {
			t.Errorf("%s: without progress decoded %+v, %v", name, got, err)
		}
	}
}

func TestDamagedRecordsAreRefused(t *testing.T) {
	_, audience, progress := onDisk(t, t.TempDir(), busyEntry())
	for n := range len(audience) {
		if _, err := decodeRecords(7, audience[:n], progress); err == nil {
			t.Fatalf("an audience record cut to %d of %d bytes was taken", n, len(audience))
		}
	}
	for n := 1; n < len(progress); n += 7 {
		if _, err := decodeRecords(7, audience, progress[:n]); err == nil {
			t.Fatalf("a progress record cut to %d of %d bytes was taken", n, len(progress))
		}
	}
	for _, more := range [][2][]byte{{append(slices.Clone(audience), 0), progress}, {audience, append(slices.Clone(progress), 0)}} {
		if _, err := decodeRecords(7, more[0], more[1]); err == nil {
			t.Error("a record with a byte too many was taken")
		}
	}
	if _, err := decodeSend(sendKey(1, 1), audience); err == nil {
		t.Error("a send that is none was taken")
	}
	if _, err := decodeEnd(audience); err == nil {
		t.Error("an end that is none was taken")
	}
	audience[0]++
	if _, err := decodeRecords(7, audience, progress); err == nil {
		t.Error("a record of an unknown version was taken")
	}
}

func FuzzDecodeRecords(f *testing.F) {
	for _, e := range []*entry{newEntry(1, idAt(1), time.UnixMicro(5), bitmapOf(3)), busyEntry()} {
		_, audience, progress := onDisk(f, f.TempDir(), e)
		f.Add(audience, progress)
	}
	f.Fuzz(func(t *testing.T, audience, progress []byte) {
		e, err := decodeRecords(1, audience, progress)
		if err != nil {
			return
		}
		// What was taken must be fit for use.
		e.unread()
		e.waiting(e.audience)
		e.groups(e.audience.Clone())
		e.record(1, 1, time.Now())
		e.unrecord(1, 1)
		if x, err := decodeEnd(progress); err == nil {
			x.readers.Or(e.audience)
		}
		if e.left < 0 || e.left > int(e.audience.GetCardinality()) {
			t.Errorf("%d of %d readers are left", e.left, e.audience.GetCardinality())
		}
	})
}

func TestCancelRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Cancel{
			Seq: journal.Seq(rapid.Uint64().Draw(t, "seq")), Reader: journal.Reader(rapid.Uint32().Draw(t, "reader")),
			ID:    journal.ID{Epoch: rapid.Uint16().Draw(t, "epoch"), LSN: journal.LSN(rapid.Uint64().Draw(t, "lsn")), Ordinal: rapid.Uint32().Draw(t, "ordinal")},
			Cause: rapid.SampledFrom([]string{CauseAcked, CauseRetracted}).Draw(t, "cause"),
		}
		got, err := decodeCancel(cancelKey(want), append([]byte(want.ID.String()), want.Cause...))
		if err != nil || got != want {
			t.Errorf("decoded %+v, %v, want %+v", got, err, want)
		}
	})
	for _, value := range []string{"", "0001", "000100000000000000010000000g" + CauseAcked} {
		if _, err := decodeCancel(cancelKey(Cancel{}), []byte(value)); err == nil {
			t.Errorf("the record %q was taken", value)
		}
	}
	if _, err := decodeCancel([]byte("x"), []byte(idAt(1).String()+CauseAcked)); err == nil {
		t.Error("a short key was taken")
	}
}
