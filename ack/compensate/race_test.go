package compensate

import (
	"fmt"
	"sync"
	"testing"

	"newswire/ack/compensate/channel"
	"newswire/fanout/journal/fault"
)

// A late acknowledgement that comes while a delivery is on its way wins up to the
// claim, and loses from there on; either way there is one outcome. It runs alone:
// the hook sees every instance of this process.
func TestACancellationRacesTheClaim(t *testing.T) {
	for _, c := range []struct {
		point, want string
		calls       int
	}{
		{"compensate.taken", "webhook cancelled acked", 0},
		{"compensate.claimed", "webhook sent", 1},
		{"compensate.answered", "webhook sent", 1},
	} {
		g := newGround(t)
		p := new(phone)
		r := record{n: 1, reader: "u1"}
		var once sync.Once
		undo := fault.Hook(func(point string) {
			if point != c.point {
				return
			}
			once.Do(func() {
				g.cancel(r.ceID(), "acked")
				if c.calls > 0 { // else that Kafka has it is enough
					g.until("the cancellation is known", func() bool { return len(g.cancelled()) == 1 })
				}
			})
		})
		s := g.run(g.config(map[string]channel.Channel{"webhook": p}))
		g.records(r)
		g.until(fmt.Sprintf("%s settles it", c.point), g.settled(1))
		if got := g.states(r.ceID()); len(got) != 1 || got[0] != c.want || len(p.calls()) != c.calls {
			t.Errorf("cancelled at %s: %v after %d calls, want %s after %d", c.point, got, len(p.calls()), c.want, c.calls)
		}
		s.stop()
		undo()
	}
}
