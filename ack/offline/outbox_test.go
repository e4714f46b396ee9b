package offline

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"newswire/ack"
)

// memOutbox keeps the ledger's promise: what was not settled is given again,
// in order.
type memOutbox struct {
	t testing.TB

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each change
	waiting   []ack.HandOver
	cancels   []ack.Cancel
	given     []ack.HandOver // in flight
	takenBack []ack.Cancel   // in flight
	inFlight  bool
	settled   []ack.HandOver // in the order of acknowledgement
	cancelled []ack.Cancel
	refused   int // items settled as not acknowledged
	settleErr error
}

func newOutbox(t testing.TB) *memOutbox { return &memOutbox{t: t, changed: make(chan struct{})} }

func (o *memOutbox) signalLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *memOutbox) put(hs ...ack.HandOver) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, hs...)
	o.signalLocked()
}

func (o *memOutbox) putCancels(cs ...ack.Cancel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancels = append(o.cancels, cs...)
	o.signalLocked()
}

func (o *memOutbox) Next(ctx context.Context, max int) ([]ack.HandOver, []ack.Cancel, error) {
	for {
		o.mu.Lock()
		if o.inFlight {
			o.t.Error("Next was called before Settle")
		}
		n := min(max, len(o.waiting))
		m := min(max-n, len(o.cancels))
		if n+m > 0 {
			o.given, o.takenBack, o.inFlight = o.waiting[:n:n], o.cancels[:m:m], true
			given, takenBack := o.given, o.takenBack
			o.mu.Unlock()
			return given, takenBack, nil
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (o *memOutbox) Settle(handed []ack.Outcome, cancelled []bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(handed) != len(o.given) || len(cancelled) != len(o.takenBack) || !o.inFlight {
		o.t.Errorf("Settle of %d and %d for a batch of %d and %d", len(handed), len(cancelled), len(o.given), len(o.takenBack))
		return errors.New("settle does not match")
	}
	rest := []ack.HandOver{}
	for i, outcome := range handed {
		if outcome == ack.Taken {
			o.settled = append(o.settled, o.given[i])
		} else {
			rest = append(rest, o.given[i])
			o.refused++
		}
	}
	o.waiting = append(rest, o.waiting[len(handed):]...)
	restCancels := []ack.Cancel{}
	for i, ok := range cancelled {
		if ok {
			o.cancelled = append(o.cancelled, o.takenBack[i])
		} else {
			restCancels = append(restCancels, o.takenBack[i])
			o.refused++
		}
	}
	o.cancels = append(restCancels, o.cancels[len(cancelled):]...)
	o.inFlight = false
	o.signalLocked()
	return o.settleErr
}

// wait returns once done holds, and fails the test when it takes too long.
func (o *memOutbox) wait(what string, done func(*memOutbox) bool) {
	o.t.Helper()
	o.waitFor(20*time.Second, what, done)
}

func (o *memOutbox) waitFor(patience time.Duration, what string, done func(*memOutbox) bool) {
	o.t.Helper()
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		ok, changed := done(o), o.changed
		waiting, settled, refused := len(o.waiting), len(o.settled), o.refused
		o.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			o.t.Fatalf("waited in vain for %s: %d settled, %d waiting, %d refused", what, settled, waiting, refused)
		}
	}
}

func settled(n int) func(*memOutbox) bool {
	return func(o *memOutbox) bool { return len(o.settled) >= n && !o.inFlight }
}

func refused(n int) func(*memOutbox) bool {
	return func(o *memOutbox) bool { return o.refused >= n && !o.inFlight }
}
