package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"newswire/fanout/journal/fault"
)

// position is where the journal stands: the last entry, and how far the slot
// was read for it.
type position struct {
	Head      Seq
	Epoch     uint16
	Commit    LSN // commit record of the last commit
	Confirmed LSN // everything up to here was read

	Generation uint64 // of the last states of rows
}

// before tells whether a commit is one that the journal does not have yet.
func (p position) before(epoch uint16, commit LSN) bool {
	return epoch > p.Epoch || epoch == p.Epoch && commit > p.Commit
}

// reach moves to the end of a commit.
func (p *position) reach(c Commit) {
	p.Epoch, p.Commit, p.Confirmed = c.Epoch, c.LSN, max(p.Confirmed, c.End)
}

func (p position) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.Head))
	b = binary.BigEndian.AppendUint16(b, p.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Commit))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Confirmed))
	return binary.BigEndian.AppendUint64(b, p.Generation)
}

func decodePosition(b []byte) (position, error) {
	if len(b) != 34 {
		return position{}, fmt.Errorf("read position: %d bytes: %w", len(b), ErrDamaged)
	}
	return position{
		Head:      Seq(binary.BigEndian.Uint64(b)),
		Epoch:     binary.BigEndian.Uint16(b[8:]),
		Commit:    LSN(binary.BigEndian.Uint64(b[10:])),
		Confirmed: LSN(binary.BigEndian.Uint64(b[18:])),

		Generation: binary.BigEndian.Uint64(b[26:]),
	}, nil
}

// item is one Append, Advance or Apply on its way to the disk.
type item struct {
	update   Update
	messages []placed    // whose records are written with update; fixed by Append
	rows     []Row       // likewise; they are in Journal.rows too
	told     uint64      // generation of the last of rows
	apart    bool        // it tells of rows in its update: no set holds what was told on both sides of it
	size     int         // bytes that all of it writes, at most
	ops      int         // records that messages and rows become, at most
	part     *part       // that becomes update, blocks and states; nil for none
	blocks   int         // of update: so many of the first of Journal.unwritten
	states   []*rowBlock // of update
	after    position    // where the journal stands once the item is durable
	patient  bool        // nobody waits for it to be durable: in a flood it may wait for others
	queuedAt time.Time   // zero when not measured
	done     func(error) // nil when nobody waits
}

// enqueueLocked hands it to Run and stamps it with the present position.
func (j *Journal) enqueueLocked(it *item) {
	it.after = j.at
	it.size += it.update.size
	j.queue = append(j.queue, it)
	j.queued += it.size
	if j.gathering && it.patient && j.queued < maxTxnBytes {
		return
	}
	select {
	case j.hasWork <- struct{}{}:
	default: // the token is there already
	}
}

// waitRoom returns once less than limit is in the queue. A single item may
// overfill it.
func (j *Journal) waitRoom(ctx context.Context, limit int) error {
	return j.waitFor(ctx, func() bool { return j.queued < limit })
}

// waitIntake is waitRoom for what comes from the database, which waits for room
// on the disk too.
func (j *Journal) waitIntake(ctx context.Context, limit int) error {
	return j.waitFor(ctx, func() bool { return j.queued < limit && !j.Room().Low })
}

