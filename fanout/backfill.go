package fanout

import (
	"encoding/json"
	"fmt"
	"math"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// backfill finds the backfilled messages for who follows something for the
// first time, behind them: they were routed when nobody could follow yet. It is
// an index from the names in the shards to Seqs. Who routes owns it.
type backfill struct {
	j     *journal.Journal
	names map[string]*roaring.Bitmap
}

func loadBackfill(j *journal.Journal) (*backfill, error) {
	b := &backfill{j: j, names: make(map[string]*roaring.Bitmap)}
	err := j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceBackfill, nil, func(key, value []byte) (bool, error) {
			var rec journal.Backfilled
			if err := json.Unmarshal(value, &rec); err != nil {
				return false, fmt.Errorf("read backfilled message %d: %w", journal.SeqOf(key), err)
			}
			b.index(journal.SeqOf(key), rec.Tags)
			return true, nil
		})
	})
	return b, err
}

// add takes up a message, with its record in u.
func (b *backfill) add(u *journal.Update, seq journal.Seq, m *journal.Message) error {
	if seq > math.MaxUint32 {
		return nil // a journal that old is at no first start
	}
	value, err := json.Marshal(journal.Backfilled{ID: m.ID.String(), Tags: m.Tags})
	if err != nil {
		return fmt.Errorf("encode backfilled message %d: %w", seq, err)
	}
	u.Set(journal.SpaceBackfill.Seq(seq), value)
	b.index(seq, m.Tags)
	return nil
}

func (b *backfill) index(seq journal.Seq, tags []string) {
	for _, name := range lookups(tags) {
		if b.names[name] == nil {
			b.names[name] = roaring.New()
		}
		b.names[name].Add(uint32(seq))
	}
}

// match gives the messages that are kept for who follows and mutes such names.
func (b *backfill) match(follow, mute []string) *roaring.Bitmap {
	found := roaring.New()
	if len(b.names) == 0 {
		return found
	}
	for _, name := range follow {
		if seqs := b.names[name]; seqs != nil {
			found.Or(seqs)
		}
	}
	for _, name := range mute {
		if seqs := b.names[name]; seqs != nil {
			found.AndNot(seqs)
		}
	}
	oldest := b.j.Oldest()
	found.RemoveRange(0, min(uint64(oldest), math.MaxUint32))
	if all := b.names[AllTags]; all != nil && oldest > journal.Seq(all.Maximum()) {
		clear(b.names) // nothing is kept any more
	}
	return found
}
