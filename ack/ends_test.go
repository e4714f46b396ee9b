package ack

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"
)

// Steps follow one another without a gap, and each is at most a 64th of the age
// that it begins with, 50 ms where that is more, 51.2 s where it is less.
func TestStepsAreAsFineAsTheyAreSaidToBe(t *testing.T) {
	ages := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		age := time.Duration(ages.Int64N(int64(time.Hour) << ages.IntN(8)))
		from := stepOf(age)
		begin := time.Duration(from) * endStep
		longest := min(max(begin/64, endStep), endStep<<endSteps)
		if age < begin || age-begin >= longest || stepOf(begin) != from {
			t.Fatalf("an age of %s is in the step from %s on, which may be %s long", age, begin, longest)
		}
	}
	if stepOf(-time.Second) != 0 {
		t.Errorf("before its time: step %d", stepOf(-time.Second))
	}
	if n := stepsOf(72 * time.Hour); n > 6000 {
		t.Errorf("%d steps in 72 h: a record each may be too many", n)
	}
}

// stepsOf counts the steps of a message that is kept for so long.
func stepsOf(retention time.Duration) (n int) {
	for at := time.Duration(0); at < retention; n++ {
		for before := stepOf(at); stepOf(at) == before; {
			at += endStep
		}
	}
	return n
}

// Every pair has the time of its own end, as fine as is said, over restarts; and
// whatever readers do, their account has no more records than steps.
func TestEveryCopyHasTheTimeOfItsOwnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, random := t.TempDir(), rand.New(rand.NewPCG(3, 4))
		d := newDesk(t, dir, usual)
		d.l.Arm()
		defer func() { d.close() }()
		const readers = 400
		seq, id := d.publish(bitmapOf(readers).ToArray()...)
		routed := time.Now()
		read, handed := make(map[uint32]time.Time), make(map[uint32]time.Time)
		order := random.Perm(readers)
		ack := func(some []int) {
			for _, i := range some {
				time.Sleep(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
				d.sent(uint32(i+1), 1, seq)
				d.ack(uint32(i+1), id)
				read[uint32(i+1)] = time.Now()
			}
		}
		ack(order[:100])
		d.flushed()
		d = d.restart(dir)
		d.l.Arm()
		ack(order[100:200]) // in steps that have a record already, too
		d.flushed()
		time.Sleep(usual.total())
		for {
			overs, _ := d.next(30)
			if len(overs) == 0 {
				break
			}
			time.Sleep(70 * time.Millisecond)
			d.settle(all(len(overs)), nil)
			for _, o := range overs {
				handed[uint32(o.Reader)] = time.Now()
			}
		}
		d.flushed()
		for _, i := range order[200:230] { // each by itself, when the account has left memory
			time.Sleep(time.Duration(random.Int64N(int64(10 * time.Minute))))
			ack([]int{i})
			d.flushed()
		}
		d = d.restart(dir)
		m, _, err := d.j.Message(seq)
		d.must(err)
		within := func(what string, r uint32, got *Times, want time.Time, is bool) {
			t.Helper()
			if !is && got == nil {
				return
			}
			if !is || got == nil {
				t.Fatalf("reader %d: %s %+v, want %s", r, what, got, want)
			}
			fine := min(max(want.Sub(routed)/64, endStep), endStep<<endSteps)
			if want.Before(got.First.Add(-time.Microsecond)) || want.After(got.Last.Add(time.Microsecond)) || got.Last.Sub(got.First) > fine {
				t.Errorf("reader %d: %s %s to %s, want %s within %s", r, what, got.First, got.Last, want, fine)
			}
		}
		for r := uint32(1); r <= readers; r++ {
			c, err := TellCopy(d.j, seq, m, journal.Reader(r))
			d.must(err)
			readAt, wasRead := read[r]
			handedAt, wasHanded := handed[r]
			within("acked", r, c.AckedAt, readAt, wasRead)
			within("handed over", r, c.HandedAt, handedAt, wasHanded)
		}
		if r := d.audit(time.Time{}); !r.AddsUp || r.Acked != 200 || r.Handed != 200 || r.Late != 30 {
			t.Errorf("audit: %+v", r)
		}
		records := 0
		d.must(d.j.View(func(v journal.View) error {
			return v.Keys(journal.SpaceEnds, func([]byte) (bool, error) { records++; return true, nil })
		}))
		if most := 30 + 40 + 2*stepsOf(2*time.Second); records > most {
			t.Errorf("%d records, want at most %d", records, most)
		}
	})
}

// What of an end was written before a crash does not count if the end was not:
// the copy ends once more, and that is its time.
func TestTimeOfAnEndThatACrashTookBackDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		seq, id := d.publish(1)
		d.sent(1, 1, seq)
		d.flushed()
		var u journal.Update
		half := newEntry(seq, id, time.Now(), bitmapOf(1))
		half.end(endRead, 1, time.Now())
		if !storeEnds(&u, half) {
			t.Fatal("one record does not fit")
		}
		d.apply(u)
		d = d.restart(dir)
		m, _, err := d.j.Message(seq)
		d.must(err)
		if c, err := TellCopy(d.j, seq, m, 1); err != nil || c.State != StatePending || c.AckedAt != nil {
			t.Errorf("before it is acknowledged: %+v, %v", c, err)
		}
		time.Sleep(time.Second)
		d.ack(1, id)
		acked := time.Now()
		d.flushed()
		if c, err := TellCopy(d.j, seq, m, 1); err != nil || c.AckedAt == nil || c.AckedAt.First.Sub(acked).Abs() > time.Millisecond {
			t.Errorf("acknowledged at %s: %+v, %v", acked, c.AckedAt, err)
		}
		if r := d.audit(time.Time{}); !r.AddsUp {
			t.Errorf("audit: %q", r.Faults)
		}
	})
}