// waitFor waits until there is room, which is asked under mu.
func (j *Journal) waitFor(ctx context.Context, room func() bool) error {
	for {
		j.mu.Lock()
		if j.err != nil || room() {
			defer j.mu.Unlock()
			return j.err
		}
		if j.room == nil {
			j.room = make(chan struct{})
		}
		room := j.room
		j.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Run makes what is queued durable, in order, until ctx ends; then it writes
// what is still queued, takes nothing more, and returns nil. An error is the
// disk's: nothing after it is durable and the journal takes no more writes.
// Meanwhile it keeps an eye on how full the disk is.
func (j *Journal) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	going, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	beside.Go(func() { j.watchDisk(going) })
	beside.Go(func() { j.packParts(going) })
	sealed := false
	for {
		if !sealed && ctx.Err() != nil {
			j.seal(ErrClosed)
			sealed = true
		}
		batch := j.takeQueue()
		if len(batch) == 0 {
			if sealed {
				return nil
			}
			select {
			case <-j.hasWork:
			case d := <-j.drops:
				j.dropNow(d)
			case <-ctx.Done():
			}
			continue
		}
		if err := j.commit(ctx, batch); err != nil {
			err = fmt.Errorf("write journal: %w", err)
			j.seal(err)
			j.fail(err)
			for _, it := range append(batch, j.takeQueue()...) {
				if it.done != nil {
					it.done(err)
				}
			}
			return err
		}
		j.written(batch)
		if flood(batch) {
			j.gather(ctx)
		}
		select {
		case d := <-j.drops:
			j.dropNow(d)
		default:
		}
	}
}

func (j *Journal) takeQueue() []*item {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch := j.queue
	j.queue = nil
	return batch
}

// seal refuses writes from now on.
func (j *Journal) seal(why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = why
	j.wakeWritersLocked()
}

// fail wakes who waits for what will not come.
func (j *Journal) fail(err error) {
	j.synced.Fail(err)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil && j.broken != nil {
		close(j.broken)
	}
	j.failed = err
	j.grownLocked()
}

func (j *Journal) wakeWritersLocked() {
	if j.room != nil {
		close(j.room)
		j.room = nil
	}
}

// commit writes a batch with as few syncs as it can: many items share one
// Badger transaction, and each is in one, together with the position that it
// leads to. Only a part of a spooled commit may take several: it counts for
// nothing before the item that commits it.
func (j *Journal) commit(ctx context.Context, batch []*item) error {
	for len(batch) > 0 {
		if err := j.waitDisk(ctx); err != nil {
			return err
		}
		n, size, ops := 0, 0, 0
		for n < len(batch) {
			if p := batch[n].part; p != nil {
				j.pack(p)
			}
			size += batch[n].size
			ops += batch[n].ops + len(batch[n].update.ops)
			if n > 0 && (size > maxTxnBytes || ops > maxTxnOps) {
				break
			}
			n++
		}
		if err := j.commitTogether(batch[:n]); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// commitTogether writes items in one transaction, or one item in several.
func (j *Journal) commitTogether(items []*item) error {
	txn, size, ops := j.db.NewTransaction(true), 0, 0
	defer func() { txn.Discard() }()
	put := func(o op) error {
		if size+o.size() > maxTxnBytes || ops >= maxTxnOps {
			if err := j.commitAt(txn, position{}); err != nil {
				return err
			}
			txn, size, ops = j.db.NewTransaction(true), 0, 0
		}
		size += o.size()
		ops++
		return write(txn, o)
	}
	var entries Update
	made, err := j.placeMessages(&entries, items)
	if err != nil {
		return err
	}
	sets := j.placeRows(&entries, items)
	for _, o := range entries.ops {
		if err := put(o); err != nil {
			return err
		}
	}
	for _, it := range items {
		for _, o := range it.update.ops {
			if err := put(o); err != nil {
				return err
			}
		}
	}
	fault.Point(fault.Committing)
	if err := j.commitAt(txn, items[len(items)-1].after); err != nil {
		return err
	}
	fault.Point(fault.Committed)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.extents = j.extents.with(made)
	j.addSetsLocked(sets)
	return nil
}

// commitAt commits txn together with the position it reaches; the zero one for
// none. Either way it writes a record that nothing deletes, so that the newest
// version in the tables stays that of the last transaction in them.
func (j *Journal) commitAt(txn *badger.Txn, p position) error {
	key, value := keyPosition, p.encode()
	if p == (position{}) {
		key, value = keyCommit, nil
	}
	if err := txn.Set(key, value); err != nil {
		return err
	}
	return txn.Commit()
}

func write(txn *badger.Txn, o op) error {
	if o.amend != nil {
		present, _, err := (View{txn}).Get(o.key)
		if err != nil {
			return err
		}
		o.value = o.amend(present)
	}
	if o.value == nil {
		return txn.Delete(o.key)
	}
	return txn.Set(o.key, o.value)
}

// written tells everyone that a batch is durable.
func (j *Journal) written(batch []*item) {
	last := batch[len(batch)-1].after
	size := 0
	for _, it := range batch {
		size += it.size
		if !it.queuedAt.IsZero() {
			j.m.append.Observe(time.Since(it.queuedAt).Seconds())
		}
	}
	j.confirmed.Store(uint64(last.Confirmed))
	j.synced.Raise(last.Head)
	j.mu.Lock()
	j.queued -= size
	for _, it := range batch {
		j.rowsWrittenLocked(it.rows)
		clear(j.unwritten[:it.blocks]) // or the array would keep the records alive
		j.unwritten = j.unwritten[it.blocks:]
		for _, b := range it.states {
			b.value = nil
		}
	}
	j.wakeWritersLocked()
	j.trimLocked(last.Head)
	j.mu.Unlock()
	for _, it := range batch {
		if it.done != nil {
			it.done(nil)
		}
	}
}
