package ack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// errDamaged reports a ledger record that no version has written.
var errDamaged = errors.New("ledger record damaged")

// recordVersion stands first in both records of an entry.
const recordVersion byte = 1

// maxIDText is the length of an ID in a record.
const maxIDText = 28

// storeAudience writes what never changes about an entry.
func storeAudience(u *journal.Update, e *entry) {
	b := append([]byte{recordVersion}, e.id.String()...)
	b = binary.AppendVarint(b, e.opened.UnixMicro())
	u.Set(journal.SpaceAudience.Seq(e.seq), appendBitmap(b, e.audience))
}

// storeProgress writes what has changed about an entry.
func storeProgress(u *journal.Update, e *entry) {
	b := binary.AppendUvarint([]byte{recordVersion}, uint64(len(e.sends)))
	for _, s := range e.sends {
		b = binary.AppendUvarint(b, uint64(s.n))
		b = binary.AppendVarint(b, s.at.UnixMicro())
		b = appendBitmap(b, s.readers)
	}
	b = appendBitmap(b, e.read)
	b = appendBitmap(b, e.handed)
	u.Set(journal.SpaceProgress.Seq(e.seq), b)
	if !e.settled() {
		return
	}
	u.Delete(journal.SpaceOpen.Seq(e.seq))
	if unread := e.unread(); unread.IsEmpty() {
		u.Delete(journal.SpaceUnread.Seq(e.seq))
	} else {
		u.Set(journal.SpaceUnread.Seq(e.seq), appendBitmap(nil, unread))
	}
}

// loadEntry reads an entry; ok is false when there is none.
func loadEntry(v journal.View, seq journal.Seq) (e *entry, ok bool, err error) {
	audience, ok, err := v.Get(journal.SpaceAudience.Seq(seq))
	if err != nil || !ok {
		return nil, false, err
	}
	progress, _, err := v.Get(journal.SpaceProgress.Seq(seq))
	if err != nil {
		return nil, false, err
	}
	if e, err = decodeRecords(seq, audience, progress); err != nil {
		return nil, false, fmt.Errorf("ledger entry %d: %w", seq, err)
	}
	return e, true, nil
}

// decodeRecords builds an entry from its two records; progress is empty while
// nothing has happened to it.
func decodeRecords(seq journal.Seq, audience, progress []byte) (*entry, error) {
	r := reader{rest: audience}
	r.version()
	id, err := journal.ParseID(string(r.take(maxIDText)))
	if err != nil {
		return nil, errDamaged
	}
	opened := time.UnixMicro(r.varint())
	readers := r.bitmap()
	if r.bad || len(r.rest) > 0 {
		return nil, errDamaged
	}
	e := newEntry(seq, id, opened, readers)
	if len(progress) == 0 {
		return e, nil
	}
	r = reader{rest: progress}
	r.version()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		e.sends = append(e.sends, send{n: int(r.uvarint()), at: time.UnixMicro(r.varint()), readers: r.bitmap()})
	}
	e.read, e.handed = r.bitmap(), r.bitmap()
	if r.bad || len(r.rest) > 0 {
		return nil, errDamaged
	}
	done := roaring.Or(e.read, e.handed)
	e.left = int(e.audience.GetCardinality() - e.audience.AndCardinality(done))
	return e, nil
}

func appendBitmap(b []byte, m *roaring.Bitmap) []byte {
	b = binary.AppendUvarint(b, m.GetSerializedSizeInBytes())
	raw, err := m.ToBytes()
	if err != nil { // writing to memory cannot fail
		panic(err)
	}
	return append(b, raw...)
}

// reader reads fields off rest; once something does not fit, bad stays set.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.rest) {
		r.bad = true
		return nil
	}
	field := r.rest[:n]
	r.rest = r.rest[n:]
	return field
}

func (r *reader) version() {
	if b := r.take(1); b != nil && b[0] != recordVersion {
		r.bad = true
	}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(n)
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(n)
	return v
}

// bitmap reads a bitmap that shares nothing with the record.
func (r *reader) bitmap() *roaring.Bitmap {
	m := roaring.New()
	size := r.uvarint()
	if size > uint64(len(r.rest)) {
		r.bad = true
		return m
	}
	if raw := r.take(int(size)); raw != nil {
		if err := m.UnmarshalBinary(raw); err != nil {
			r.bad = true
			return roaring.New()
		}
	}
	return m
}
