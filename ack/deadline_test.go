package ack

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// wantOver checks one hand-over.
func wantOver(t *testing.T, got HandOver, seq journal.Seq, r uint32, why Reason, attempts int, firstSent, due time.Time) {
	t.Helper()
	if got.Seq != seq || got.Reader != journal.Reader(r) || got.Name != name(got.Reader) || got.Reason != why || got.Attempts != attempts {
		t.Errorf("handed over %+v, want message %d of reader %d, %s after %d attempts", got, seq, r, why, attempts)
	}
	if !got.FirstSent.Equal(firstSent) {
		t.Errorf("first sent %v, want %v", got.FirstSent, firstSent)
	}
	if late := got.Due.Sub(due); late < 0 || late > 100*time.Millisecond {
		t.Errorf("given up at %v, want %v and at most 100ms later", got.Due, due)
	}
}

func TestSilentReaderGetsThreeAttemptsThenIsHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1)
		time.Sleep(time.Minute)
		opened := time.Now()
		seq, _ := d.publish(1)
		time.Sleep(300 * time.Millisecond)
		d.sent(1, 1, seq)
		sent := time.Now()
		at := func(after time.Duration) time.Duration { return sent.Add(after).Sub(d.began) }
		time.Sleep(opened.Add(209 * time.Second).Sub(sent))
		want := []retry{{seq, 2, 1, at(30 * time.Second)}, {seq, 3, 1, at(90 * time.Second)}}
		if got := d.retried(); !reflect.DeepEqual(got, want) {
			t.Errorf("sent again %+v, want %+v", got, want)
		}
		if overs, _ := d.next(10); len(overs) > 0 {
			t.Fatalf("handed over before its time: %+v", overs)
		}
		time.Sleep(2 * time.Second)
		overs, cancels := d.drain()
		if len(overs) != 1 || len(cancels) != 0 {
			t.Fatalf("handed over %+v, cancelled %+v, want one hand-over", overs, cancels)
		}
		wantOver(t, overs[0], seq, 1, ReasonAckTimeout, 3, sent, sent.Add(210*time.Second))
		time.Sleep(10 * time.Minute)
		if overs, _ := d.next(10); len(overs) > 0 || len(d.retried()) != 2 {
			t.Errorf("afterwards: handed over %+v, sent again %+v", overs, d.retried())
		}
		d.wantCounts(Counts{})
	})
}

func TestAckStopsTheRetries(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1, 2)
		seq, id := d.publish(1, 2)
		d.sent(1, 1, seq)
		d.sent(2, 1, seq)
		d.ack(1, id) // before the first deadline
		time.Sleep(40 * time.Second)
		d.ack(2, id) // between the second attempt and its deadline
		time.Sleep(10 * time.Minute)
		if got := d.retried(); len(got) != 1 || got[0].reader != 2 || got[0].n != 2 {
			t.Errorf("sent again %+v, want attempt 2 to reader 2 only", got)
		}
		if overs, _ := d.next(10); len(overs) > 0 {
			t.Errorf("handed over %+v", overs)
		}
		d.wantCounts(Counts{})
	})
}

func TestReaderWhoWasNeverThereIsHandedOverAfterOneTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		opened := time.Now()
		seq, _ := d.publish(7)
		time.Sleep(30*time.Second - time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 1})
		time.Sleep(101 * time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 1, Backlog: 1})
		overs, _ := d.drain()
		if len(overs) != 1 {
			t.Fatalf("handed over %+v, want one", overs)
		}
		wantOver(t, overs[0], seq, 7, ReasonDisconnected, 0, time.Time{}, opened.Add(30*time.Second))
	})
}

func TestReaderWhoHasJustGoneIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1, 2)
		seq, _ := d.publish(1, 2)
		d.sent(1, 1, seq)
		sent := time.Now()
		time.Sleep(20 * time.Second)
		d.leave(1, 2)
		left := time.Now()
		time.Sleep(30*time.Second - time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 2})
		time.Sleep(101 * time.Millisecond)
		overs, _ := d.drain()
		if len(overs) != 2 {
			t.Fatalf("handed over %+v, want two", overs)
		}
		if overs[0].Reader == 2 {
			overs[0], overs[1] = overs[1], overs[0]
		}
		wantOver(t, overs[0], seq, 1, ReasonAckTimeout, 1, sent, left.Add(30*time.Second))
		wantOver(t, overs[1], seq, 2, ReasonDisconnected, 0, time.Time{}, left.Add(30*time.Second))
	})
}

