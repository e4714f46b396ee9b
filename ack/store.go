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
	r := decoder{journal.Decoder{Rest: audience}}
	r.version()
	id, err := journal.ParseID(string(r.Take(maxIDText)))
	if err != nil {
		return nil, errDamaged
	}
	opened := time.UnixMicro(r.Varint())
	readers := r.bitmap()
	if !r.Whole() {
		return nil, errDamaged
	}
	e := newEntry(seq, id, opened, readers)
	if len(progress) == 0 {
		return e, nil
	}
	r = decoder{journal.Decoder{Rest: progress}}
	r.version()
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		e.sends = append(e.sends, send{n: int(r.Uvarint()), at: time.UnixMicro(r.Varint()), readers: r.bitmap()})
	}
	e.read, e.handed = r.bitmap(), r.bitmap()
	if !r.Whole() {
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

// decoder reads the fields of a ledger record.
type decoder struct{ journal.Decoder }

func (d *decoder) version() {
	if b := d.Take(1); b != nil && b[0] != recordVersion {
		d.Bad = true
	}
}

// bitmap reads a bitmap that shares nothing with the record.
func (d *decoder) bitmap() *roaring.Bitmap {
	m := roaring.New()
	if raw := d.Bytes(); raw != nil {
		if err := m.UnmarshalBinary(raw); err != nil {
			d.Bad = true
			return roaring.New()
		}
	}
	return m
}
