package cdc

import (
	"testing"
	"testing/synctest"
	"time"
)

// In a flood the socket is left alone while there is work, for a bounded time;
// what comes alone is handed over at once.
func TestSocketIsLeftAloneWhileThereIsWork(t *testing.T) {
	const work = leftAlone / 2
	for name, c := range map[string]struct {
		events int
		work   time.Duration // until what was added is done
		want   time.Duration // that flush takes
	}{
		"one":             {1, work, 0},
		"few":             {floodFrom - 1, work, 0},
		"a flood":         {floodFrom, work, work},
		"much of a flood": {2 * handOver, work, work},
		"long work":       {floodFrom, time.Hour, leftAlone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, taken := newInbox(), 0
				b.pause = time.Sleep
				b.rest() // as it does before anything has come
				done := make(chan struct{})
				go func() {
					defer close(done)
					for taken < c.events {
						<-b.filled
						taken += len(b.take(nil))
						if taken == c.events {
							time.Sleep(c.work)
						}
						b.rest()
					}
				}()
				addMany(t, b, c.events)
				began := time.Now()
				b.flush()
				if got := time.Since(began); got != c.want {
					t.Errorf("flush took %s, want %s", got, c.want)
				}
				<-done
				if taken != c.events {
					t.Errorf("%d events were handed over, want %d", taken, c.events)
				}
			})
		})
	}
}

// A flood that comes in drops is read a moment later, and many at a time; what
// comes slowly, or behind it, is not.
func TestSocketIsLeftAloneForAMomentInAFlood(t *testing.T) {
	for name, c := range map[string]struct {
		events int           // that each reading gives
		every  time.Duration // readings
		want   bool
	}{
		"one by one":             {1, floodEvery, true},
		"a few at a time":        {4, 2 * floodEvery, true},
		"one by one, slowly":     {1, 2 * floodEvery, false},
		"a few at a time slowly": {floodFrom - 1, time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, paused := newInbox(), 0
				b.pause = func(time.Duration) { paused++ }
				read := func() {
					addMany(t, b, c.events)
					b.flush()
					b.take(nil)
				}
				for began := time.Now(); time.Since(began) < 4*floodSpan; time.Sleep(c.every) {
					read()
				}
				if paused > 0 != c.want {
					t.Errorf("it was left alone %d times, want it at all: %v", paused, c.want)
				}
				time.Sleep(time.Second)
				paused = 0
				read()
				if paused > 0 {
					t.Error("it was left alone behind the flood, too")
				}
			})
		})
	}
}

func addMany(t *testing.T, b *inbox, events int) {
	t.Helper()
	for range events {
		if _, err := b.add(t.Context(), event{}); err != nil {
			t.Fatal(err)
		}
	}
}
