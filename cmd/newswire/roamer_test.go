package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// roamer is a reader who acknowledges everything, and comes back at once, without
// any jitter, whenever its connection has ended.
type roamer struct {
	name   string
	cursor bool          // it says which message it had last
	stop   chan struct{} // closed by end
	done   chan struct{} // closed when it has stopped
	once   sync.Once     // closes stop

	mu          sync.Mutex // guards the rest
	connections []*gatewaytest.Reader
	refused     map[int]int // upgrades by HTTP status; 0 where nobody listened
}

// between is how long a roamer waits that was refused.
const between = 20 * time.Millisecond

// roam lets a reader who follows a tag come and go until the test, or end, ends it.
func roam(t *testing.T, e *harness.Engine, name, tag string, cursor bool) *roamer {
	t.Helper()
	r := &roamer{name: name, cursor: cursor, stop: make(chan struct{}), done: make(chan struct{}), refused: make(map[int]int)}
	o := gatewaytest.Options{URL: e.WSURL(), Token: e.Token(name, nil), Follow: []string{tag}}
	go func() {
		defer close(r.done)
		r.run(t, o)
	}()
	t.Cleanup(r.end)
	return r
}

func (r *roamer) run(t *testing.T, o gatewaytest.Options) {
	for {
		c, status, err := gatewaytest.TryDial(t, o)
		r.mu.Lock()
		if err == nil {
			r.connections = append(r.connections, c)
		} else {
			r.refused[status]++
		}
		r.mu.Unlock()
		if err == nil {
			if !c.Gone(r.stop) {
				return
			}
			if ids := c.IDs(); r.cursor && len(ids) > 0 {
				o.After = ids[len(ids)-1]
			}
			continue
		}
		select {
		case <-time.After(between):
		case <-r.stop:
			return
		}
	}
}

func (r *roamer) end() {
	r.once.Do(func() { close(r.stop) })
	<-r.done
}

func (r *roamer) all() []*gatewaytest.Reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connections[:len(r.connections):len(r.connections)]
}

// told is a state that is put into words only when it is printed.
type told func() string

func (t told) String() string { return t() }

// history tells how each of its connections went.
func (r *roamer) history() string {
	var text []string
	for _, c := range r.all() {
		frames := c.Frames()
		last := "nothing"
		if len(frames) > 0 {
			f := frames[len(frames)-1]
			last = fmt.Sprintf("last %s %s at %s", f.Type, f.ID, f.At.Format(time.TimeOnly))
		}
		text = append(text, fmt.Sprintf("%d frames, %s, open %t", len(frames), last, !c.Gone(closed)))
	}
	return strings.Join(text, "; ")
}

// closed lets who waits for it go on at once.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// cut breaks the connection that the roamer has.
func (r *roamer) cut() {
	if all := r.all(); len(all) > 0 {
		all[len(all)-1].Close()
	}
}

// welcomed tells whether its latest connection, not one of the first past ones,
// was welcomed.
func (r *roamer) welcomed(past int) bool {
	all := r.all()
	if len(all) <= past {
		return false
	}
	for _, f := range all[len(all)-1].Frames() {
		if f.Type == "welcome" {
			return true
		}
	}
	return false
}

// refusals are the upgrades that were refused with a status.
func (r *roamer) refusals(status int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused[status]
}

// crowd is many roamers, of whom every other one says what it had last.
func crowd(t *testing.T, e *harness.Engine, n int, tag string) (all []*roamer) {
	t.Helper()
	for i := range n {
		all = append(all, roam(t, e, "u"+string(rune('A'+i/26))+string(rune('a'+i%26)), tag, i%2 == 1))
	}
	awaitWelcomes(t, all, make([]int, n))
	return all
}

// passed is how many connections each of a crowd has had.
func passed(all []*roamer) (counts []int) {
	for _, r := range all {
		counts = append(counts, len(r.all()))
	}
	return counts
}

// awaitWelcomes waits until all are welcome again, behind so many connections.
func awaitWelcomes(t *testing.T, all []*roamer, past []int) {
	t.Helper()
	harness.Eventually(t, "everybody to be welcome", func() (bool, any) {
		here := 0
		for i, r := range all {
			if r.welcomed(past[i]) {
				here++
			}
		}
		return here == len(all), here
	})
}

// verifyCrowd waits until everything is with everybody and settled, and judges.
func verifyCrowd(t *testing.T, e *harness.Engine, w *harness.Witness, all []*roamer, tag string) {
	t.Helper()
	h := harness.History{Articles: w.Articles(t)}
	for _, r := range all {
		harness.Eventually(t, "all messages of "+r.name, func() (bool, any) {
			ids := make(map[string]bool)
			for _, c := range r.all() {
				for _, id := range c.IDs() {
					ids[id] = true
				}
			}
			return len(ids) >= len(h.Articles), told(func() string {
				return fmt.Sprintf("%d of %d, %s; the engine at %+v", len(ids), len(h.Articles), r.history(), e.Status())
			})
		})
	}
	e.AwaitSettled()
	h.Offline = harness.Records(t, e.Brokers, harness.OfflineTopic)
	for _, r := range all {
		r.end()
		h.Readers = append(h.Readers, harness.Reader{
			Name: r.name, Wants: harness.Follows(tag), Connections: harness.Connections(r.all()...), Acked: harness.Acked(r.all()...),
		})
	}
	verify(t, h)
}
