package compensate

import (
	"slices"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/cdc/pgtest"
)

// A reader's messages are taken together and sent one after the other: what changes
// while the first is on its way holds for the others.
func TestWhatIsTakenIsNotSentWhenItIsNotWantedAnyMore(t *testing.T) {
	first, second := record{n: 1, reader: "u1"}, record{n: 2, reader: "u1"}
	for _, test := range []struct {
		name    string
		devices bool
		change  func(g *ground, s *running)
		want    string // of the second
		calls   int
	}{
		{"the device is deleted", true, func(_ *ground, s *running) {
			s.ask(t, "DELETE", "/v1/devices?channel=push&address=u1", "u1", nil)
		}, "push gone deleted", 1},
		{"the reader is forgotten", false, func(_ *ground, s *running) {
			if err := s.store.Forget(t.Context(), "u1"); err != nil {
				t.Error(err)
			}
		}, "push cancelled forgotten", 1},
		{"a correction comes", false, func(g *ground, _ *running) {
			g.records(record{n: 3, reader: "u1", action: "correct", key: 2, title: "Corrected"})
			g.until("it is taken in", func() bool { return g.outcome(record{n: 3, reader: "u1"}.ceID()) != "" })
		}, "push collapsed", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			p := &phone{props: channel.Properties{WithDevices: test.devices}}
			calling, changed := make(chan bool, 10), make(chan bool)
			p.answer(func(channel.Device, channel.Notification) channel.Result {
				calling <- true
				<-changed
				return channel.Result{Outcome: channel.Sent}
			})
			cfg := g.config(one("push", p))
			s := g.run(cfg)
			if test.devices {
				s.ask(t, "PUT", "/v1/devices", "u1", map[string]any{"channel": "push", "address": "u1"})
			}
			g.records(first, second)
			<-calling
			g.until("the second is taken in", func() bool { return g.outcome(second.ceID()) != "" })
			test.change(g, s)
			close(changed)
			records := pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.records`)
			g.until("all settled", g.settled(records))
			if got := g.states(second.ceID()); !slices.Equal(got, []string{test.want}) {
				t.Errorf("the second ended as %v, want %s", got, test.want)
			}
			if n := len(p.calls()); n != test.calls {
				t.Errorf("%d calls were made, want %d", n, test.calls)
			}
		})
	}
}

// Where a channel's rate makes messages queue, each is as fresh when its turn comes as
// its route wants it.
func TestWhatGrowsStaleInTheQueueOfASlowChannelIsNotSent(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := new(phone)
	cfg := g.config(one("webhook", p))
	cfg.Policy = rules("webhook", policy.Channel{PerSecond: 0.2})
	cfg.Policy.Expiry = 4 * time.Second
	s := g.run(cfg)
	g.until("it is ready", s.Ready)
	g.records(record{n: 1, reader: "u1"}, record{n: 2, reader: "u1"})
	g.until("all settled", g.settled(2))
	for _, c := range p.calls() {
		if c.at.After(c.n.Expires) {
			t.Errorf("%s was sent %s after it was stale", c.n.CeID, c.at.Sub(c.n.Expires))
		}
	}
}

func TestReceiptsAreRemovedAsFastAsTheyGrowOld(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.db.Exec(`INSERT INTO newswire_compensate.records (ce_id, reader, article, action, expires_at, outcome, settled_at)
		SELECT i, 'u', i, 'publish', now(), 'sent', now() - interval '8 days' FROM generate_series(1, 5000) i`)
	g.run(g.config(one("webhook", new(phone))))
	g.until("all are removed", func() bool {
		return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.records`) == 0
	})
}

// The cap is on what a reader hears of: a second device hears of the same.
func TestEachDeviceOfAReaderGetsAsManyAsTheCapAllows(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := &phone{props: channel.Properties{WithDevices: true}}
	cfg := g.config(one("push", p))
	cfg.Policy = rules("push", policy.Channel{PerHour: 2})
	s := g.run(cfg)
	for _, address := range []string{"phone", "tablet"} {
		s.ask(t, "PUT", "/v1/devices", "u1", map[string]any{"channel": "push", "address": address})
	}
	g.records(record{n: 1, reader: "u1"}, record{n: 2, reader: "u1"}, record{n: 3, reader: "u1"})
	g.until("each device has two, and one waits", func() bool {
		return len(p.calls()) == 4 && pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.deliveries WHERE state = 'waiting' AND due > now() + interval '50 minutes'`) == 2
	})
	got := make(map[string]int)
	for _, c := range p.calls() {
		got[c.device.Address]++
	}
	if got["phone"] != 2 || got["tablet"] != 2 {
		t.Errorf("the devices got %v, want two each", got)
	}
}
