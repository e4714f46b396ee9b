package fanout

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Home is where the readers' state lives: their records, the names behind their
// numbers, and who was seen when. InJournal is the one that the engine uses;
// another, a compacted topic that several machines share, has to hold what
// testHome asks of it.
type Home interface {
	// Highest gives the highest number that was ever given out, to a reader who
	// was forgotten, too; 0 where none was.
	Highest() (journal.Reader, error)
	// Record gives what is kept of a reader; ok is false when it is not known.
	Record(name string) (rec Record, ok bool, err error)
	// Records visits all of them, in no order, until visit fails.
	Records(visit func(name string, rec Record) error) error
	// Name gives the name behind a number; ok is false when the reader was
	// forgotten, or never known.
	Name(number journal.Reader) (name string, ok bool, err error)
	// Names visits the numbers that have a name, in no order, until visit fails.
	Names(visit func(number journal.Reader, name string) error) error

	// Save gives a change its place in the journal, and keeps the record that it
	// leads to: after a crash both are there or neither.
	Save(ctx context.Context, c journal.Change, rec Record) (journal.Seq, error)
	// Forget gives a change its place, and drops the record and the name. The
	// number is never given out again.
	Forget(ctx context.Context, c journal.Change) (journal.Seq, error)
	// Kept is the place up to which changes are durable, and are what Record
	// gives. Record may not know yet of what was saved behind it.
	Kept() journal.Seq

	// SaveSight keeps who was seen from a time on; it replaces what was kept of
	// the same time.
	SaveSight(ctx context.Context, s Sight) error
	// Sights gives what is kept, oldest first.
	Sights() ([]Sight, error)
	// DropSights forgets some.
	DropSights(ctx context.Context, gone []Sight) error
}

// Record is what is kept of a reader under its name.
type Record struct {
	Number journal.Reader `json:"n"`
	Follow []string       `json:"f,omitempty"`
	Mute   []string       `json:"m,omitempty"`
	Permit Permit         `json:"p"`             // of the token that it last showed, and of the sessions that it had then
	Met    bool           `json:"met,omitempty"` // it has followed something
}

// Sight is who was seen in a part of the time in which the engine ran.
type Sight struct {
	From, Until time.Time // to the microsecond
	Readers     *roaring.Bitmap
}

// lasted is how long the engine looked.
func (s Sight) lasted() time.Duration { return max(0, s.Until.Sub(s.From)) }

// InJournal is the home beside the journal, in the same database: a change and
// the record that it leads to are one transaction.
func InJournal(j *journal.Journal) Home { return journalHome{j} }

type journalHome struct{ j *journal.Journal }

func (h journalHome) Highest() (highest journal.Reader, err error) {
	err = h.j.View(func(v journal.View) error {
		key, ok, err := v.Last(journal.SpaceNames)
		if ok {
			highest = numberOf(key)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("find the highest reader's number: %w", err)
	}
	return highest, nil
}

// numberOf gives the number in a key of journal.SpaceNames.
func numberOf(key []byte) journal.Reader { return journal.Reader(binary.BigEndian.Uint32(key[1:])) }

func (h journalHome) Record(name string) (rec Record, ok bool, err error) {
	err = h.j.View(func(v journal.View) error {
		value, found, err := v.Get(journal.SpaceReaders.Key([]byte(name)...))
		if err != nil || !found {
			return err
		}
		ok = true
		return json.Unmarshal(value, &rec)
	})
	if err != nil {
		return Record{}, false, fmt.Errorf("read reader %q: %w", name, err)
	}
	return rec, ok, nil
}

func (h journalHome) Records(visit func(name string, rec Record) error) error {
	return h.j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceReaders, nil, func(key, value []byte) (bool, error) {
			var rec Record
			if err := json.Unmarshal(value, &rec); err != nil {
				return false, fmt.Errorf("read reader %q: %w", key[1:], err)
			}
			return true, visit(string(key[1:]), rec)
		})
	})
}

func (h journalHome) Name(number journal.Reader) (name string, ok bool, err error) {
	err = h.j.View(func(v journal.View) error {
		value, found, err := v.Get(journal.SpaceNames.Reader(number))
		name, ok = string(value), found && len(value) > 0
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("name reader %d: %w", number, err)
	}
	return name, ok, nil
}

func (h journalHome) Names(visit func(number journal.Reader, name string) error) error {
	return h.j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceNames, nil, func(key, name []byte) (bool, error) {
			if len(name) == 0 {
				return true, nil
			}
			return true, visit(numberOf(key), string(name))
		})
	})
}

func (h journalHome) Save(ctx context.Context, c journal.Change, rec Record) (journal.Seq, error) {
	value, err := json.Marshal(rec)
	if err != nil {
		return 0, fmt.Errorf("encode reader %q: %w", c.Name, err)
	}
	var u journal.Update
	u.Set(journal.SpaceReaders.Key([]byte(c.Name)...), value)
	u.Set(journal.SpaceNames.Reader(c.Reader), []byte(c.Name))
	return h.j.AppendChange(ctx, c, u)
}

func (h journalHome) Forget(ctx context.Context, c journal.Change) (journal.Seq, error) {
	var u journal.Update
	u.Delete(journal.SpaceReaders.Key([]byte(c.Name)...))
	u.Set(journal.SpaceNames.Reader(c.Reader), nil) // nobody's, and never given again: the ledger still knows it
	u.Delete(journal.SpaceBacklog.Reader(c.Reader))
	return h.j.AppendChange(ctx, c, u)
}

func (h journalHome) Kept() journal.Seq { return h.j.Synced() }

func (h journalHome) SaveSight(ctx context.Context, s Sight) error {
	s.Readers.RunOptimize()
	raw, err := s.Readers.ToBytes()
	if err != nil {
		return fmt.Errorf("encode who was seen from %s on: %w", s.From, err)
	}
	var u journal.Update
	u.Set(sightKey(s), append(binary.AppendVarint(nil, s.Until.UnixMicro()), raw...))
	return h.j.ApplySync(ctx, u)
}

func (h journalHome) Sights() (kept []Sight, err error) {
	err = h.j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceSeen, nil, func(key, value []byte) (bool, error) {
			s, err := decodeSight(key, value)
			kept = append(kept, s)
			return true, err
		})
	})
	return kept, err
}

func (h journalHome) DropSights(ctx context.Context, gone []Sight) error {
	if len(gone) == 0 {
		return nil
	}
	var u journal.Update
	for _, s := range gone {
		u.Delete(sightKey(s))
	}
	return h.j.Apply(ctx, u, nil)
}

func sightKey(s Sight) []byte { return journal.SpaceSeen.Seq(journal.Seq(s.From.UnixMicro())) }

func decodeSight(key, value []byte) (Sight, error) {
	d := journal.Decoder{Rest: value}
	s := Sight{time.UnixMicro(int64(journal.SeqOf(key))), time.UnixMicro(d.Varint()), roaring.New()}
	if err := s.Readers.UnmarshalBinary(d.Rest); err != nil || d.Bad {
		return s, fmt.Errorf("who was seen from %s on: %w", s.From, journal.ErrDamaged)
	}
	return s, nil
}
