package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
	"sync"

	"github.com/klauspost/compress/s2"
)

// blockBytes is about what a block holds before it is compressed: large enough
// that a record of the database costs little against its content, small enough
// that reading one message decompresses little (30 µs).
const blockBytes = 32 << 10

// block says what a block holds: messages that follow one another in a spooled
// commit, or in a bundle. The key of its record tells all of it.
type block struct {
	first, last uint64 // their numbers among those that were stored together
	from        ID     // of the first one
}

// at is where the block's record is.
func (b block) at(spool uint64) place {
	key := spaceSpools.Seq(Seq(spool))
	key = binary.BigEndian.AppendUint64(key, b.last) // first, so that a search for a message ends at its block
	key = binary.BigEndian.AppendUint64(key, b.first)
	key = b.from.appendTo(key)
	return place{key: key, stem: key}
}

// blockKeyBytes is the length of a block's key; those of pieces are longer.
const blockKeyBytes = 1 + 8 + 8 + 8 + idBytes

// blockOf reads the key of a block's record; whole is false for a piece's.
func blockOf(key []byte) (spool uint64, b block, whole bool) {
	if len(key) < blockKeyBytes {
		return 0, block{}, false
	}
	return binary.BigEndian.Uint64(key[1:]), block{
		last:  binary.BigEndian.Uint64(key[9:]),
		first: binary.BigEndian.Uint64(key[17:]),
		from:  idFromBytes(key[25:]),
	}, len(key) == blockKeyBytes
}

// blocks are those of one spooled commit that are kept, in order. A list is
// appended to or replaced, never changed.
type blocks []block

// holding gives the block that holds message n of the commit.
func (bs blocks) holding(n uint64) (b block, ok bool) {
	i := sort.Search(len(bs), func(i int) bool { return bs[i].last >= n })
	if i == len(bs) || bs[i].first > n {
		return block{}, false
	}
	return bs[i], true
}

// upto gives the last block that begins at or before an ID.
func (bs blocks) upto(id ID) (b block, ok bool) {
	i := sort.Search(len(bs), func(i int) bool { return bs[i].from.Compare(id) > 0 })
	if i == 0 {
		return block{}, false
	}
	return bs[i-1], true
}

// packed is a block on its way to the disk: some messages, compressed.
type packed struct {
	count uint64
	from  ID
	value []byte
}

// packer makes blocks of records.
type packer struct {
	list   []packed
	p      packed
	raw    []byte
	record []byte
}

// add takes the next message. The error is that of one that cannot be read back.
func (k *packer) add(m *Message) (err error) {
	if k.p.count == 0 {
		k.p.from = m.ID
	}
	if k.raw == nil {
		k.raw = make([]byte, 0, blockBytes+blockBytes/8)
	}
	if k.record, err = appendMessage(k.record[:0], m); err != nil {
		return err
	}
	k.raw = appendBytes(k.raw, k.record)
	k.p.count++
	if len(k.raw) >= blockBytes {
		k.cut()
	}
	return nil
}

func (k *packer) cut() {
	if k.p.count > 0 {
		k.p.value = compress(k.raw)
		k.list = append(k.list, k.p)
		k.p, k.raw = packed{}, k.raw[:0]
	}
}

// packMessages makes blocks of messages.
func packMessages(messages []Message) ([]packed, error) {
	var k packer
	for i := range messages {
		if err := k.add(&messages[i]); err != nil {
			return nil, err
		}
	}
	k.cut()
	return k.list, nil
}

// room is what compress works in: several times as much as it makes.
var room = sync.Pool{New: func() any { return new([]byte) }}

// compress makes a record of a block's content. It keeps nothing of raw.
func compress(raw []byte) []byte {
	in := room.Get().(*[]byte)
	defer room.Put(in)
	if n := s2.MaxEncodedLen(len(raw)); len(*in) < n {
		*in = make([]byte, n)
	}
	return bytes.Clone(s2.Encode(*in, raw))
}

// openBlock is a block's content, for reading.
type openBlock struct {
	spool uint64
	block
	raw  []byte
	ends []int // of each record in raw
}

// unpack opens the record of a block.
func unpack(spool uint64, b block, value []byte) (*openBlock, error) {
	o := &openBlock{spool: spool, block: b}
	var err error
	if o.raw, err = decompress(value); err != nil {
		return nil, fmt.Errorf("block of entries %d to %d of spool %d: %w", b.first, b.last, spool, err)
	}
	d := Decoder{Rest: o.raw}
	for len(d.Rest) > 0 && !d.Bad {
		d.Bytes()
		o.ends = append(o.ends, len(o.raw)-len(d.Rest))
	}
	if d.Bad || uint64(len(o.ends)) != b.last-b.first+1 {
		return nil, fmt.Errorf("block of entries %d to %d of spool %d: %w", b.first, b.last, spool, ErrDamaged)
	}
	return o, nil
}

// mostBlock is more than any block holds: a message's data has at most 1 MiB.
const mostBlock = 64 << 20

func decompress(value []byte) ([]byte, error) {
	if n, err := s2.DecodedLen(value); err != nil || n > mostBlock {
		return nil, ErrDamaged
	}
	raw, err := s2.Decode(nil, value)
	if err != nil {
		return nil, ErrDamaged
	}
	return raw, nil
}

// record gives the record of message n of the commit, which the block holds.
func (o *openBlock) record(n uint64) []byte {
	i := n - o.first
	begin := 0
	if i > 0 {
		begin = o.ends[i-1]
	}
	d := Decoder{Rest: o.raw[begin:o.ends[i]]}
	return d.Bytes()
}

// id gives the ID of message n without reading the rest of it.
func (o *openBlock) id(n uint64) (ID, error) {
	record := o.record(n)
	if len(record) < 1+idBytes || record[0] != recordMessage {
		return ID{}, fmt.Errorf("spooled entry %d of %d: %w", n, o.spool, ErrDamaged)
	}
	return idFromBytes(record[1:]), nil
}

// upto finds, among the block's messages, the last one whose ID is not behind
// id. ok is false when all are.
func (o *openBlock) upto(id ID) (n uint64, exact, ok bool, err error) {
	after := sort.Search(len(o.ends), func(i int) bool {
		at, fault := o.id(o.first + uint64(i))
		if fault != nil {
			err = fault
			return true
		}
		exact = exact || at == id
		return at.Compare(id) > 0
	})
	return o.first + uint64(after) - 1, exact, after > 0, err
}

// openAs is what an open block is found by.
type openAs struct{ spool, last uint64 }

// open gives a block of a spooled commit, from the disk or on its way there; nil
// when it is no longer kept.
func (j *Journal) open(spool uint64, b block) (*openBlock, error) {
	as := openAs{spool, b.last}
	if o, ok := j.opened.get(as); ok {
		return o, nil
	}
	j.mu.Lock()
	value := j.unwrittenLocked(spool, b.last)
	j.mu.Unlock()
	if value == nil {
		err := j.View(func(v View) (err error) {
			value, err = v.large(b.at(spool))
			return err
		})
		if err != nil || value == nil {
			return nil, err
		}
	}
	o, err := unpack(spool, b, value)
	if err == nil {
		j.opened.put(as, o)
	}
	return o, err
}
