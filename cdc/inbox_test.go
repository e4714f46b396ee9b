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
				for range c.events {
					if err := b.add(t.Context(), event{}); err != nil {
						t.Fatal(err)
					}
				}
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
