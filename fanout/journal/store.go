package journal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// Update is a set of records that become durable together, and not before
// anything that was appended or applied earlier.
type Update struct {
	ops  []op
	size int
}

type op struct {
	key   []byte
	value []byte // nil deletes
	// amend, when set, makes the value of the one that the record has when
	// everything before is written: nil for one that is not there.
	amend func(present []byte) []byte
	more  int // bytes that amend may write
}

// size is about the bytes that it takes of a transaction.
func (o op) size() int { return len(o.key) + len(o.value) + o.more }

func (u *Update) add(o op) {
	u.ops = append(u.ops, o)
	u.size += o.size()
}

// Set writes a record. The update owns both slices from now on.
func (u *Update) Set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	u.add(op{key: key, value: value})
}

// Delete removes a record; one that is not there is no error.
func (u *Update) Delete(key []byte) {
	u.add(op{key: key})
}

// Amend writes a record of at most so many bytes, which make makes of the value
// that the record has once everything before is written: nil for one that is
// not there. It is called once, by the one who writes.
func (u *Update) Amend(key []byte, most int, make func(present []byte) []byte) {
	u.add(op{key: key, amend: make, more: most})
}

// Size is about the bytes it will write.
func (u *Update) Size() int { return u.size }

// Empty tells an update with nothing in it.
func (u *Update) Empty() bool { return len(u.ops) == 0 }

// oneTransaction refuses an update that could be torn, alone or with an entry
// of so many bytes more.
func (u *Update) oneTransaction(more int) error {
	size, count := u.size+more, len(u.ops)
	if more > 0 {
		count += more/maxValue + 2
	}
	if size > maxTxnBytes || count > maxTxnOps {
		return fmt.Errorf("%d records of %d bytes do not fit one transaction", count, size)
	}
	return nil
}

// setLarge writes a record that may be too large for one value.
func (u *Update) setLarge(at place, value []byte) {
	if len(value) <= maxValue {
		u.Set(at.key, value)
		return
	}
	parts := 0
	for piece := range chunks(value, maxValue) {
		u.Set(at.part(parts), piece)
		parts++
	}
	u.Set(at.key, []byte{recordParts, byte(parts)})
}

// inParts tells a record that says only in how many pieces the entry is.
func inParts(record []byte) bool { return len(record) == 2 && record[0] == recordParts }

func chunks(b []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// View is a consistent reading of what is in the database, valid within the
// function that got it. What is still on its way to the disk is not in it.
type View struct{ txn *badger.Txn }

// View gives read a consistent view.
func (j *Journal) View(read func(v View) error) error {
	return j.db.View(func(txn *badger.Txn) error { return read(View{txn}) })
}

// Get gives a copy of a record's value, and whether there is one.
func (v View) Get(key []byte) ([]byte, bool, error) {
	item, err := v.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("get record %x: %w", key, err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, false, fmt.Errorf("read record %x: %w", key, err)
	}
	return value, true, nil
}

// Scan calls each for the space's records from the key `from` on (nil: from the
// first), in key order, until it returns false. Key and value are each's only
// until it returns.
func (v View) Scan(s Space, from []byte, each func(key, value []byte) (more bool, err error)) error {
	return v.scan(s, from, true, func(item *badger.Item) (more bool, err error) {
		err = item.Value(func(value []byte) (err error) {
			more, err = each(item.Key(), value)
			return err
		})
		return more, err
	})
}

// keys is Scan without the values.
func (v View) keys(s Space, from []byte, each func(key []byte) (more bool, err error)) error {
	return v.scan(s, from, false, func(item *badger.Item) (bool, error) { return each(item.Key()) })
}

func (v View) scan(s Space, from []byte, values bool, each func(item *badger.Item) (more bool, err error)) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix = []byte{byte(s)}
	opts.PrefetchSize = 64
	opts.PrefetchValues = values
	it := v.txn.NewIterator(opts)
	defer it.Close()
	if from == nil {
		from = opts.Prefix
	}
	for it.Seek(from); it.Valid(); it.Next() {
		more, err := each(it.Item())
		if err != nil {
			return fmt.Errorf("scan record %x: %w", it.Item().Key(), err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// Last gives the greatest key of a space.
func (v View) Last(s Space) (key []byte, ok bool, err error) {
	key, _, ok, err = v.last(s, s.Key(maxIDKey...))
	return key, ok, err
}

// last gives the greatest key of the space that is at or below upto.
func (v View) last(s Space, upto []byte) (key, value []byte, ok bool, err error) {
	opts := badger.DefaultIteratorOptions
	opts.Reverse = true
	opts.PrefetchSize = 1
	it := v.txn.NewIterator(opts)
	defer it.Close()
	it.Seek(upto)
	if !it.Valid() || it.Item().Key()[0] != byte(s) {
		return nil, nil, false, nil
	}
	value, err = it.Item().ValueCopy(nil)
	return bytes.Clone(it.Item().Key()), value, err == nil, err
}

// entry reads the entry at seq, which was not spooled, from the database.
func (v View) entry(seq Seq) (Entry, bool, error) {
	record, err := v.large(entryPlace(seq))
	if err != nil || record == nil {
		return Entry{}, false, err
	}
	e, err := decodeEntry(seq, record)
	return e, err == nil, err
}

// large reads a record that may be in pieces; nil when there is none.
func (v View) large(at place) ([]byte, error) {
	record, ok, err := v.Get(at.key)
	if err != nil || !ok {
		return nil, err
	}
	return v.whole(at, record)
}

// whole puts a record together that may be in pieces.
func (v View) whole(at place, record []byte) ([]byte, error) {
	if !inParts(record) {
		return record, nil
	}
	whole := []byte{}
	for part := range int(record[1]) {
		piece, ok, err := v.Get(at.part(part))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("record %x: part %d is missing: %w", at.key, part, ErrDamaged)
		}
		whole = append(whole, piece...)
	}
	return whole, nil
}
