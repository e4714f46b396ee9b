package journal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// Full tells that an update should be applied before more is put in. There is
// room then for some records more, or for one of a megabyte.
func (u *Update) Full() bool { return u.size >= maxTxnBytes/4 || len(u.ops) >= maxTxnOps/2 }

// Peek reads a record in place; ok is false when there is none. The value is
// read's only until it returns.
func (v View) Peek(key []byte, read func(value []byte) error) (ok bool, err error) {
	item, err := v.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err == nil {
		err = item.Value(read)
	}
	if err != nil {
		return false, fmt.Errorf("read record %x: %w", key, err)
	}
	return true, nil
}

// Look is Scan that goes up to and with through, and reads no values ahead: for
// a few records, or large ones.
func (v View) Look(from, through []byte, each func(key, value []byte) (more bool, err error)) error {
	opts := badger.DefaultIteratorOptions
	opts.PrefetchValues = false
	opts.Prefix = from[:1]
	it := v.txn.NewIterator(opts)
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		item, more := it.Item(), false
		if bytes.Compare(item.Key(), through) > 0 {
			return nil
		}
		err := item.Value(func(value []byte) (err error) {
			more, err = each(item.Key(), value)
			return err
		})
		if err != nil {
			return fmt.Errorf("read record %x: %w", item.Key(), err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// Keys calls each for the keys of a space, in order, until it returns false.
// The key is each's only until it returns.
func (v View) Keys(s Space, each func(key []byte) (more bool, err error)) error {
	return v.keys(s, nil, each)
}
