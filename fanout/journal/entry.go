package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ErrDamaged reports bytes in the journal that no version of it has written.
var ErrDamaged = errors.New("journal record damaged")

// The first byte of a record says what it is and in which format, so that a
// later version can read what an earlier one wrote.
const (
	recordMessage byte = 1
	recordChange  byte = 2
	recordParts   byte = 3 // the record is in pieces; a count follows
)

var actions = []Action{Publish, Correct, Retract} // by their byte in a record; append only

const (
	flagTruncated byte = 1 // of a message
	flagFormer    byte = 2 // of a message: a list of tags stands behind its data
	flagForget    byte = 1 // of a change
)

// recordSize is at least the size of the message's record, so that making it
// takes memory once.
func (m *Message) recordSize() int {
	n := 64 + len(m.Source) + len(m.Key) + len(m.Data) + 3*(len(m.Tags)+len(m.Former))
	for _, tags := range [][]string{m.Tags, m.Former} {
		for _, tag := range tags {
			n += len(tag)
		}
	}
	return n
}

func appendMessage(b []byte, m *Message) []byte {
	b = append(b, recordMessage)
	b = m.ID.appendTo(b)
	for i, a := range actions {
		if a == m.Action {
			b = append(b, byte(i))
		}
	}
	var flags byte
	if m.Truncated {
		flags |= flagTruncated
	}
	if len(m.Former) > 0 {
		flags |= flagFormer
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, m.Time.UnixMicro())
	b = appendStrings(b, m.Tags)
	b = appendBytes(b, []byte(m.Source))
	b = appendBytes(b, m.Key)
	b = appendBytes(b, m.Data)
	if len(m.Former) > 0 {
		b = appendStrings(b, m.Former)
	}
	return b
}

func appendChange(b []byte, c *Change) []byte {
	b = append(b, recordChange)
	var flags byte
	if c.Forget {
		flags |= flagForget
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(c.Reader))
	b = binary.AppendVarint(b, c.Time.UnixMicro())
	b = appendBytes(b, []byte(c.Name))
	for _, tags := range [][]string{c.Follow, c.Unfollow, c.Mute, c.Unmute} {
		b = appendStrings(b, tags)
	}
	return b
}

// decodeEntry reads a record. It keeps no reference to b. The error wraps
// ErrDamaged.
func decodeEntry(seq Seq, b []byte) (Entry, error) {
	r := decoder{rest: b}
	e := Entry{Seq: seq}
	switch kind := r.byte(); kind {
	case recordMessage:
		e.Message = r.message()
	case recordChange:
		e.Change = r.change()
	default:
		return Entry{}, fmt.Errorf("decode entry %d: kind %d: %w", seq, kind, ErrDamaged)
	}
	if r.bad || len(r.rest) > 0 {
		return Entry{}, fmt.Errorf("decode entry %d: %w", seq, ErrDamaged)
	}
	return e, nil
}

func (r *decoder) message() *Message {
	m := new(Message)
	if id := r.take(idBytes); id != nil {
		m.ID = idFromBytes(id)
	}
	if a := int(r.byte()); a < len(actions) {
		m.Action = actions[a]
	} else {
		r.bad = true
	}
	flags := r.byte()
	m.Truncated = flags&flagTruncated != 0
	m.Time = time.UnixMicro(r.varint()).UTC()
	m.Tags = r.strings()
	m.Source = string(r.bytes())
	m.Key = append(m.Key, r.bytes()...)
	m.Data = append(m.Data, r.bytes()...)
	if flags&flagFormer != 0 {
		m.Former = r.strings()
	}
	return m
}

func (r *decoder) change() *Change {
	c := &Change{Forget: r.byte()&flagForget != 0}
	c.Reader = Reader(r.uvarint())
	c.Time = time.UnixMicro(r.varint()).UTC()
	c.Name = string(r.bytes())
	for _, tags := range []*[]string{&c.Follow, &c.Unfollow, &c.Mute, &c.Unmute} {
		*tags = r.strings()
	}
	return c
}

func appendBytes(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// decoder reads fields off rest; once something does not fit, bad stays set
// and every further field is zero.
type decoder struct {
	rest []byte
	bad  bool
}

func (r *decoder) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.rest) {
		r.bad = true
		return nil
	}
	field := r.rest[:n]
	r.rest = r.rest[n:]
	return field
}

func (r *decoder) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(n)
	return v
}

func (r *decoder) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(n)
	return v
}

// length reads a count of things that take at least one byte each, so that
// damaged bytes cannot ask for more memory than they fill.
func (r *decoder) length() int {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *decoder) bytes() []byte { return r.take(r.length()) }

func (r *decoder) strings() []string {
	n := r.length()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, string(r.bytes()))
	}
	return list
}
