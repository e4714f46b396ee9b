package journal

import (
	"context"
	"sync"
)

// Watermark is a position that only rises and that others can wait for.
// The zero value stands at 0.
type Watermark struct {
	mu      sync.Mutex
	at      Seq
	failed  error         // why it rises no more
	reached chan struct{} // closed and dropped when at rises or failed is set; nil while nobody waits
}

// At gives the present position.
func (w *Watermark) At() Seq {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// Raise moves the position to seq and wakes who waits; a lower seq does nothing.
func (w *Watermark) Raise(seq Seq) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq <= w.at {
		return
	}
	w.at = seq
	w.wakeLocked()
}

// Fail tells who waits that the position rises no more.
func (w *Watermark) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = err
	w.wakeLocked()
}

func (w *Watermark) wakeLocked() {
	if w.reached != nil {
		close(w.reached)
		w.reached = nil
	}
}

// Wait returns once the position is at or past seq, or with ctx's error, or
// with the one that was given to Fail.
func (w *Watermark) Wait(ctx context.Context, seq Seq) error {
	for {
		w.mu.Lock()
		if w.at >= seq {
			w.mu.Unlock()
			return nil
		}
		if w.failed != nil {
			defer w.mu.Unlock()
			return w.failed
		}
		if w.reached == nil {
			w.reached = make(chan struct{})
		}
		reached := w.reached
		w.mu.Unlock()
		select {
		case <-reached:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
