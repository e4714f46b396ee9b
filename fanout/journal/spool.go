package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxSpoolQueue is how many bytes may be on their way to the disk before a
// commit that is spooled waits: less than others may have, so that what comes
// in between does not stand behind much of it.
const maxSpoolQueue = 8 << 20

// ErrSpool reports a part of a commit that does not continue what is spooled.
var ErrSpool = errors.New("not the next part of the commit that is spooled")

// spool is a commit that is read while it is stored: too large for memory, and
// nobody's business before its end.
type spool struct {
	id            uint64
	epoch         uint16
	lsn           LSN
	parts         int
	count         uint64 // of its messages
	from, through ID     // of the first and the last of them
	blocks        blocks // of the parts that are packed
	dropped       bool   // it takes no more
}

// spoolState is the record of the spools. Each has a number, from 1; committed
// are all but the open one and those that were dropped.
type spoolState struct {
	Last uint64 `json:"last"` // number of the last one
	Open bool   `json:"open"` // the last one is not committed
}

func (s spoolState) set(u *Update) {
	value, err := json.Marshal(s)
	if err != nil {
		panic("encode numbers: " + err.Error())
	}
	u.Set(keySpools, value)
}

// unwritten is a block that is not on disk.
type unwritten struct {
	spool, last uint64
	value       []byte
}

// unwrittenLocked gives the record of a block that is not on disk.
func (j *Journal) unwrittenLocked(spool, last uint64) []byte {
	for _, b := range j.unwritten {
		if b.spool == spool && b.last == last {
			return b.value
		}
	}
	return nil
}

// Spool stores a part of a commit whose end has not been read. Until Append has
// taken the end no message of it has a place, and a crash takes all of it
// away; Row, Rows and MessageByID, which only the one who spools may call
// meanwhile, tell what is in it. A part of a commit that is already in the
// journal is taken silently. The journal keeps what is in c.
func (j *Journal) Spool(ctx context.Context, c Commit) error {
	if _, err := j.addPart(ctx, c, maxSpoolQueue); err != nil {
		return fmt.Errorf("spool part %d of commit %s: %w", c.Spooled, c.LSN, err)
	}
	return nil
}

// addPart queues a part while less than limit is in the queue. known is true
// where the journal has the commit.
func (j *Journal) addPart(ctx context.Context, c Commit, limit int) (known bool, err error) {
	if err := inOrder(c); err != nil {
		return false, err
	}
	if err := j.waitIntake(ctx, limit); err != nil {
		return false, err
	}
	j.mu.Lock()
	if known, err := j.continuesLocked(c); err != nil || known {
		j.mu.Unlock()
		return known, err
	}
	p := j.spoolLocked(c)
	j.mu.Unlock()
	select {
	case j.toPack <- p:
	default: // too many are waiting
		j.pack(p)
	}
	return false, nil
}

// appendSpooled queues the last part, and behind it what makes all of the
// commit count.
func (j *Journal) appendSpooled(ctx context.Context, c Commit) error {
	if known, err := j.addPart(ctx, c, maxQueue); err != nil || known {
		return err
	}
	j.packAll() // who finds a message by its place or ID needs the blocks
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	j.commitSpoolLocked(c)
	return nil
}

// continuesLocked checks that a commit, or a part of it, is what may come now.
// known is true for one that the journal has.
func (j *Journal) continuesLocked(c Commit) (known bool, err error) {
	if j.err != nil {
		return false, j.err
	}
	if !j.at.before(c.Epoch, c.LSN) {
		return true, nil
	}
	s := j.spool
	switch {
	case s == nil && c.Spooled == 0:
		return false, nil
	case s == nil:
		return false, fmt.Errorf("%w: nothing is", ErrSpool)
	case s.dropped || s.epoch != c.Epoch || s.lsn != c.LSN || s.parts != c.Spooled:
		return false, fmt.Errorf("%w: %d parts of %s are", ErrSpool, s.parts, s.lsn)
	case len(c.Messages) > 0 && c.Messages[0].ID.Compare(s.through) <= 0:
		return false, fmt.Errorf("%w: message %s is not behind %s", ErrSpool, c.Messages[0].ID, s.through)
	}
	return false, nil
}

// inOrder checks that the messages of a part can be read back, and that they
// are sorted: they are found by that.
func inOrder(c Commit) error {
	for i := range c.Messages {
		if err := c.Messages[i].check(); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		if id, before := c.Messages[i].ID, c.Messages[i-1].ID; id.Compare(before) <= 0 {
			return fmt.Errorf("message %s comes behind %s", id, before)
		}
	}
	return nil
}

