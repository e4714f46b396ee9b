package cdc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// ErrTruncated reports a replication message that ends too early.
var ErrTruncated = errors.New("replication message truncated")

// ErrMalformed reports a replication message that is not one.
var ErrMalformed = errors.New("replication message malformed")

// headBytes of a bad message stand in the error: enough to see its kind and
// relation, too few to carry an article.
const headBytes = 16

// Sizes of what a decoder takes from the runtime at a time. A message that
// takes more than a quarter of a piece gets memory of its own.
const (
	slabBytes   = 64 << 10
	slabColumns = 512
)

// decoder reads pgoutput messages of protocol version 1. Rows, of which a large
// transaction has many, are read here: without a copy of each column and with
// less than one allocation each. The rest is left to pglogrepl. What a decoder
// gave stays as it is; the zero value is ready.
type decoder struct {
	bytes    []byte // free
	columns  []pglogrepl.TupleDataColumn
	pointers []*pglogrepl.TupleDataColumn
	rows     slab[pglogrepl.TupleData]
	inserts  slab[pglogrepl.InsertMessage]
}

// decode reads one message. Whatever the bytes are, it neither panics nor takes
// more memory than they do; the error wraps ErrTruncated or ErrMalformed. The
// message keeps no reference to wal.
func (d *decoder) decode(wal []byte) (m pglogrepl.Message, err error) {
	if len(wal) == 0 {
		return nil, fmt.Errorf("decode message: %w", ErrTruncated)
	}
	defer func() {
		if r := recover(); r != nil { // pglogrepl does not bound every read
			m, err = nil, fmt.Errorf("decode message %x: %w", head(wal), ErrTruncated)
		}
	}()
	switch pglogrepl.MessageType(wal[0]) {
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
		m, err = d.row(pglogrepl.MessageType(wal[0]), d.keep(wal[1:]))
		if err != nil {
			return nil, fmt.Errorf("decode message %x: %w", head(wal), err)
		}
		return m, nil
	case pglogrepl.MessageTypeTruncate:
		// pglogrepl allocates for the count before it looks whether the relations are there.
		if body := wal[1:]; len(body) < 5 || uint64(len(body)-5)/4 < uint64(binary.BigEndian.Uint32(body)) {
			return nil, fmt.Errorf("decode message %x: %w", head(wal), ErrTruncated)
		}
	}
	// A logical message's content is a part of what it was read from. Without
	// spare capacity a slice past the end panics, too.
	m, err = pglogrepl.Parse(d.keep(wal))
	if err != nil {
		return nil, fmt.Errorf("decode message %x: %w: %w", head(wal), ErrMalformed, err)
	}
	return m, nil
}

func head(wal []byte) []byte { return wal[:min(len(wal), headBytes)] }

// keep copies bytes to where they may stay.
func (d *decoder) keep(b []byte) []byte {
	if len(b) > slabBytes/4 {
		return append(make([]byte, 0, len(b)), b...)
	}
	if len(b) > len(d.bytes) {
		d.bytes = make([]byte, slabBytes)
	}
	n := copy(d.bytes, b)
	kept := d.bytes[:n:n]
	d.bytes = d.bytes[n:]
	return kept
}

// row reads an Insert, Update or Delete behind its first byte.
func (d *decoder) row(kind pglogrepl.MessageType, b []byte) (pglogrepl.Message, error) {
	if len(b) < 5 {
		return nil, ErrTruncated
	}
	relation, mark := binary.BigEndian.Uint32(b), b[4]
	first, rest, err := d.tuple(b[5:])
	if err != nil {
		return nil, err
	}
	switch {
	case kind == pglogrepl.MessageTypeInsert && mark == pglogrepl.UpdateMessageTupleTypeNew:
		m := d.inserts.one()
		m.RelationID, m.Tuple = relation, first
		return m, nil
	case kind == pglogrepl.MessageTypeInsert:
		return nil, ErrMalformed
	case kind == pglogrepl.MessageTypeUpdate && mark == pglogrepl.UpdateMessageTupleTypeNew:
		return &pglogrepl.UpdateMessage{RelationID: relation, NewTuple: first}, nil
	case mark != pglogrepl.UpdateMessageTupleTypeKey && mark != pglogrepl.UpdateMessageTupleTypeOld:
		return nil, ErrMalformed
	case kind == pglogrepl.MessageTypeDelete:
		return &pglogrepl.DeleteMessage{RelationID: relation, OldTupleType: mark, OldTuple: first}, nil
	case len(rest) == 0:
		return nil, ErrTruncated
	case rest[0] != pglogrepl.UpdateMessageTupleTypeNew:
		return nil, ErrMalformed
	}
	next, _, err := d.tuple(rest[1:])
	if err != nil {
		return nil, err
	}
	return &pglogrepl.UpdateMessage{RelationID: relation, OldTupleType: mark, OldTuple: first, NewTuple: next}, nil
}

// tuple reads a row and gives what stands behind it.
func (d *decoder) tuple(b []byte) (t *pglogrepl.TupleData, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, ErrTruncated
	}
	count := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < count { // each takes a byte at least
		return nil, nil, ErrTruncated
	}
	t = d.rows.one()
	t.ColumnNum, t.Columns = uint16(count), d.places(count)
	for _, c := range t.Columns {
		if len(b) == 0 {
			return nil, nil, ErrTruncated
		}
		c.DataType = b[0]
		b = b[1:]
		switch c.DataType {
		case pglogrepl.TupleDataTypeNull, pglogrepl.TupleDataTypeToast:
			continue
		case pglogrepl.TupleDataTypeText, pglogrepl.TupleDataTypeBinary:
		default:
			return nil, nil, ErrMalformed
		}
		if len(b) < 4 {
			return nil, nil, ErrTruncated
		}
		c.Length = binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(len(b)) < uint64(c.Length) {
			return nil, nil, ErrTruncated
		}
		c.Data, b = b[:c.Length:c.Length], b[c.Length:]
	}
	return t, b, nil
}

// places gives room for a row's columns.
func (d *decoder) places(count int) []*pglogrepl.TupleDataColumn {
	if count > len(d.columns) {
		n := max(count, slabColumns)
		d.columns = make([]pglogrepl.TupleDataColumn, n)
		d.pointers = make([]*pglogrepl.TupleDataColumn, n)
		for i := range d.columns {
			d.pointers[i] = &d.columns[i]
		}
	}
	row := d.pointers[:count:count]
	d.columns, d.pointers = d.columns[count:], d.pointers[count:]
	return row
}
