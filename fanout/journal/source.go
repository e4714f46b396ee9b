package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Source is the history that a journal has been reading.
type Source struct {
	SystemID string `json:"system_id"` // PostgreSQL's system identifier
	Timeline int32  `json:"timeline"`
	Slot     string `json:"slot"`             // empty while a resync makes another
	Epoch    uint16 `json:"epoch"`            // of what is committed on Timeline; counts changes of it and of SystemID, from 1
	Filled   LSN    `json:"filled,omitempty"` // as of where the rows were filled from a snapshot; 0: they were not
	Past     []Past `json:"past,omitempty"`   // the timelines before this one, oldest first; never changed in place

	// Away are tables that were not published for a time: what was committed
	// there meanwhile is missing until a resync. Never changed in place.
	Away []string `json:"away,omitempty"`
}

// Past is a timeline that the server has left.
type Past struct {
	Timeline int32  `json:"timeline"`
	Until    LSN    `json:"until"` // the next one begins here
	Epoch    uint16 `json:"epoch"` // of what was committed before Until
}

// EpochAt gives the epoch of a commit by where its record stands: the same for
// ever, on whichever timeline the commit is read.
func (s Source) EpochAt(commit LSN) uint16 {
	for _, p := range s.Past {
		if commit < p.Until {
			return p.Epoch
		}
	}
	return s.Epoch
}

// Equal tells whether the two are the same history.
func (s Source) Equal(o Source) bool {
	return s.SystemID == o.SystemID && s.Timeline == o.Timeline && s.Slot == o.Slot &&
		s.Epoch == o.Epoch && s.Filled == o.Filled && slices.Equal(s.Past, o.Past) && slices.Equal(s.Away, o.Away)
}

// Source gives the history that was read so far; ok is false for a journal
// that has read none.
func (j *Journal) Source() (s Source, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.source, !j.source.Equal(Source{})
}

// SetSource records what more is known of the history: a timeline that
// continues it, say. What was read so far stays read. It returns when that is
// durable.
func (j *Journal) SetSource(ctx context.Context, s Source) error {
	return j.setSource(ctx, s, func(*item) {})
}

// Rebase records that the journal goes on with another history, or further on
// in its own: everything before lsn counts as read, nothing behind it does. It
// returns when that is durable.
func (j *Journal) Rebase(ctx context.Context, s Source, lsn LSN) error {
	return j.setSource(ctx, s, func(it *item) {
		if begins := j.source.Equal(Source{}) && j.expiredID.IsZero(); begins || j.lastID.IsZero() {
			// The journal begins here. Whoever asks for what came behind an
			// earlier message had it from another one. What was backfilled has
			// the position just before lsn.
			j.expiredID = ID{Epoch: s.Epoch, LSN: lsn - min(lsn, 1)}
			if j.lastID.IsZero() {
				j.lastID = j.expiredID
			} else {
				j.expiredID.LSN -= min(lsn, 1)
			}
			it.update.Set(keyExpired, front{j.oldest, j.expiredID}.encode())
		}
		j.at.Epoch, j.at.Commit, j.at.Confirmed = s.Epoch, 0, lsn
	})
}

// setSource queues the record; moveLocked adds to its item, and moves what goes
// with it.
func (j *Journal) setSource(ctx context.Context, s Source, moveLocked func(*item)) error {
	value, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("set source: %w", err)
	}
	var u Update
	u.Set(keySource, value)
	it := &item{update: u}
	if err := j.writeWith(ctx, it, func() { moveLocked(it) }); err != nil {
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

// writeWith is queueWith that returns when the item is durable.
func (j *Journal) writeWith(ctx context.Context, it *item, change func()) error {
	written := make(chan error, 1)
	it.done = func(err error) { written <- err }
	if err := j.queueWith(ctx, it, change); err != nil {
		return err
	}
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
