package ack

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"
)

// fall lets messages fall due for readers who were never there.
func (d *desk) fall() {
	time.Sleep(usual.Timeout + time.Second)
	synctest.Wait()
}

func readersOf(overs []HandOver) (readers []journal.Reader) {
	for _, over := range overs {
		readers = append(readers, over.Reader)
	}
	return readers
}

func TestLateAckBeforeTheHandOverWins(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1)
		d.sent(1, 1, seq)
		d.fall()
		d.wantCounts(Counts{1, 1, 1})
		d.ack(1, id)
		d.wantCounts(Counts{})
		if overs, cancels := d.next(10); len(overs)+len(cancels) > 0 {
			t.Errorf("given %v, %v after the acknowledgement", overs, cancels)
		}
		d.flushed()
		if n := d.inMemory(); n != 0 {
			t.Errorf("%d accounts stay in memory", n)
		}
	})
}

// The same without a sender that looks at the outbox: the account must leave
// memory all the same.
func TestAccountAckedAfterGivingUpLeavesMemory(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1, 2)
		d.sent(1, 1, seq)
		d.sent(2, 1, seq)
		d.fall()
		d.ack(1, id)
		d.ack(2, id)
		d.flushed()
		if n := d.inMemory(); n != 0 {
			t.Errorf("%d accounts stay in memory", n)
		}
	})
}

func TestLateAckDuringTheFlight(t *testing.T) {
	for name, kafka := range map[string]bool{"Kafka has it": true, "Kafka refused": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *desk) {
				seq, id := d.publish(1)
				d.sent(1, 1, seq)
				d.fall()
				overs, _ := d.next(10)
				if len(overs) != 1 {
					t.Fatalf("given %v, want one", overs)
				}
				d.ack(1, id)
				d.ack(1, id)
				d.settle([]bool{kafka}, nil)
				overs, cancels := d.next(10)
				if len(overs) > 0 {
					t.Errorf("given again: %+v", overs)
				}
				if kafka {
					want := Cancel{Seq: seq, Reader: 1, ID: id, CeID: CeID(id, "reader-1"), Cause: CauseAcked}
					if len(cancels) != 1 || cancels[0] != want {
						t.Errorf("cancels %+v, want %+v", cancels, want)
					}
				} else if len(cancels) > 0 {
					t.Errorf("cancels %+v of what Kafka does not have", cancels)
				}
				d.settle(nil, all(len(cancels)))
				d.wantCounts(Counts{})
				d.flushed()
				if n := d.inMemory(); n != 0 {
					t.Errorf("%d accounts stay in memory", n)
				}
			})
		})
	}
}

func TestLateAckAfterTheHandOverIsCancelledOnceOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		seq, id := d.publish(1)
		d.sent(1, 1, seq)
		d.fall()
		d.drain()
		d.wantCounts(Counts{})
		d.flushed() // the account has left memory
		d.ack(1, id)
		d.ack(1, id)
		want := []Cancel{{Seq: seq, Reader: 1, ID: id, CeID: CeID(id, "reader-1"), Cause: CauseAcked}}
		wantCancels := func(when string, want []Cancel) {
			t.Helper()
			overs, cancels := d.next(10)
			if len(overs) > 0 || !slices.Equal(cancels, want) {
				t.Fatalf("%s: given %+v, %+v, want %+v", when, overs, cancels, want)
			}
			if len(want) > 0 {
				d.settle(nil, make([]bool, len(want)))
			}
		}
		wantCancels("at once", want)
		wantCancels("refused by Kafka", want)
		d = d.restart(dir)
		d.l.Arm()
		wantCancels("after a restart", want)
		d.ack(1, id)
		wantCancels("after another acknowledgement", want)
		d.next(10)
		d.settle(nil, []bool{true})
		wantCancels("settled", nil)
		d = d.restart(dir)
		d.l.Arm()
		d.ack(1, id)
		wantCancels("settled and restarted", nil)
	})
}

