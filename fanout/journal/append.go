package journal

import (
	"context"
	"fmt"
	"time"
)

// Append gives a commit's messages their places, in order and all together. It
// returns before they are durable, and waits while too much is on its way to
// the disk. A commit that is already in the journal is taken silently. What
// was given to Spool before is part of the commit; c is the rest of it.
func (j *Journal) Append(ctx context.Context, c Commit) error {
	if err := j.append(ctx, c); err != nil {
		return fmt.Errorf("append commit %s: %w", c.LSN, err)
	}
	return nil
}

func (j *Journal) append(ctx context.Context, c Commit) error {
	if c.Spooled > 0 {
		return j.appendSpooled(ctx, c)
	}
	for i := range c.Messages {
		if err := c.Messages[i].check(); err != nil {
			return err
		}
	}
	if !oneTransaction(c.Messages, c.Rows) {
		// It could be torn between two transactions, and its rows with it; a
		// spooled commit has one small record that makes all of it count.
		return j.appendSpooled(ctx, c)
	}
	if err := j.waitIntake(ctx, maxQueue); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if known, err := j.continuesLocked(c); err != nil || known {
		return err
	}
	it := &item{queuedAt: time.Now(), patient: true}
	for i := range c.Messages {
		m := &c.Messages[i]
		j.placeLocked(Entry{Message: m})
		it.add(placed{j.at.Head, m})
		j.lastID = m.ID
	}
	j.setRowsLocked(it, c.Rows)
	if !c.Part {
		j.at.reach(c)
	}
	j.enqueueLocked(it)
	return nil
}

// oneTransaction tells whether the records of a commit fit one transaction,
// which is never torn.
func oneTransaction(messages []Message, rows []Row) bool {
	size, ops := 0, len(rows)
	for i := range messages {
		bytes, count := messages[i].cost()
		size += bytes
		ops += count
	}
	for _, r := range rows {
		size += r.cost()
	}
	return size <= maxTxnBytes && ops <= maxTxnOps
}

// Advance notes that everything up to lsn was read and made no message.
// Confirmed follows once that is durable.
func (j *Journal) Advance(ctx context.Context, lsn LSN) error {
	if err := j.waitRoom(ctx, maxQueue); err != nil {
		return fmt.Errorf("advance to %s: %w", lsn, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return fmt.Errorf("advance to %s: %w", lsn, j.err)
	}
	if lsn > j.at.Confirmed {
		j.at.Confirmed = lsn
		j.enqueueLocked(&item{patient: true})
	}
	return nil
}

// AppendChange gives a change of subscriptions its place, durable together
// with the records in u. It returns the place before it is durable.
func (j *Journal) AppendChange(ctx context.Context, c Change, u Update) (Seq, error) {
	c.Time = time.Now().UTC().Truncate(time.Microsecond)
	record := appendChange(nil, &c)
	if err := u.oneTransaction(len(record)); err != nil {
		return 0, fmt.Errorf("append change of reader %q: %w", c.Name, err)
	}
	if err := j.waitRoom(ctx, maxQueue); err != nil {
		return 0, fmt.Errorf("append change of reader %q: %w", c.Name, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, fmt.Errorf("append change of reader %q: %w", c.Name, j.err)
	}
	j.placeLocked(Entry{Change: &c})
	u.setLarge(entryPlace(j.at.Head), record)
	j.enqueueLocked(&item{update: u, queuedAt: time.Now()})
	return j.at.Head, nil
}

// Apply queues records; they become durable behind everything queued before,
// and done, where given, is then called from the journal's goroutine. It must
// neither write to the journal nor wait: nothing becomes durable meanwhile.
// Nothing is written, and done is not called, when Apply returns an error.
func (j *Journal) Apply(ctx context.Context, u Update, done func(error)) error {
	err := u.oneTransaction(0)
	if err == nil {
		err = j.queueWith(ctx, &item{update: u, done: done, patient: done == nil}, func() {})
	}
	if err != nil {
		return fmt.Errorf("apply update: %w", err)
	}
	return nil
}

// ApplySync is Apply that returns when the records are durable.
func (j *Journal) ApplySync(ctx context.Context, u Update) error {
	err := u.oneTransaction(0)
	if err == nil {
		err = j.writeWith(ctx, &item{update: u}, func() {})
	}
	if err != nil {
		return fmt.Errorf("apply update: %w", err)
	}
	return nil
}
