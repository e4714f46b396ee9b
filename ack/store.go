package ack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// errDamaged reports a ledger record that no version has written.
var errDamaged = errors.New("ledger record damaged")

// recordVersion stands first in the records of an entry.
const recordVersion byte = 1

// maxIDText is the length of an ID in a record.
const maxIDText = 28

// flagRetracted is of an entry's progress.
const flagRetracted byte = 1

// storeAudience writes what never changes about an entry.
func storeAudience(u *journal.Update, e *entry) {
	b := append([]byte{recordVersion}, e.id.String()...)
	b = binary.AppendVarint(b, e.opened.UnixMicro())
	u.Set(journal.SpaceAudience.Seq(e.seq), appendBitmap(b, e.audience))
}

// storeChanges writes what has changed about an entry, at most until the
// update is full; false when there is more.
func storeChanges(u *journal.Update, e *entry) (whole bool) {
	for ; len(e.dropped) > 0; e.dropped = e.dropped[1:] {
		if u.Full() {
			return false
		}
		u.Delete(sendKey(e.seq, e.dropped[0]))
	}
	e.dropped = nil
	for i := range e.sends {
		s := &e.sends[i]
		if !s.dirty {
			continue
		}
		if u.Full() {
			return false
		}
		b := binary.AppendUvarint([]byte{recordVersion}, uint64(s.n))
		b = binary.AppendVarint(b, s.at.UnixMicro())
		u.Set(sendKey(e.seq, s.serial), appendBitmap(b, s.readers))
		s.dirty = false
	}
	if !storeEnds(u, e) || u.Full() {
		return false
	}
	storeProgress(u, e)
	return true
}

func sendKey(seq journal.Seq, serial uint32) []byte {
	return binary.BigEndian.AppendUint32(journal.SpaceSends.Seq(seq), serial)
}

// storeProgress writes what became of an entry's copies.
func storeProgress(u *journal.Update, e *entry) {
	var flags byte
	if e.retracted {
		flags |= flagRetracted
	}
	b := []byte{recordVersion, flags}
	for _, at := range []time.Time{e.reads.first, e.reads.last, e.hands.first, e.hands.last} {
		b = appendTime(b, at)
	}
	for _, m := range []*roaring.Bitmap{e.read, e.handed, e.forgotten} {
		b = appendBitmap(b, m)
	}
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
	if err := loadSends(v, e); err != nil {
		return nil, false, fmt.Errorf("ledger entry %d: %w", seq, err)
	}
	return e, true, nil
}

// loadSends reads what was written to whom.
func loadSends(v journal.View, e *entry) error {
	from := journal.SpaceSends.Seq(e.seq)
	err := v.Look(from, append(bytes.Clone(from), 0xff, 0xff, 0xff, 0xff), func(key, value []byte) (bool, error) {
		s, err := decodeSend(key, value)
		if err != nil {
			return false, err
		}
		e.sends = append(e.sends, s)
		e.sent.Or(s.readers)
		e.serial = max(e.serial, s.serial)
		return true, nil
	})
	e.sortSends()
	return err
}

func decodeSend(key, value []byte) (send, error) {
	r := decoder{journal.Decoder{Rest: value}}
	r.version()
	s := send{n: int(r.Uvarint()), at: time.UnixMicro(r.Varint()), readers: r.bitmap()}
	if !r.Whole() || len(key) != 1+8+4 {
		return send{}, errDamaged
	}
	s.serial = binary.BigEndian.Uint32(key[9:])
	return s, nil
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
	e.retracted = r.Byte()&flagRetracted != 0
	for _, at := range []*time.Time{&e.reads.first, &e.reads.last, &e.hands.first, &e.hands.last} {
		*at = r.time()
	}
	e.read, e.handed, e.forgotten = r.bitmap(), r.bitmap(), r.bitmap()
	if !r.Whole() {
		return nil, errDamaged
	}
	e.left = int(e.pending(e.audience).GetCardinality())
	return e, nil
}

// appendTime writes a time, zero for none.
func appendTime(b []byte, at time.Time) []byte {
	if at.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, at.UnixMicro())
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

// time reads what appendTime wrote.
func (d *decoder) time() time.Time {
	if at := d.Varint(); at != 0 {
		return time.UnixMicro(at)
	}
	return time.Time{}
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