func TestWhatKafkaRefusedIsGivenAgainInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		first, _ := d.publish(1, 2, 3)
		second, _ := d.publish(1)
		d.fall()
		overs, _ := d.next(10)
		if got := readersOf(overs); !slices.Equal(got, []journal.Reader{1, 2, 3, 1}) || overs[3].Seq != second {
			t.Fatalf("given %+v", overs)
		}
		if overs[0].Message != overs[1].Message && overs[0].Message.ID != overs[1].Message.ID {
			t.Errorf("one message came as two: %v, %v", overs[0].Message, overs[1].Message)
		}
		d.settle([]bool{false, true, false, true}, nil)
		d.wantCounts(Counts{1, 2, 2})
		overs, _ = d.next(1)
		if got := readersOf(overs); !slices.Equal(got, []journal.Reader{1}) || overs[0].Seq != first {
			t.Fatalf("given again %+v, want reader 1", overs)
		}
		d.settle([]bool{false}, nil)
		overs, _ = d.next(10)
		if got := readersOf(overs); !slices.Equal(got, []journal.Reader{1, 3}) {
			t.Fatalf("given again %+v, want readers 1 and 3", overs)
		}
		d.settle(all(2), nil)
		d.wantCounts(Counts{})
	})
}

// Who comes back while Kafka is down gets a replay: its record must not say
// that it was never written to.
func TestReasonFitsTheAttempts(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, _ := d.publish(1)
		d.fall()
		d.connect(1)
		d.sent(1, 1, seq)
		overs, _ := d.drain()
		if len(overs) != 1 || overs[0].Reason != ReasonAckTimeout || overs[0].Attempts != 1 {
			t.Errorf("handed over %+v, want ack_timeout after 1 attempt", overs)
		}
	})
}

func TestSettleMustFitTheBatch(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.publish(1, 2)
		d.fall()
		d.next(10)
		for _, handed := range [][]bool{nil, all(1), all(3)} {
			if err := d.l.Settle(outcomes(handed), nil); err == nil {
				t.Errorf("Settle of %d hand-overs succeeded, 2 were given", len(handed))
			}
		}
		if err := d.l.Settle(outcomes(all(2)), all(1)); err == nil {
			t.Error("Settle of a cancel that was not given succeeded")
		}
		d.wantCounts(Counts{1, 2, 2})
		d.settle(all(2), nil)
		d.wantCounts(Counts{})
	})
}

func TestHandOverIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		seq, _ := d.publish(1, 2)
		d.fall()
		d.next(10)
		d.settle([]bool{true, false}, nil)
		d = d.restart(dir)
		d.wantCounts(Counts{1, 1, 0})
		d.l.Arm()
		d.fall()
		overs, _ := d.drain()
		if got := readersOf(overs); !slices.Equal(got, []journal.Reader{2}) {
			t.Errorf("handed over %+v after the restart, want reader 2", overs)
		}
		for r := range uint32(2) {
			if seqs, _ := d.unread(r+1, 0, 10); !slices.Equal(seqs, []journal.Seq{seq}) {
				t.Errorf("unread of reader %d is %v, want what was handed over", r+1, seqs)
			}
		}
		d = d.restart(dir)
		d.wantCounts(Counts{})
	})
}

func TestDeletedReaderIsNotHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1, 2)
		d.sent(2, 1, seq)
		d.fall()
		d.mu.Lock()
		d.gone[1] = true
		d.mu.Unlock()
		overs, _ := d.next(10)
		if got := readersOf(overs); !slices.Equal(got, []journal.Reader{2}) {
			t.Fatalf("given %+v, want reader 2", overs)
		}
		d.settle(all(1), nil)
		d.wantCounts(Counts{})
		d.mu.Lock()
		d.gone[2] = true
		d.mu.Unlock()
		d.ack(2, id)
		if _, cancels := d.next(10); len(cancels) > 0 {
			t.Errorf("cancelled %+v for a reader who was deleted", cancels)
		}
		d.flushed()
		if n := d.inMemory(); n != 0 {
			t.Errorf("%d accounts stay in memory", n)
		}
	})
}

