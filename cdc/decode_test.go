package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
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
		m, err := new(decoder).decode(wal)
		want, _ := pglogrepl.Parse(wal)
		if err != nil || reflect.TypeOf(m) != reflect.TypeOf(want) {
			t.Errorf("decode(%q) = %T, %v, want %T", wal, m, err, want)
		}
	}
	m, err := new(decoder).decode(wire.update)
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
			if _, err := new(decoder).decode(wal[:n]); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMalformed) {
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
		if _, err := new(decoder).decode(wal); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMalformed) {
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
		m, err := new(decoder).decode(wal)
		if (m == nil) == (err == nil) {
			t.Errorf("decode = %v, %v", m, err)
		}
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMalformed) {
			t.Errorf("decode = %v", err)
		}
		if !bytes.Equal(wal, before) {
			t.Error("decode changed its input")
		}
		if got := rows(m); got != nil { // anything else pglogrepl has read already
			if want := rows(parse(wal)); !reflect.DeepEqual(got, want) {
				t.Errorf("decode gave the rows %v, pglogrepl %v", got, want)
			}
		}
	})
}

// parse is pglogrepl's own reading; nil where it gives none.
func parse(wal []byte) (m pglogrepl.Message) {
	defer func() { _ = recover() }()
	m, err := pglogrepl.Parse(wal)
	if err != nil {
		return nil
	}
	return m
}

// rows are the columns of a message's rows, old and new; nil where it has none.
func rows(m pglogrepl.Message) (all [][]pglogrepl.TupleDataColumn) {
	var tuples []*pglogrepl.TupleData
	switch m := m.(type) {
	case *pglogrepl.InsertMessage:
		tuples = append(tuples, m.Tuple)
	case *pglogrepl.UpdateMessage:
		tuples = append(tuples, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		tuples = append(tuples, m.OldTuple)
	}
	for _, t := range tuples {
		columns := []pglogrepl.TupleDataColumn{}
		if t != nil {
			for _, c := range t.Columns {
				columns = append(columns, pglogrepl.TupleDataColumn{DataType: c.DataType, Length: c.Length, Data: append([]byte{}, c.Data...)})
			}
		}
		all = append(all, columns)
	}
	return all
}
