package journal

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// LSN is a position in PostgreSQL's write-ahead log.
type LSN uint64

// String prints the position as PostgreSQL does, for example 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// LogValue is the same in every format of a log.
func (l LSN) LogValue() slog.Value { return slog.StringValue(l.String()) }

// ParseLSN reads PostgreSQL's notation.
func ParseLSN(s string) (LSN, error) {
	front, back, _ := strings.Cut(s, "/")
	high, errHigh := strconv.ParseUint(front, 16, 32)
	low, errLow := strconv.ParseUint(back, 16, 32)
	if errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers as in 16/B374D848", s)
	}
	return LSN(high<<32 | low), nil
}

// Seq is a position in the journal: dense, from 1. Messages and changes of
// subscriptions share it.
type Seq uint64

// Reader is a reader's dense number, from 1: what the audience bitmaps hold.
type Reader uint32

// ID names one row change for ever. It is made of where the change stands in
// PostgreSQL's log, so the same change has the same ID however often the
// server sends it, and IDs sort in commit order.
type ID struct {
	Epoch   uint16 // counts the histories: a new one after a timeline or system change
	LSN     LSN    // of the commit record, as Begin announces it
	Ordinal uint32 // among all row changes of the transaction, from 0
}

// ErrMalformedID reports an ID that is not 28 lower-case hexadecimal digits.
var ErrMalformedID = errors.New("malformed message id: want 28 lower-case hexadecimal digits")

// idBytes is the length of an ID in bytes; its text is twice as long.
const idBytes = 2 + 8 + 4

// ParseID reads what String prints. The error is ErrMalformedID.
func ParseID(s string) (ID, error) {
	var raw [idBytes]byte
	if len(s) != 2*idBytes {
		return ID{}, ErrMalformedID
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ID{}, ErrMalformedID
		}
	}
	if _, err := hex.Decode(raw[:], []byte(s)); err != nil {
		return ID{}, ErrMalformedID
	}
	return idFromBytes(raw[:]), nil
}

// String prints epoch, LSN and ordinal as 4, 16 and 8 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id.appendTo(nil)) }

// AppendText adds what String prints. The error is always nil.
func (id ID) AppendText(b []byte) ([]byte, error) {
	var raw [idBytes]byte
	return hex.AppendEncode(b, id.appendTo(raw[:0])), nil
}

// MarshalText makes an ID a JSON string.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// Compare orders IDs by commit: negative when id comes before other.
func (id ID) Compare(other ID) int {
	return cmp.Or(
		cmp.Compare(id.Epoch, other.Epoch),
		cmp.Compare(id.LSN, other.LSN),
		cmp.Compare(id.Ordinal, other.Ordinal),
	)
}

// IsZero tells the ID that no message has.
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, id.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(id.LSN))
	return binary.BigEndian.AppendUint32(b, id.Ordinal)
}

func idFromBytes(b []byte) ID {
	return ID{
		Epoch:   binary.BigEndian.Uint16(b),
		LSN:     LSN(binary.BigEndian.Uint64(b[2:])),
		Ordinal: binary.BigEndian.Uint32(b[10:]),
	}
}
