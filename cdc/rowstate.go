package cdc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"newswire/fanout/journal"
)

// rowState is what is remembered of a published row, so that its next change
// means something, or of one that waits for its time. Of others nothing is
// remembered.
type rowState struct {
	due    instant     // the time to come that the row waits for; 0: it does not wait
	pieces int         // records that hold what it will say
	id     journal.ID  // of the last message about it; zero when it was filled
	filled journal.LSN // position of the snapshot it was filled from; 0 when the stream told
	hashes []uint64    // of the data's columns, in the configuration's order
	tags   []string
}

// The first byte of a record.
const (
	rowPublished byte = 1
	rowWaits     byte = 2 // the due time and the number of pieces follow; the rest is the same
)

var errRowState = errors.New("row state damaged")

// waits tells a row whose time is still to come. Nil does not.
func (s *rowState) waits() bool { return s != nil && s.due != 0 }

func (s *rowState) encode() []byte { return s.appendTo(make([]byte, 0, s.size())) }

// size is at least the size of the record.
func (s *rowState) size() int {
	size := 64 + 8*len(s.hashes)
	for _, tag := range s.tags {
		size += 1 + len(tag)
	}
	return size
}

func (s *rowState) appendTo(b []byte) []byte {
	if s.waits() {
		b = binary.BigEndian.AppendUint64(append(b, rowWaits), uint64(s.due))
		b = binary.BigEndian.AppendUint16(b, uint16(s.pieces))
	} else {
		b = append(b, rowPublished)
	}
	b, _ = s.id.AppendText(b)
	b = binary.BigEndian.AppendUint64(b, uint64(s.filled))
	b = append(b, byte(len(s.hashes)), byte(len(s.hashes)>>8))
	for _, hash := range s.hashes {
		b = binary.BigEndian.AppendUint64(b, hash)
	}
	for _, tag := range s.tags {
		b = append(b, byte(len(tag))) // a tag has at most 128 bytes
		b = append(b, tag...)
	}
	return b
}

func decodeRowState(b []byte) (*rowState, error) {
	const idText, fixed = 28, 28 + 8 + 2
	s := new(rowState)
	switch {
	case len(b) > 1 && b[0] == rowPublished:
		b = b[1:]
	case len(b) > 11 && b[0] == rowWaits:
		s.due, s.pieces = instant(binary.BigEndian.Uint64(b[1:])), int(binary.BigEndian.Uint16(b[9:]))
		b = b[11:]
	}
	if len(b) < fixed {
		return nil, errRowState
	}
	var err error
	if s.id, err = journal.ParseID(string(b[:idText])); err != nil {
		return nil, errRowState
	}
	s.filled = journal.LSN(binary.BigEndian.Uint64(b[idText:]))
	hashes := int(b[fixed-2]) | int(b[fixed-1])<<8
	if b = b[fixed:]; len(b) < 8*hashes {
		return nil, errRowState
	}
	for ; hashes > 0; hashes-- {
		s.hashes = append(s.hashes, binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < 1+n {
			return nil, errRowState
		}
		s.tags = append(s.tags, string(b[1:1+n]))
		b = b[1+n:]
	}
	return s, nil
}

// rowPrefix begins the keys of a table's rows. A name holds no zero byte.
func rowPrefix(n name) []byte { return append([]byte(n.String()), 0) }

func rowKey(n name, key []byte) []byte { return append(rowPrefix(n), key...) }

// rowBook tells the states of rows as they stand within a transaction: what it
// has changed itself, and behind that what the journal remembers.
type rowBook struct {
	journal Journal
	epoch   uint16 // of the transaction
	changed changedRows
	beside  map[string][]byte // records of rows that wait, by key; nil: gone
	waiting int               // how many more rows wait than before the transaction
	waited  bool              // it made some wait, or wait for another time
}

// get gives a row's state before the commit at lsn; nil when it is not
// published, or not known. What a later snapshot tells is not known yet.
func (b *rowBook) get(key []byte, lsn journal.LSN) (*rowState, error) {
	if s, ok := b.changed.get(key); ok {
		return s, nil
	}
	raw, ok, err := b.journal.Row(key)
	if err != nil || !ok {
		return nil, err
	}
	return b.decode(key, raw, lsn)
}

// firstEpoch is the one in which rows are filled from a snapshot: that happens
// once, while the journal is empty.
const firstEpoch = 1

// decode gives what the journal remembers of a row; nil for what only a
// snapshot behind lsn has told. Positions of a later epoch cannot be compared
// with the snapshot's, which lies behind them all.
func (b *rowBook) decode(key, raw []byte, lsn journal.LSN) (*rowState, error) {
	s, err := decodeRowState(raw)
	if err != nil {
		return nil, fmt.Errorf("row %q: %w", key, err)
	}
	if b.epoch == firstEpoch && s.filled > lsn && !s.waits() {
		return nil, nil
	}
	return s, nil
}

// set remembers a state, and keeps the key.
func (b *rowBook) set(key []byte, s *rowState) { b.changed.set(key, s) }

// of calls each for every published row of a table, in the order of their
// keys, so that a repeat gives the same ids, and as it was when of was called:
// each may change the book.
func (b *rowBook) of(n name, lsn journal.LSN, each func(key []byte, s *rowState) error) error {
	return overlaid(b.journal, rowPrefix(n), b.changed.all(), func(key []byte, s *rowState) error {
		if s == nil {
			return nil
		}
		return each(key, s)
	}, func(key, raw []byte) error {
		s, err := b.decode(key, raw, lsn)
		if err != nil || s == nil {
			return err
		}
		return each(key, s)
	})
}

// overlaid goes through the keys that begin with a prefix, in their order, as
// they stand when it is called: mine gets those of the transaction itself,
// stored those of the journal that it has not changed.
func overlaid[T any](j Journal, prefix []byte, own iter.Seq2[string, T], mine func(key []byte, value T) error, stored func(key, record []byte) error) error {
	changed := make(map[string]T)
	for key, value := range own {
		if strings.HasPrefix(key, string(prefix)) {
			changed[key] = value
		}
	}
	ahead := slices.Sorted(maps.Keys(changed))
	tell := func(upto []byte) error { // those before upto; all for nil
		for len(ahead) > 0 && (upto == nil || ahead[0] < string(upto)) {
			key := ahead[0]
			ahead = ahead[1:]
			if err := mine([]byte(key), changed[key]); err != nil {
				return err
			}
		}
		return nil
	}
	err := j.Rows(prefix, func(key, record []byte) error {
		if err := tell(key); err != nil {
			return err
		}
		if _, told := changed[string(key)]; told {
			return nil // next
		}
		return stored(key, record)
	})
	if err != nil {
		return err
	}
	return tell(nil)
}

// take gives what the transaction has changed, and begins anew.
func (b *rowBook) take() []journal.Row {
	rows := b.changed.take(len(b.beside))
	for key, record := range b.beside {
		rows = append(rows, journal.Row{Key: []byte(key), State: record})
	}
	b.beside = nil
	return rows
}
