package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"newswire/fanout/journal/fault"
)

// What lies before the journal's front is dropped in segments: keys that begin
// with a Seq have the number of its segment in front, so Badger drops a
// segment's tables whole, and their files are deleted at once. To delete entry
// by entry costs as many records again, and gives the disk back whenever a
// compaction comes by. Badger takes no writes while it drops; so the one who
// writes does it, between two transactions, and what comes meanwhile waits in
// the queue.
const (
	segment     = 1 << 16   // places
	page        = 1 << 8    // places that are dropped where that is all that has gone for dropEvery
	dropEvery   = time.Hour // at least as often, what is old leaves the disk
	mostDropped = 512       // prefixes at a time: each table is held against all
)

// dropping asks Run to drop what begins with prefixes.
type dropping struct {
	prefixes [][]byte
	done     chan error
}

// dropSegments drops what lies before the front, in whole segments, or in pages
// when nothing was dropped for a while. The front is durable: a crash leaves
// something that nobody reads, and the next call takes it.
func (j *Journal) dropSegments(ctx context.Context) error {
	j.mu.Lock()
	from, to := j.dropped, uint64(j.oldest)/segment*segment
	bundles := uint64(j.oldest)
	if len(j.extents) > 0 {
		bundles = min(bundles, uint64(j.extents[0].first))
	}
	gone := j.goneSpools
	if to <= from && time.Since(j.droppedAt) >= dropEvery {
		to = uint64(j.oldest) / page * page
	}
	j.mu.Unlock()
	if to <= from {
		return nil
	}
	bundles = max(j.droppedBundles, min(to, bundles/page*page)) // one that reaches over the front stays
	var prefixes [][]byte
	for _, s := range []Space{spaceEntries, spaceParts} {
		prefixes = append(prefixes, cover(s, 0, from, to)...)
	}
	prefixes = append(prefixes, cover(spaceSpools, bundleSpool, j.droppedBundles, bundles)...)
	for _, id := range gone {
		prefixes = append(prefixes, spaceSpools.Seq(Seq(id)))
	}
	for len(prefixes) > 0 {
		n := min(len(prefixes), mostDropped)
		if err := j.drop(ctx, prefixes[:n]); err != nil {
			return fmt.Errorf("drop entries before %d: %w", to, err)
		}
		prefixes = prefixes[n:]
	}
	var u Update
	u.Set(keyDropped, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, to), bundles))
	if err := j.ApplySync(ctx, u); err != nil {
		return fmt.Errorf("drop entries before %d: %w", to, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dropped, j.droppedBundles, j.droppedAt = to, bundles, time.Now()
	j.goneSpools = j.goneSpools[len(gone):]
	return nil
}

// drop lets Run drop what begins with prefixes.
func (j *Journal) drop(ctx context.Context, prefixes [][]byte) error {
	d := dropping{prefixes, make(chan error, 1)}
	select {
	case j.drops <- d:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-d.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dropNow is Run's part.
func (j *Journal) dropNow(d dropping) {
	fault.Point(fault.Dropping)
	began := time.Now()
	err := dropNote(j.ground.dir) // for a moment there is no log
	if err == nil {
		err = j.db.DropPrefix(d.prefixes...)
	}
	j.noteLog()
	j.m.drop.Observe(time.Since(began).Seconds())
	fault.Point(fault.Dropped)
	d.done <- err
}

// cover gives prefixes that the keys of places from one up to, without, another
// begin with, and no others; both are multiples of a page. bits are set in each.
func cover(s Space, bits, from, to uint64) (prefixes [][]byte) {
	for from < to {
		size, bytes := uint64(page), 7
		for bytes > 1 && from%(size<<8) == 0 && from+size<<8 <= to {
			size <<= 8
			bytes--
		}
		prefixes = append(prefixes, s.Seq(Seq(bits | from))[:1+bytes])
		from += size
	}
	return prefixes
}

// loadDropped reads how far segments were dropped, and finds blocks of spooled
// commits that have gone.
func (j *Journal) loadDropped() error {
	return j.View(func(v View) error {
		value, ok, err := v.Get(keyDropped)
		if err != nil {
			return err
		}
		if ok && len(value) == 16 {
			j.dropped, j.droppedBundles = binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])
		}
		kept := make(map[uint64]bool, len(j.extents))
		for _, x := range j.extents {
			kept[x.spool] = true
		}
		last := uint64(0)
		return v.keys(spaceSpools, nil, func(key []byte) (bool, error) {
			if spool, _, _ := blockOf(key); spool != last && spool&bundleSpool == 0 && !kept[spool] {
				j.goneSpools = append(j.goneSpools, spool)
				last = spool
			}
			return true, nil
		})
	})
}
