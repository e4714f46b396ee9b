package journal

import (
	"errors"
	"reflect"
	runtimemetrics "runtime/metrics"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// strings that may be empty or carry any bytes; a list that is empty is nil, as
// decoding gives it.
func drawStrings(t *rapid.T, label string) []string {
	list := rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, label)
	if len(list) == 0 {
		return nil
	}
	return list
}

func drawBytes(t *rapid.T, label string) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, label)
	if len(b) == 0 {
		return nil
	}
	return b
}

func drawMessage(t *rapid.T) *Message {
	return &Message{
		ID:         drawID(t, "id"),
		Action:     rapid.SampledFrom(actions).Draw(t, "action"),
		Tags:       drawStrings(t, "tags"),
		Source:     rapid.String().Draw(t, "source"),
		Key:        drawBytes(t, "key"),
		Time:       time.UnixMicro(rapid.Int64Range(-1<<55, 1<<55).Draw(t, "time")).UTC(),
		Data:       drawBytes(t, "data"),
		Former:     drawStrings(t, "former"),
		Truncated:  rapid.Bool().Draw(t, "truncated"),
		Backfilled: rapid.Bool().Draw(t, "backfilled"),
	}
}

func drawChange(t *rapid.T) *Change {
	c := &Change{
		Name:     rapid.String().Draw(t, "name"),
		Reader:   Reader(rapid.Uint32().Draw(t, "reader")),
		Time:     time.UnixMicro(rapid.Int64Range(-1<<55, 1<<55).Draw(t, "time")).UTC(),
		Follow:   drawStrings(t, "follow"),
		Unfollow: drawStrings(t, "unfollow"),
		Mute:     drawStrings(t, "mute"),
		Unmute:   drawStrings(t, "unmute"),
		Forget:   rapid.Bool().Draw(t, "forget"),
		First:    rapid.Bool().Draw(t, "first"),
	}
	if c.First {
		c.Muted = drawStrings(t, "muted")
	}
	return c
}

// encodeEntry makes the record of an entry as Append and AppendChange do.
func encodeEntry(e Entry) []byte {
	if e.Change != nil {
		return appendChange(nil, e.Change)
	}
	return recordOf(e.Message)
}

func TestEntrySurvivesItsRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Entry{Seq: Seq(rapid.Uint64().Draw(t, "seq"))}
		if rapid.Bool().Draw(t, "change") {
			want.Change = drawChange(t)
		} else {
			want.Message = drawMessage(t)
		}
		record := encodeEntry(want)
		got, err := decodeEntry(want.Seq, record)
		if err != nil {
			t.Fatalf("decode %x: %v", record, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v %+v, want %+v %+v", got.Message, got.Change, want.Message, want.Change)
		}
		clear(record) // the entry must keep no part of it
		if !reflect.DeepEqual(got, want) {
			t.Fatal("the decoded entry changes with the record it was read from")
		}
	})
}

func TestShortenedOrLengthenedRecordIsDamaged(t *testing.T) {
	m := message(1, 0x10, 0, 40)
	for name, record := range map[string][]byte{
		"message": encodeEntry(Entry{Message: &m}),
		"change":  encodeEntry(Entry{Change: &Change{Name: "ann", Reader: 4, Follow: []string{"a", "b"}, Unmute: []string{"c"}}}),
	} {
		for n := range record {
			if _, err := decodeEntry(1, record[:n]); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s cut to %d of %d bytes: %v, want ErrDamaged", name, n, len(record), err)
			}
		}
		if _, err := decodeEntry(1, append(record, 0)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s with a byte too many: %v, want ErrDamaged", name, err)
		}
	}
}

// The numbers stand in records on disk: an action must keep its own for ever.
func TestRecordKeepsItsNumbers(t *testing.T) {
	for i, want := range []Action{Publish, Correct, Retract} {
		m := message(1, 1, 0, 0)
		m.Action = want
		record := recordOf(&m)
		if record[0] != 1 || record[1+idBytes] != byte(i) {
			t.Errorf("%s: kind %d, action %d, want 1, %d", want, record[0], record[1+idBytes], i)
		}
	}
	if record := appendChange(nil, &Change{}); record[0] != 2 {
		t.Errorf("change: kind %d, want 2", record[0])
	}
}

func allocated() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	runtimemetrics.Read(sample)
	return sample[0].Value.Uint64()
}

func FuzzDecodeEntry(f *testing.F) {
	m := message(1, 0x16_B374D848, 3, 64)
	record := recordOf(&m)
	f.Add(record)
	f.Add(record[:20])
	f.Add(appendChange(nil, &Change{Name: "ann", Reader: 1, Follow: []string{"sport", ""}, Mute: []string{"x"}}))
	f.Add(appendChange(nil, &Change{Name: "ann", Reader: 1 << 31, Forget: true}))
	f.Add([]byte{})
	f.Add([]byte{recordParts, 2})
	f.Add(append([]byte{recordChange, 0, 1, 0, 0}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)) // 2^64-1 tags
	f.Add(append([]byte{recordChange, 0, 1, 0, 0, 0x80, 0x08}, make([]byte, 1100)...))                          // 1,024 empty tags
	f.Add([]byte{recordChange, 0, 0x80})
	f.Fuzz(func(t *testing.T, record []byte) {
		before := allocated()
		e, err := decodeEntry(7, record)
		// A string header per byte for each of four lists, and slack for what
		// else the process allocates meanwhile.
		if grown, limit := allocated()-before, uint64(128*len(record)+4<<20); grown > limit {
			t.Errorf("%d bytes of record took %d bytes of memory", len(record), grown)
		}
		if err != nil {
			if !errors.Is(err, ErrDamaged) || !reflect.DeepEqual(e, Entry{}) {
				t.Fatalf("decode = %+v, %v; want no entry and ErrDamaged", e, err)
			}
			return
		}
		if (e.Message == nil) == (e.Change == nil) || e.Seq != 7 {
			t.Fatalf("decode gave %+v, want a message or a change at 7", e)
		}
		again, err := decodeEntry(7, encodeEntry(e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("decoded again: %+v, %v; want %+v", again, err, e)
		}
	})
}