// An acknowledgement may come between the moment when the sender's batch is
// put together and the one when its readers are named.
func TestReaderDeletedAfterAckDuringTheFlight(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1)
		d.sent(1, 1, seq)
		d.fall()
		d.l.mu.Lock()
		d.l.takeOffLocked(10)
		flight := slices.Clone(d.l.flight)
		d.l.mu.Unlock()
		d.ack(1, id)
		d.l.forget(flight[0])
		d.wantCounts(Counts{})
	})
}

// A fault of the database is not an answer, and a batch that was not given did
// not leave.
func TestFaultWhileNamingDropsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		fault := errors.New("disk on fire")
		fail := func(err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.nameErr = err
		}
		faulty := func() {
			t.Helper()
			fail(fault)
			if _, _, err := d.l.Next(t.Context(), 10); !errors.Is(err, fault) {
				t.Errorf("Next = %v, want the fault", err)
			}
			fail(nil)
		}
		seq, id := d.publish(1, 2)
		d.sent(1, 1, seq)
		d.sent(2, 1, seq)
		d.fall()
		faulty()
		d.ack(2, id)
		if overs, _ := d.drain(); len(overs) != 1 || overs[0].Reader != 1 {
			t.Fatalf("given %+v, want reader 1", overs)
		}
		d.ack(1, id)
		faulty()
		if overs, cancels := d.next(10); len(overs) != 0 || len(cancels) != 1 {
			t.Errorf("given %+v, %+v, want the cancel", overs, cancels)
		}
		d.settle(nil, all(1))
		d.wantCounts(Counts{})
	})
}

// A long list of either must not keep the other from leaving.
func TestBatchHasRoomForCancels(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		readers := []uint32{1, 2, 3, 4, 5, 6, 7, 8}
		seq, id := d.publish(readers...)
		for _, r := range readers {
			d.sent(r, 1, seq)
		}
		d.fall()
		d.drain()
		d.publish(readers...)
		d.fall()
		for _, r := range readers {
			d.ack(r, id)
		}
		overs, cancels := d.next(4)
		if len(overs) != 2 || len(cancels) != 2 {
			t.Errorf("given %d hand-overs and %d cancels, want two of each", len(overs), len(cancels))
		}
		d.settle(all(2), all(2))
	})
}

// Until the message is durable so is not the reader's name, and a reader
// without a name must not be taken for a deleted one.
func TestHandOverWaitsForTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, began: time.Now(), gone: map[journal.Reader]bool{1: true}}
		d.load(t.TempDir(), usual)
		defer func() { d.close() }()
		d.start("ledger", func(ctx context.Context) error { return d.l.Run(ctx, d) })
		d.l.Arm()
		d.publish(1)
		d.fall()
		if overs, _ := d.next(10); len(overs) > 0 {
			t.Errorf("given %+v, which is not durable", overs)
		}
		d.wantCounts(Counts{1, 1, 1})
		delete(d.gone, 1)
		d.start("journal", d.j.Run)
		slices.Reverse(d.stopped)
		if overs, _ := d.drain(); len(overs) != 1 {
			t.Errorf("given %+v, want one once it is durable", overs)
		}
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errNothing)
		if _, _, err := d.l.Next(ctx, 10); !errors.Is(err, errNothing) {
			t.Errorf("Next = %v, want its context's cause", err)
		}
	})
}

func TestNextWakesWhenThereIsWork(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		began := time.Now()
		d.publish(1)
		overs, _, err := d.l.Next(t.Context(), 10)
		if took := time.Since(began); err != nil || len(overs) != 1 || took < 30*time.Second || took > 30100*time.Millisecond {
			t.Errorf("Next gave %+v, %v after %s, want one after 30s", overs, err, took)
		}
	})
}