func TestReaderWhoComesBackInTimeGetsItThere(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1)
		seq, id := d.publish(1)
		d.sent(1, 1, seq)
		time.Sleep(29 * time.Second)
		d.leave(1)
		time.Sleep(500 * time.Millisecond)
		d.connect(1)
		time.Sleep(200 * time.Millisecond)
		d.sent(1, 1, seq) // the replay
		replayed := time.Now()
		time.Sleep(30*time.Second - time.Millisecond)
		if len(d.retried()) > 0 {
			t.Errorf("sent again %+v before the replay had its time", d.retried())
		}
		time.Sleep(2 * time.Millisecond)
		if got := d.retried(); len(got) != 1 || got[0].n != 2 || got[0].at != replayed.Add(30*time.Second).Sub(d.began) {
			t.Errorf("sent again %+v, want attempt 2 after the replay's deadline", got)
		}
		d.ack(1, id)
		d.wantCounts(Counts{})
	})
}

// flap lets reader 1 come for a second and go again, every period, until it is
// handed over; on each connection act is called.
func flap(t *testing.T, d *desk, period time.Duration, act func()) HandOver {
	t.Helper()
	for range int(time.Hour / period) {
		d.connect(1)
		act()
		time.Sleep(time.Second)
		d.leave(1)
		time.Sleep(period - time.Second)
		if overs, _ := d.drain(); len(overs) > 0 {
			return overs[0]
		}
	}
	t.Fatal("was not handed over within an hour")
	return HandOver{}
}

// Replays use up no attempt, but a reader who never stays must end.
func TestFlappingReaderEnds(t *testing.T) {
	for name, period := range map[string]time.Duration{"quickly": 5 * time.Second, "slowly": 29 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *desk) {
				seq, _ := d.publish(1)
				opened := time.Now()
				over := flap(t, d, period, func() { d.sent(1, 1, seq) })
				if over.Reason != ReasonAckTimeout || !over.FirstSent.Equal(opened) {
					t.Errorf("handed over %+v, want ack_timeout, first sent %v", over, opened)
				}
				if took := over.Due.Sub(opened); took > usual.total()+usual.wait(3) {
					t.Errorf("took %s", took)
				}
				d.wantCounts(Counts{})
			})
		})
	}
}

func TestFlappingReaderWhoIsNeverWrittenToEnds(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.publish(1)
		opened := time.Now()
		over := flap(t, d, 20*time.Second, func() {})
		if over.Attempts != 0 || over.Reason == ReasonAckTimeout {
			t.Errorf("handed over %+v", over)
		}
		if took := over.Due.Sub(opened); took > usual.total()+2*usual.Timeout {
			t.Errorf("took %s", took)
		}
	})
}

func TestConnectedReaderWhoIsNeverWrittenToIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1)
		time.Sleep(time.Minute)
		opened := time.Now()
		seq, _ := d.publish(1)
		time.Sleep(31 * time.Second)
		overs, _ := d.drain()
		if len(overs) != 1 {
			t.Fatalf("handed over %+v, want one", overs)
		}
		wantOver(t, overs[0], seq, 1, ReasonSlowReader, 0, time.Time{}, opened.Add(30*time.Second))
	})
}

// A reader who was written to once and then takes nothing more ends too.
func TestStuckReaderEndsAfterItsTries(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1)
		d.mute[1] = true
		seq, _ := d.publish(1)
		d.sent(1, 1, seq)
		sent := time.Now()
		time.Sleep(5 * time.Minute)
		overs, _ := d.drain()
		if len(overs) != 1 || overs[0].Reason != ReasonAckTimeout || overs[0].Attempts != 1 || !overs[0].FirstSent.Equal(sent) {
			t.Fatalf("handed over %+v, want one after 1 attempt", overs)
		}
		if took := overs[0].Due.Sub(sent); took > usual.total() {
			t.Errorf("took %s", took)
		}
	})
}

func TestNothingFallsBeforeArm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, t.TempDir(), usual)
		defer d.close()
		d.publish(1)
		time.Sleep(time.Hour)
		d.wantCounts(Counts{Messages: 1, Pairs: 1})
		d.l.Arm()
		time.Sleep(30*time.Second - time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 1})
		time.Sleep(101 * time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 1, Backlog: 1})
	})
}

func TestRestartGivesEveryoneOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		d.connect(1, 2)
		seq, id := d.publish(1, 2, 3)
		d.sent(1, 1, seq)
		d.sent(2, 1, seq)
		first := time.Now()
		time.Sleep(29 * time.Second)
		d = d.restart(dir) // everybody's connection is lost
		d.wantCounts(Counts{Messages: 1, Pairs: 3})
		time.Sleep(5 * time.Minute) // PostgreSQL is not there, say
		d.l.Arm()
		armed := time.Now()
		time.Sleep(29 * time.Second)
		d.connect(1) // comes back late
		d.sent(1, 1, seq)
		time.Sleep(time.Second - time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 3})
		time.Sleep(101 * time.Millisecond)
		overs, _ := d.drain()
		if len(overs) != 2 || len(d.retried()) > 0 {
			t.Fatalf("handed over %+v, sent again %+v, want readers 2 and 3 handed over", overs, d.retried())
		}
		for _, over := range overs {
			if over.Reader == 2 {
				wantOver(t, over, seq, 2, ReasonAckTimeout, 1, first, armed.Add(30*time.Second))
			} else {
				wantOver(t, over, seq, 3, ReasonDisconnected, 0, time.Time{}, armed.Add(30*time.Second))
			}
		}
		d.ack(1, id)
		d.wantCounts(Counts{})
	})
}

