package fanout

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

func TestReadersLiveInTheJournal(t *testing.T) {
	testHome(t, func(t *testing.T) (Home, func() Home) {
		dir := t.TempDir()
		e := newEngine(t, dir)
		t.Cleanup(func() { e.end() })
		return InJournal(e.j), func() Home {
			e.end()
			e = newEngine(t, dir)
			return InJournal(e.j)
		}
	})
}

// TestReadersLiveElsewhere holds that a home needs nothing of the journal's
// database: this one is in memory.
func TestReadersLiveElsewhere(t *testing.T) {
	testHome(t, func(*testing.T) (Home, func() Home) {
		h := newMemoryHome()
		return h, func() Home { return h }
	})
}

// testHome holds what the engine needs of a home. open gives an empty one, and
// what closes it and gives it again, as after a restart.
func testHome(t *testing.T, open func(*testing.T) (h Home, again func() Home)) {
	ann := Record{Number: 1, Follow: []string{"art", "tech"}, Mute: []string{"sport"}, Permit: Permit{"art", "geo:*"}, Met: true}
	save := func(t *testing.T, h Home, name string, rec Record) journal.Seq {
		t.Helper()
		ctx, cancel := deadline()
		defer cancel()
		seq, err := h.Save(ctx, journal.Change{Name: name, Reader: rec.Number, Follow: rec.Follow}, rec)
		if err != nil {
			t.Fatal(err)
		}
		for h.Kept() < seq {
			if ctx.Err() != nil {
				t.Fatalf("what was saved at %d is not kept: %d", seq, h.Kept())
			}
			time.Sleep(time.Millisecond)
		}
		return seq
	}
	is := func(t *testing.T, h Home, name string, want Record, known bool) {
		t.Helper()
		rec, ok, err := h.Record(name)
		if err != nil || ok != known || fmt.Sprintf("%#v", rec) != fmt.Sprintf("%#v", want) {
			t.Errorf("Record(%q) = %#v, %t, %v; want %#v, %t", name, rec, ok, err, want, known)
		}
	}
	highest := func(t *testing.T, h Home, want journal.Reader) {
		t.Helper()
		if got, err := h.Highest(); err != nil || got != want {
			t.Errorf("Highest() = %d, %v; want %d", got, err, want)
		}
	}
	names := func(t *testing.T, h Home) map[journal.Reader]string {
		t.Helper()
		got := make(map[journal.Reader]string)
		if err := h.Names(func(n journal.Reader, name string) error { got[n] = name; return nil }); err != nil {
			t.Error(err)
		}
		return got
	}
	tests := map[string]func(t *testing.T, h Home, again func() Home){
		"knows nobody at first": func(t *testing.T, h Home, _ func() Home) {
			is(t, h, "ann", Record{}, false)
			highest(t, h, 0)
			if name, ok, err := h.Name(1); ok || name != "" || err != nil {
				t.Errorf("Name(1) = %q, %t, %v", name, ok, err)
			}
		},
		"keeps a record as it was saved last, over a restart": func(t *testing.T, h Home, again func() Home) {
			first := save(t, h, "ann", Record{Number: 1})
			if second := save(t, h, "ann", ann); second <= first {
				t.Errorf("the second change is at %d, the first at %d", second, first)
			}
			save(t, h, "Ann É", Record{Number: 2})
			h = again()
			is(t, h, "ann", ann, true)
			is(t, h, "Ann É", Record{Number: 2}, true)
			highest(t, h, 2)
			if got := names(t, h); !maps.Equal(got, map[journal.Reader]string{1: "ann", 2: "Ann É"}) {
				t.Errorf("Names visits %v", got)
			}
		},
		"forgets a reader, and never its number": func(t *testing.T, h Home, again func() Home) {
			save(t, h, "ann", ann)
			if _, err := h.Forget(t.Context(), journal.Change{Name: "ann", Reader: 1, Unfollow: ann.Follow, Forget: true}); err != nil {
				t.Fatal(err)
			}
			h = again()
			is(t, h, "ann", Record{}, false)
			highest(t, h, 1)
			if name, ok, err := h.Name(1); ok || err != nil {
				t.Errorf("Name(1) = %q, %t, %v", name, ok, err)
			}
			if got := names(t, h); len(got) > 0 {
				t.Errorf("Names visits %v", got)
			}
		},
		"visits until a visit fails": func(t *testing.T, h Home, _ func() Home) {
			for n := range 3 {
				save(t, h, fmt.Sprintf("u%d", n), Record{Number: journal.Reader(n + 1)})
			}
			enough := errors.New("enough")
			visits := 0
			if err := h.Records(func(string, Record) error { visits++; return enough }); !errors.Is(err, enough) || visits != 1 {
				t.Errorf("Records = %v after %d visits", err, visits)
			}
			if err := h.Names(func(journal.Reader, string) error { visits++; return enough }); !errors.Is(err, enough) || visits != 2 {
				t.Errorf("Names = %v after %d visits", err, visits-1)
			}
		},
		"keeps who was seen, oldest first": func(t *testing.T, h Home, again func() Home) {
			at := time.UnixMicro(1_795_000_000_000_000)
			part := func(n int, readers ...uint32) Sight {
				from := at.Add(time.Duration(n) * time.Hour)
				return Sight{from, from.Add(time.Minute), roaring.BitmapOf(readers...)}
			}
			for _, s := range []Sight{part(2, 7), part(0, 1), part(1, 1, 2, 300_000), part(0, 1, 5)} {
				if err := h.SaveSight(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.DropSights(t.Context(), []Sight{part(2)}); err != nil {
				t.Fatal(err)
			}
			got, err := again().Sights()
			want := []Sight{part(0, 1, 5), part(1, 1, 2, 300_000)}
			if err != nil || !slices.EqualFunc(got, want, func(a, b Sight) bool {
				return a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Readers.Equals(b.Readers)
			}) {
				t.Errorf("Sights() = %v, %v; want %v", got, err, want)
			}
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h, again := open(t)
			test(t, h, again)
		})
	}
}

func TestDamagedRecordOfWhoWasSeenIsRefused(t *testing.T) {
	s := Sight{time.UnixMicro(5), time.UnixMicro(9), roaring.BitmapOf(1, 2, 300_000)}
	raw, err := s.Readers.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	value := append(binary.AppendVarint(nil, 9), raw...)
	if got, err := decodeSight(sightKey(s), value); err != nil || !got.Readers.Equals(s.Readers) || !got.From.Equal(s.From) || !got.Until.Equal(s.Until) {
		t.Errorf("decoded %+v, %v", got, err)
	}
	for n := range len(value) {
		if _, err := decodeSight(sightKey(s), value[:n]); err == nil {
			t.Fatalf("a record cut to %d of %d bytes was taken", n, len(value))
		}
	}
}

// memoryHome is the smallest home: its journal is a counter.
type memoryHome struct {
	mu      sync.Mutex // guards the rest
	seq     journal.Seq
	highest journal.Reader
	records map[string]Record
	sights  map[time.Time]Sight
}

func newMemoryHome() *memoryHome {
	return &memoryHome{records: make(map[string]Record), sights: make(map[time.Time]Sight)}
}

func (h *memoryHome) Highest() (journal.Reader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.highest, nil
}

func (h *memoryHome) Record(name string) (Record, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec, ok := h.records[name]
	return rec, ok, nil
}

func (h *memoryHome) Records(visit func(string, Record) error) error {
	h.mu.Lock()
	records := maps.Clone(h.records)
	h.mu.Unlock()
	for name, rec := range records {
		if err := visit(name, rec); err != nil {
			return err
		}
	}
	return nil
}

func (h *memoryHome) Name(number journal.Reader) (found string, ok bool, err error) {
	err = h.Names(func(n journal.Reader, name string) error {
		if n == number {
			found, ok = name, true
		}
		return nil
	})
	return found, ok, err
}

func (h *memoryHome) Names(visit func(journal.Reader, string) error) error {
	return h.Records(func(name string, rec Record) error { return visit(rec.Number, name) })
}

func (h *memoryHome) Save(_ context.Context, c journal.Change, rec Record) (journal.Seq, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records[c.Name] = rec
	h.highest = max(h.highest, rec.Number)
	h.seq++
	return h.seq, nil
}

func (h *memoryHome) Forget(_ context.Context, c journal.Change) (journal.Seq, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.records, c.Name)
	h.seq++
	return h.seq, nil
}

func (h *memoryHome) Kept() journal.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seq
}

func (h *memoryHome) SaveSight(_ context.Context, s Sight) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sights[s.From] = s
	return nil
}

func (h *memoryHome) Sights() ([]Sight, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.sights), func(a, b Sight) int { return cmp.Compare(a.From.UnixMicro(), b.From.UnixMicro()) }), nil
}

func (h *memoryHome) DropSights(_ context.Context, gone []Sight) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range gone {
		delete(h.sights, s.From)
	}
	return nil
}
