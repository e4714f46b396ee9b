package journal

import (
	"context"
	"encoding/json"
	"fmt"
)

// Source gives the history that was read so far; ok is false for a journal
// that has read none.
func (j *Journal) Source() (s Source, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.source, j.source != Source{}
}

// SetSource records the history to be read from now on. It returns when that
// is durable. Positions of two histories cannot be compared, so in a new epoch
// nothing is confirmed.
func (j *Journal) SetSource(ctx context.Context, s Source) error {
	return j.setSource(ctx, s, func(at *position) {
		if s.Epoch > at.Epoch {
			at.Epoch, at.Commit, at.Confirmed = s.Epoch, 0, 0
		}
	})
}

// Rebase records that the journal goes on with another history, or further on
// in its own: everything before lsn counts as read, nothing behind it does. It
// returns when that is durable.
func (j *Journal) Rebase(ctx context.Context, s Source, lsn LSN) error {
	return j.setSource(ctx, s, func(at *position) {
		at.Epoch, at.Commit, at.Confirmed = s.Epoch, 0, lsn
	})
}

func (j *Journal) setSource(ctx context.Context, s Source, move func(*position)) error {
	value, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("set source: %w", err)
	}
	var u Update
	u.Set(keySource, value)
	written := make(chan error, 1)
	it := &item{update: u, done: func(err error) { written <- err }}
	if err := j.queueWith(ctx, it, func() { move(&j.at) }); err != nil {
		return fmt.Errorf("set source: %w", err)
	}
	select {
	case err = <-written:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("set source: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.source = s
	return nil
}

// queueWith queues an item together with a change of what mu guards.
func (j *Journal) queueWith(ctx context.Context, it *item, change func()) error {
	if err := j.waitRoom(ctx, maxQueue); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	change()
	j.enqueueLocked(it)
	return nil
}