// The attempts made before a restart count: a fourth one is never sent.
func TestRestartKeepsTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		d.connect(1)
		seq, _ := d.publish(1)
		d.sent(1, 1, seq)
		first := time.Now()
		time.Sleep(100 * time.Second)
		if got := d.retried(); len(got) != 2 {
			t.Fatalf("sent again %+v, want attempts 2 and 3", got)
		}
		d = d.restart(dir)
		d.l.Arm()
		d.connect(1)
		d.sent(1, 3, seq) // the replay
		replayed := time.Now()
		time.Sleep(120*time.Second - time.Millisecond)
		d.wantCounts(Counts{Messages: 1, Pairs: 1})
		time.Sleep(101 * time.Millisecond)
		overs, _ := d.drain()
		if len(overs) != 1 || len(d.retried()) > 0 {
			t.Fatalf("handed over %+v, sent again %+v, want one hand-over", overs, d.retried())
		}
		wantOver(t, overs[0], seq, 1, ReasonAckTimeout, 3, first, replayed.Add(120*time.Second))
	})
}

// When the process sleeps, everyone's acknowledgements are still on their way.
func TestDeadlinesWaitAfterTheProcessSlept(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.connect(1)
		decoy, decoyID := d.publish(1)
		d.sent(1, 1, decoy)
		time.Sleep(time.Second)
		seq, id := d.publish(1, 2)
		d.sent(1, 1, seq)
		d.mu.Lock()
		d.stall = 10 * time.Minute // the next deadline, of the decoy, is where it sleeps
		d.mu.Unlock()
		time.Sleep(29*time.Second + 10*time.Minute + time.Millisecond)
		d.wantCounts(Counts{Messages: 2, Pairs: 3})
		time.Sleep(29 * time.Second)
		d.wantCounts(Counts{Messages: 2, Pairs: 3})
		if got := d.retried(); len(got) != 1 || got[0].seq != decoy {
			t.Errorf("sent again %+v, want only what had fallen before the sleep", got)
		}
		d.ack(1, id, decoyID)
		time.Sleep(2 * time.Second)
		overs, _ := d.drain()
		if len(overs) != 1 || overs[0].Reader != 2 {
			t.Errorf("handed over %+v, want reader 2", overs)
		}
		d.wantCounts(Counts{})
	})
}

// A clock that was set back while the process was down must not keep a message
// for as long.
func TestSendFromTheFutureDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		seq, _ := d.publish(1)
		d.sent(1, 1, seq)
		d.l.mu.Lock()
		d.l.entries[seq].sends[0].at = time.Now().Add(24 * time.Hour)
		d.l.mu.Unlock()
		d = d.restart(dir)
		d.l.Arm()
		time.Sleep(usual.total() + 2*usual.Timeout)
		if overs, _ := d.drain(); len(overs) != 1 {
			t.Errorf("handed over %+v, want one", overs)
		}
	})
}

// A due time without a monotonic reading moves when the machine's clock is set.
func TestDeadlinesAreMonotonic(t *testing.T) {
	now := time.Now()
	l := &Ledger{cfg: usual, wake: make(chan struct{}, 1)}
	e := newEntry(1, idAt(1), now.Add(-30*time.Second), roaring.BitmapOf(1))
	p := Presence{Connected: roaring.New(), Changed: map[journal.Reader]time.Time{1: now.Add(-time.Second)}}
	l.judge(wait{entry: e, due: now}, e.audience, p, now)
	if len(l.waits) != 1 || !strings.Contains(l.waits[0].due.String(), "m=") {
		t.Errorf("waits are %+v, want one with a monotonic time", l.waits)
	}
}

func TestWaits(t *testing.T) {
	for name, test := range map[string]struct {
		cfg   Config
		total time.Duration
	}{
		"usual":      {usual, 210 * time.Second},
		"no retries": {Config{Timeout: time.Second, Retries: 0, Backoff: 2}, time.Second},
		"steady":     {Config{Timeout: time.Second, Retries: 4, Backoff: 1}, 5 * time.Second},
		"beyond all": {Config{Timeout: time.Minute, Retries: 1000, Backoff: 10}, math.MaxInt64 / 4},
	} {
		if got := test.cfg.total(); got != test.total {
			t.Errorf("%s: total %s, want %s", name, got, test.total)
		}
	}
}
