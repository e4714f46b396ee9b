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

// decode reads one pgoutput message of protocol version 1. Whatever the bytes
// are, it neither panics nor takes more memory than they do; the error wraps
// ErrTruncated or ErrMalformed. The message keeps no reference to wal, except
// that a logical message's content does.
func decode(wal []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if r := recover(); r != nil { // pglogrepl does not bound every read
			m, err = nil, fmt.Errorf("decode message %x: %w", head(wal), ErrTruncated)
		}
	}()
	if err := bound(wal); err != nil {
		return nil, fmt.Errorf("decode message %x: %w", head(wal), err)
	}
	// Without spare capacity a slice past the end panics, too.
	m, err = pglogrepl.Parse(wal[:len(wal):len(wal)])
	if err != nil {
		return nil, fmt.Errorf("decode message %x: %w: %w", head(wal), ErrMalformed, err)
	}
	return m, nil
}

func head(wal []byte) []byte { return wal[:min(len(wal), headBytes)] }

// bound checks the counts and lengths that pglogrepl would allocate for before
// it looks whether the bytes are there.
func bound(wal []byte) error {
	if len(wal) == 0 {
		return ErrTruncated
	}
	body := wal[1:]
	switch pglogrepl.MessageType(wal[0]) {
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeDelete:
		if len(body) < 5 {
			return ErrTruncated
		}
		_, err := skipTuple(body[5:])
		return err
	case pglogrepl.MessageTypeUpdate:
		return boundUpdate(body)
	case pglogrepl.MessageTypeTruncate:
		if len(body) < 5 || uint64(len(body)-5)/4 < uint64(binary.BigEndian.Uint32(body)) {
			return ErrTruncated
		}
	}
	return nil
}

func boundUpdate(body []byte) (err error) {
	if len(body) < 5 {
		return ErrTruncated
	}
	kind, rest := body[4], body[5:]
	if kind != pglogrepl.UpdateMessageTupleTypeNew {
		if rest, err = skipTuple(rest); err != nil {
			return err
		}
		if len(rest) == 0 {
			return ErrTruncated
		}
		if rest[0] != pglogrepl.UpdateMessageTupleTypeNew {
			return ErrMalformed
		}
		rest = rest[1:]
	}
	_, err = skipTuple(rest)
	return err
}

// skipTuple walks over a row and gives what stands behind it.
func skipTuple(b []byte) (rest []byte, err error) {
	if len(b) < 2 {
		return nil, ErrTruncated
	}
	columns := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	for range columns {
		if len(b) == 0 {
			return nil, ErrTruncated
		}
		kind := b[0]
		b = b[1:]
		switch kind {
		case pglogrepl.TupleDataTypeNull, pglogrepl.TupleDataTypeToast:
		case pglogrepl.TupleDataTypeText, pglogrepl.TupleDataTypeBinary:
			if len(b) < 4 {
				return nil, ErrTruncated
			}
			size := uint64(binary.BigEndian.Uint32(b))
			b = b[4:]
			if uint64(len(b)) < size {
				return nil, ErrTruncated
			}
			b = b[size:]
		default:
			return nil, ErrMalformed
		}
	}
	return b, nil
}