// spoolLocked queues a part, and opens a spool for the first one. It moves
// neither the head nor the position.
func (j *Journal) spoolLocked(c Commit) *part {
	it := &item{apart: true, patient: true}
	if j.spool == nil {
		j.spools.Last++
		j.spools.Open = true
		j.spools.set(&it.update) // first: what is behind it is then known to be of an open spool
		j.spool = &spool{id: j.spools.Last, epoch: c.Epoch, lsn: c.LSN}
	}
	s := j.spool
	j.at.Generation += uint64(len(c.Rows))
	p := &part{spool: s, item: it, messages: c.Messages, first: s.count, rows: c.Rows, told: j.at.Generation}
	it.part, it.size = p, p.size()
	j.unpacked = append(j.unpacked, p)
	s.count += uint64(len(c.Messages))
	if n := len(c.Messages); n > 0 {
		if s.from.IsZero() {
			s.from = c.Messages[0].ID
		}
		s.through = c.Messages[n-1].ID
	}
	s.parts++
	j.enqueueLocked(it)
	return p
}

// commitSpoolLocked gives all of the spooled messages their places. One small
// item does it, which is never torn: the extent, the spools' record and the
// position are durable together.
func (j *Journal) commitSpoolLocked(c Commit) {
	s, it := j.spool, &item{queuedAt: time.Now()}
	if s.count > 0 {
		x := extent{j.at.Head + 1, s.count, s.id, s.from, s.through, s.blocks}
		j.extents = append(slices.Clip(j.extents), x)
		it.update.Set(spaceExtents.Seq(x.first), x.encode())
		j.at.Head = x.last()
		j.lastID = x.through
		j.grownLocked()
	}
	j.spool = nil
	j.spools.Open = false
	j.spools.set(&it.update)
	if !c.Part {
		j.at.reach(c)
	}
	j.enqueueLocked(it)
}

// DropSpool forgets the commit that is being spooled, if one is: its end will
// not come. The rows are then as they were before it. After an error the spool
// takes nothing more, and DropSpool is to be called again.
func (j *Journal) DropSpool(ctx context.Context) error {
	j.mu.Lock()
	s := j.spool
	if s != nil {
		s.dropped = true
	}
	j.mu.Unlock()
	if s == nil {
		return nil
	}
	err := j.ApplySync(ctx, Update{}) // now all of it is on disk
	if err == nil {
		err = j.removeSpool(s.id, func(u Update) error { return j.Apply(ctx, u, nil) })
	}
	if err == nil {
		it := &item{}
		err = j.queueWith(ctx, it, func() {
			j.spool = nil
			j.spools.Open = false
			j.spools.set(&it.update)
			j.dropRowsLocked(s.id)
		})
	}
	if err != nil {
		return fmt.Errorf("drop spooled commit %s: %w", s.lsn, err)
	}
	j.log.Info("journal drops the start of a commit whose end did not come", "lsn", s.lsn, "messages", s.count)
	return nil
}

// removeStep is how many records one update removes.
const removeStep = 10_000

// removeSpool removes what a spool has stored: entries, and states of rows.
func (j *Journal) removeSpool(id uint64, apply func(Update) error) error {
	var u Update
	remove := func(v View, space Space) error {
		from := space.Seq(Seq(id))
		return v.keys(space, from, func(key []byte) (bool, error) {
			if !bytes.HasPrefix(key, from) {
				return false, nil
			}
			u.Delete(bytes.Clone(key))
			if len(u.ops) < removeStep {
				return true, nil
			}
			full := u
			u = Update{}
			return true, apply(full)
		})
	}
	err := j.View(func(v View) error {
		return errors.Join(remove(v, spaceSpools), remove(v, spaceSpooled))
	})
	if err != nil || u.Empty() {
		return err
	}
	return apply(u)
}

// dropUnfinished removes what is left of a commit that was being spooled when
// a crash came. Its record goes last, so that another crash leaves no less to
// do.
func (j *Journal) dropUnfinished() error {
	if !j.spools.Open {
		return nil
	}
	write := func(u Update) error { return j.commit(context.Background(), []*item{{update: u}}) }
	if err := j.removeSpool(j.spools.Last, write); err != nil {
		return err
	}
	j.spools.Open = false
	var u Update
	j.spools.set(&u)
	j.log.Info("journal drops the start of a commit whose end was not read", "spool", j.spools.Last)
	return write(u)
}
