package fanout

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// crowd is who is here, and to whom something is owed.
type crowd struct {
	mu         sync.Mutex // guards the rest
	here, owed *roaring.Bitmap
}

func (c *crowd) Connected() *roaring.Bitmap {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.here.Clone()
}

func (c *crowd) Pending(of *roaring.Bitmap) *roaring.Bitmap {
	c.mu.Lock()
	defer c.mu.Unlock()
	return roaring.And(c.owed, of)
}

func (c *crowd) change(act func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	act()
}

// Who has not come for the TTL loses its tags, then is forgotten; who comes, or
// stays connected, or is still owed something is not. A long stop of the engine
// is nobody's absence. Its number is nobody's any more.
func TestReadersWhoStayAwayAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 64 * time.Second
		dir := t.TempDir()
		who := &crowd{here: roaring.New(), owed: roaring.New()}
		numbers := make(map[string]journal.Reader)
		var e *engine
		var stop func()
		begin := func() {
			e = newEngine(t, dir)
			stop = background(t, "readers", func(ctx context.Context) error { return e.readers.KeepTTL(ctx, ttl, who) })
		}
		end := func() {
			stop()
			e.end()
		}
		known := func(name string, want bool) {
			t.Helper()
			synctest.Wait()
			rec, ok, err := InJournal(e.j).Record(name)
			if err != nil || ok != want {
				t.Errorf("%s: %+v, %t, %v, want known %t", name, rec, ok, err, want)
			}
		}
		begin()
		for _, name := range []string{"away", "visitor", "connected", "owed"} {
			edited, err := e.readers.Edit(t.Context(), name, Edit{Follow: []string{"tech"}, Mute: []string{"art"}}, 0)
			if err != nil {
				t.Fatal(err)
			}
			numbers[name] = edited.Reader
		}
		who.change(func() {
			who.here.Add(uint32(numbers["connected"]))
			who.owed.Add(uint32(numbers["owed"]))
		})
		time.Sleep(ttl / 2)
		end()
		time.Sleep(10 * ttl) // the engine does not run
		begin()
		time.Sleep(ttl / 4)
		for name := range numbers {
			known(name, true)
		}
		if _, _, err := e.readers.Get("visitor"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(ttl/4 + 4*ttl/seenParts)
		known("away", false)
		known("visitor", true)
		known("connected", true)
		known("owed", true)
		if _, sets, err := e.readers.Get("owed"); err != nil || len(sets.Follow)+len(sets.Mute) > 0 {
			t.Errorf("who is owed something keeps %v, %v", sets, err)
		}
		who.change(who.owed.Clear)
		time.Sleep(ttl + 4*ttl/seenParts) // Get was a visit
		known("owed", false)
		known("visitor", false)
		known("connected", true)
		again, err := e.readers.Edit(t.Context(), "away", Edit{}, 0)
		if err != nil || again.Reader <= numbers["owed"] || len(again.Sets.Follow) > 0 {
			t.Errorf("who comes again is %+v, %v", again, err)
		}
		if name, ok, err := e.readers.Name(numbers["away"]); ok || err != nil {
			t.Errorf("number %d is %q's, %v", numbers["away"], name, err)
		}
		parts, err := InJournal(e.j).Sights()
		if err != nil || len(parts) > seenParts+4 {
			t.Errorf("%d records of who was seen, %v", len(parts), err)
		}
		end()
	})
}
