package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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
	flagBackfill  byte = 4 // of a message
	flagForget    byte = 1 // of a change
	flagFirst     byte = 2 // of a change: what the reader mutes stands behind the rest
)

// check tells what could not be read back.
func (m *Message) check() error {
	if !slices.Contains(actions, m.Action) {
		return fmt.Errorf("message %s: unknown action %q", m.ID, m.Action)
	}
	return nil
}

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

// appendMessage makes the record of a message. The error is that of check.
func appendMessage(b []byte, m *Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return b, err
	}
	b = append(b, recordMessage)
	b = m.ID.appendTo(b)
	b = append(b, byte(slices.Index(actions, m.Action)))
	var flags byte
	if m.Truncated {
		flags |= flagTruncated
	}
	if len(m.Former) > 0 {
		flags |= flagFormer
	}
	if m.Backfilled {
		flags |= flagBackfill
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
	return b, nil
}

func appendChange(b []byte, c *Change) []byte {
	b = append(b, recordChange)
	var flags byte
	if c.Forget {
		flags |= flagForget
	}
	if c.First {
		flags |= flagFirst
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(c.Reader))
	b = binary.AppendVarint(b, c.Time.UnixMicro())
	b = appendBytes(b, []byte(c.Name))
	for _, tags := range [][]string{c.Follow, c.Unfollow, c.Mute, c.Unmute} {
		b = appendStrings(b, tags)
	}
	if c.First {
		b = appendStrings(b, c.Muted)
	}
	return b
}

// decodeEntry reads a record. It keeps no reference to b. The error wraps
// ErrDamaged.
func decodeEntry(seq Seq, b []byte) (Entry, error) {
	r := Decoder{Rest: b}
	e := Entry{Seq: seq}
	switch kind := r.Byte(); kind {
	case recordMessage:
		e.Message = r.message()
	case recordChange:
		e.Change = r.change()
	default:
		return Entry{}, fmt.Errorf("decode entry %d: kind %d: %w", seq, kind, ErrDamaged)
	}
	if !r.Whole() {
		return Entry{}, fmt.Errorf("decode entry %d: %w", seq, ErrDamaged)
	}
	return e, nil
}

func (r *Decoder) message() *Message {
	m := new(Message)
	if id := r.Take(idBytes); id != nil {
		m.ID = idFromBytes(id)
	}
	if a := int(r.Byte()); a < len(actions) {
		m.Action = actions[a]
	} else {
		r.Bad = true
	}
	flags := r.Byte()
	m.Truncated, m.Backfilled = flags&flagTruncated != 0, flags&flagBackfill != 0
	m.Time = time.UnixMicro(r.Varint()).UTC()
	m.Tags = r.Strings()
	m.Source = string(r.Bytes())
	m.Key = append(m.Key, r.Bytes()...)
	m.Data = append(m.Data, r.Bytes()...)
	if flags&flagFormer != 0 {
		m.Former = r.Strings()
	}
	return m
}

func (r *Decoder) change() *Change {
	flags := r.Byte()
	c := &Change{Forget: flags&flagForget != 0, First: flags&flagFirst != 0}
	c.Reader = Reader(r.Uvarint())
	c.Time = time.UnixMicro(r.Varint()).UTC()
	c.Name = string(r.Bytes())
	for _, tags := range []*[]string{&c.Follow, &c.Unfollow, &c.Mute, &c.Unmute} {
		*tags = r.Strings()
	}
	if c.First {
		c.Muted = r.Strings()
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
