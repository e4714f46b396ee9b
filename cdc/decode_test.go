package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/jackc/pglogrepl"
)

// Messages as pgoutput sends them, put together by hand.
var wire = struct{ begin, commit, relation, insert, update, delete, truncate, message []byte }{
	begin:    join("B", u64(0x1000), u64(5), u32(7)),
	commit:   join("C", "\x00", u64(0x1000), u64(0x1030), u64(5)),
	relation: join("R", u32(9), "public\x00articles\x00d", u16(2), "\x01id\x00", u32(23), u32(1<<32-1), "\x00title\x00", u32(25), u32(1<<32-1)),
	insert:   join("I", u32(9), "N", u16(2), "t", u32(1), "1", "n"),
	update:   join("U", u32(9), "O", u16(1), "t", u32(1), "1", "N", u16(2), "u", "t", u32(2), "ab"),
	delete:   join("D", u32(9), "K", u16(1), "t", u32(1), "1"),
	truncate: join("T", u32(2), "\x01", u32(9), u32(10)),
	message:  join("M", "\x00", u64(0x2000), "newswire\x00", u32(2), "hi"),
}

func u16(n uint16) string { return string(binary.BigEndian.AppendUint16(nil, n)) }
func u32(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }
func u64(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

func join(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func wireMessages() [][]byte {
	return [][]byte{wire.begin, wire.commit, wire.relation, wire.insert, wire.update, wire.delete, wire.truncate, wire.message}
}

func TestDecodeReadsWhatTheServerSends(t *testing.T) {
	for _, wal := range wireMessages() {
		m, err := decode(wal)
		if err != nil || byte(m.Type()) != wal[0] {
			t.Errorf("decode(%q) = %v, %v", wal, m, err)
		}
	}
	m, err := decode(wire.update)
	if err != nil {
		t.Fatal(err)
	}
	if u := m.(*pglogrepl.UpdateMessage); u.NewTuple.Columns[0].DataType != 'u' || string(u.NewTuple.Columns[1].Data) != "ab" {
		t.Errorf("update = %+v", u.NewTuple)
	}
}

func TestDecodeRefusesWhatIsCutOff(t *testing.T) {
	for _, wal := range wireMessages() {
		for n := range wal {
			if _, err := decode(wal[:n]); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMalformed) {
				t.Errorf("decode(%q) = %v, want ErrTruncated or ErrMalformed", wal[:n], err)
			}
		}
	}
}

func TestDecodeTakesNoMemoryOnTrust(t *testing.T) {
	for name, wal := range map[string][]byte{
		"value of 4 GiB":      join("I", u32(9), "N", u16(1), "t", u32(1<<32-1), "x"),
		"4 G relations":       join("T", u32(1<<32-1), "\x00", u32(1)),
		"old row of 4 GiB":    join("U", u32(9), "K", u16(1), "t", u32(1<<32-1), "x", "N", u16(0)),
		"content of 4 GiB":    join("M", "\x00", u64(1), "p\x00", u32(1<<32-1), "x"),
		"unknown kind of row": join("I", u32(9), "N", u16(1), "x"),
	} {
		if _, err := decode(wal); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: decode = %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, wal := range wireMessages() {
		f.Add(wal)
	}
	f.Fuzz(func(t *testing.T, wal []byte) {
		before := bytes.Clone(wal)
		m, err := decode(wal)
		if (m == nil) == (err == nil) {
			t.Errorf("decode = %v, %v", m, err)
		}
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMalformed) {
			t.Errorf("decode = %v", err)
		}
		if !bytes.Equal(wal, before) {
			t.Error("decode changed its input")
		}
	})
}
