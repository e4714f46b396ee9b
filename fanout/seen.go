package fanout

import (
	"context"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// When a reader was last here is known to a part of the time after which it is
// forgotten: for each such part there is one record, of all who were here in
// it. So a visit costs no write, and who has stayed away is a difference of
// sets. Only time in which the engine ran counts: nobody could come in the rest.

// seenParts is how many parts the time has.
const seenParts = 32

// see notes that a reader is here.
func (r *Readers) see(number journal.Reader) {
	if number == 0 {
		return
	}
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	r.seen.Add(uint32(number))
}

// takeSeen gives who was here since it was called last.
func (r *Readers) takeSeen() *roaring.Bitmap {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	seen := r.seen
	r.seen = roaring.New()
	return seen
}

// Presence knows who is here and what is owed.
type Presence interface {
	// Connected gives the readers who are here now.
	Connected() *roaring.Bitmap
	// Pending gives those of some readers to whom anything is still owed.
	Pending(of *roaring.Bitmap) *roaring.Bitmap
}

// looks is how often a reader who is here is noted in each part.
const looks = 4

// KeepTTL forgets readers who have not come for ttl, until ctx ends. First a
// reader loses its tags, and so gets nothing new; once nothing is owed to it
// any more it is forgotten: what was meant for it has then gone where it can
// still be reached. The error is the journal's.
func (r *Readers) KeepTTL(ctx context.Context, ttl time.Duration, who Presence) error {
	part := max(ttl/seenParts, time.Millisecond)
	tick := time.NewTicker(min(max(part/looks, time.Millisecond), time.Minute))
	defer tick.Stop()
	now := Sight{time.Now(), time.Now(), roaring.New()}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			now.Readers.Or(r.takeSeen())
			now.Until = time.Now()
			return r.home.SaveSight(context.WithoutCancel(ctx), now)
		}
		now.Readers.Or(r.takeSeen())
		now.Readers.Or(who.Connected())
		now.Until = time.Now()
		err := r.home.SaveSight(ctx, now)
		if err == nil && now.lasted() >= part {
			now = Sight{now.Until, now.Until, roaring.New()}
			err = r.forgetAbsent(ctx, ttl, who)
		}
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("forget readers who have not come for %s: %w", ttl, err)
		}
	}
}

// forgetAbsent looks at everybody once.
func (r *Readers) forgetAbsent(ctx context.Context, ttl time.Duration, who Presence) error {
	seen, long, err := r.seenFor(ctx, ttl)
	if err != nil || !long {
		return err
	}
	absent := make(map[journal.Reader]string)
	numbers := roaring.New()
	err = r.home.Names(func(number journal.Reader, name string) error {
		if !seen.Contains(uint32(number)) {
			absent[number] = name
			numbers.Add(uint32(number))
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	numbers.AndNot(who.Connected())
	owed := who.Pending(numbers)
	gone := 0
	for it := numbers.Iterator(); it.HasNext() && err == nil; {
		n := it.Next()
		var forgotten bool
		forgotten, err = r.retire(ctx, absent[journal.Reader(n)], journal.Reader(n), owed.Contains(n))
		if forgotten {
			gone++
		}
	}
	r.m.expired.Add(float64(gone))
	return err
}

// seenFor gives who was here in the last ttl of the engine's running; long is
// false when it has not run for that long. What lies before is removed.
func (r *Readers) seenFor(ctx context.Context, ttl time.Duration) (seen *roaring.Bitmap, long bool, err error) {
	parts, err := r.home.Sights()
	if err != nil {
		return nil, false, err
	}
	seen = roaring.New()
	var ran time.Duration
	first := len(parts) // of those that count
	for first > 0 && ran < ttl {
		first--
		seen.Or(parts[first].Readers)
		ran += parts[first].lasted()
	}
	return seen, ran >= ttl, r.home.DropSights(ctx, parts[:first])
}

// retire takes the tags of a reader who has stayed away, or forgets who has
// none any more and is owed nothing. Who has come in this moment stays.
func (r *Readers) retire(ctx context.Context, name string, number journal.Reader, owed bool) (forgotten bool, err error) {
	s := r.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	rd, err := r.getLocked(s, name)
	if err != nil || rd.number != number {
		return false, err
	}
	r.seenMu.Lock()
	here := r.seen.Contains(uint32(number))
	r.seenMu.Unlock()
	switch {
	case here:
		return false, nil
	case len(rd.sets.Follow)+len(rd.sets.Mute) == 0 && !owed:
		_, err := r.forgetLocked(ctx, s, name)
		return err == nil, err
	case len(rd.sets.Follow)+len(rd.sets.Mute) > 0:
		_, err := r.editLocked(ctx, s, name, Edit{SetFollow: new([]string), SetMute: new([]string)}, 0)
		return false, err
	}
	return false, nil
}

// Look gives a reader's number and sets without counting as a visit, and from
// when on it was last here, to a part of the time after which it is forgotten;
// zero where that is not known.
func (r *Readers) Look(name string) (number journal.Reader, sets Sets, last time.Time, err error) {
	rec, ok, err := r.home.Record(name)
	if err != nil || !ok {
		return 0, Sets{}, last, err
	}
	parts, err := r.home.Sights()
	for _, p := range parts {
		if p.Readers.Contains(uint32(rec.Number)) {
			last = p.From
		}
	}
	return rec.Number, Sets{rec.Follow, rec.Mute}, last, err
}
