package journal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestWatermarkWakesWhoWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watermark
		reached := make(chan Seq, 3)
		for _, seq := range []Seq{1, 2, 5} {
			go func() {
				if err := w.Wait(t.Context(), seq); err == nil {
					reached <- seq
				}
			}()
		}
		synctest.Wait()
		if len(reached) != 0 {
			t.Fatal("Wait returned before Raise")
		}
		w.Raise(2)
		synctest.Wait()
		if len(reached) != 2 {
			t.Fatalf("at 2, %d of the waits for 1 and 2 returned", len(reached))
		}
		if a, b := <-reached, <-reached; a+b != 3 {
			t.Fatalf("at 2, the waits for %d and %d returned", a, b)
		}
		w.Raise(9) // past it
		if got := <-reached; got != 5 {
			t.Fatalf("wait for %d returned, want 5", got)
		}
	})
}

func TestWatermarkNeverFalls(t *testing.T) {
	var w Watermark
	w.Raise(7)
	w.Raise(3)
	if got := w.At(); got != 7 {
		t.Errorf("At() = %d after Raise(7), Raise(3)", got)
	}
	if err := w.Wait(ended(), 7); err != nil {
		t.Errorf("Wait for what is reached = %v", err)
	}
}

func TestWatermarkWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watermark
		because := errors.New("the reader left")
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- w.Wait(ctx, 1) }()
		synctest.Wait()
		cancel(because)
		if err := <-failed; !errors.Is(err, because) {
			t.Errorf("Wait = %v, want %v", err, because)
		}
		w.Raise(1) // nobody is left to be woken
		if err := w.Wait(t.Context(), 1); err != nil {
			t.Errorf("Wait after Raise = %v", err)
		}
	})
}
