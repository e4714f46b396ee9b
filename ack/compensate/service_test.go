package compensate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
)

func TestEachRecordIsSentOnceInOrder(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := new(phone)
	g.run(g.config(one("webhook", p)))
	var records []record
	for n := range 200 {
		records = append(records, record{n: n + 1, reader: fmt.Sprintf("u%d", n%7)})
	}
	g.records(records...)
	g.records(records[:50]...) // as after a fault of the engine
	g.until("all settled", g.settled(200))
	last := make(map[string]string)
	for _, c := range p.calls() {
		if c.n.CeID <= last[c.n.Reader] {
			t.Errorf("reader %s was sent %s behind %s", c.n.Reader, c.n.CeID, last[c.n.Reader])
		}
		last[c.n.Reader] = c.n.CeID
	}
	if n := len(p.calls()); n != 200 {
		t.Errorf("%d calls, want 200", n)
	}
	first := p.calls()[0].n
	if first.Title == "" || first.Body != "Summary" || !strings.HasPrefix(first.URL, "https://news.example.com/") || len(first.Collapse) != 32 {
		t.Errorf("the notification is worded %+v", first)
	}
	if n := pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.records WHERE value IS NOT NULL`); n != 0 {
		t.Errorf("%d settled records keep their text", n)
	}
}

func TestWhatIsCancelledIsNotSent(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	before, waits := record{n: 1, reader: "u1"}, record{n: 2, reader: "u2"}
	g.cancel(before.ceID(), "acked")
	p := new(phone)
	p.answer(func(channel.Device, channel.Notification) channel.Result {
		return channel.Result{Outcome: channel.Temporary, Reason: "busy", RetryAfter: time.Second}
	})
	s := g.run(g.config(one("webhook", p)))
	g.records(before, waits)
	g.until("the second waits", func() bool { return slices.Equal(g.states(waits.ceID()), []string{"webhook waiting busy"}) })
	g.cancel(waits.ceID(), "retracted")
	g.until("both settled", g.settled(2))
	if got := g.states(waits.ceID()); !slices.Equal(got, []string{"webhook cancelled retracted"}) {
		t.Errorf("the second ended as %v", got)
	}
	s.tells(g, `newswire_compensate_outcomes_total{channel="webhook",outcome="cancelled",reason="retracted"} 1`)
	s.tells(g, `newswire_compensate_outcomes_total{channel="webhook",outcome="cancelled",reason="acked"} 1`)
	for _, c := range p.calls() {
		if c.n.CeID == before.ceID() {
			t.Error("what was cancelled before it came was sent")
		}
	}
}

func TestOutcomesOfAProvider(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := &phone{props: channel.Properties{WithDevices: true}}
	p.answer(func(d channel.Device, n channel.Notification) channel.Result {
		attempt := 0
		for _, c := range p.calls() {
			if c.n.CeID == n.CeID {
				attempt++
			}
		}
		switch {
		case d.Address == "gone":
			return channel.Result{Outcome: channel.Gone, Reason: "unregistered"}
		case d.Address == "refused":
			return channel.Result{Outcome: channel.Permanent, Reason: "too_big", Detail: "413"}
		case d.Address == "lost":
			return channel.Result{Outcome: channel.Doubtful, Reason: "timeout"}
		case d.Address == "throttled" && attempt == 1:
			return channel.Result{Outcome: channel.Throttled, RetryAfter: 1500 * time.Millisecond, Reason: "http_429"}
		case d.Address == "down" && attempt < 3:
			return channel.Result{Outcome: channel.Temporary, Reason: "http_503"}
		}
		return channel.Result{Outcome: channel.Sent}
	})
	s := g.run(g.config(one("push", p)))
	want := map[string]string{
		"gone": "push gone unregistered", "refused": "push permanent too_big", "lost": "push doubtful timeout",
		"throttled": "push sent", "down": "push sent", "fine": "push sent",
	}
	var records []record
	for address := range want {
		if code, body := s.ask(t, "PUT", "/v1/devices", address, map[string]any{"channel": "push", "address": address}); code != 200 {
			t.Fatalf("register: %d %v", code, body)
		}
		records = append(records, record{n: len(records) + 1, reader: address})
	}
	g.records(append(records, record{n: 100, reader: "nobody"})...)
	g.until("all settled", g.settled(len(want)+1))
	for _, r := range records {
		if got := g.states(r.ceID()); !slices.Equal(got, []string{want[r.reader]}) {
			t.Errorf("%s ended as %v, want %s", r.reader, got, want[r.reader])
		}
	}
	var throttled []time.Time
	for _, c := range p.calls() {
		if c.device.Address == "throttled" {
			throttled = append(throttled, c.at)
		}
	}
	if len(throttled) != 2 || throttled[1].Sub(throttled[0]) < 1500*time.Millisecond {
		t.Errorf("the throttled device was called at %v, want twice, no earlier than told", throttled)
	}
	if n := pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.devices WHERE address = 'gone'`); n != 0 {
		t.Error("the device that is gone is still there")
	}
	dead := kafkatest.Collect(t, g.brokers, testTopic+".dlq", kafkatest.Count(1))
	if len(dead) != 1 || dead[0].Key != "refused" || dead[0].Headers[headerCause] != "too_big" || dead[0].Headers[headerChannel] != "push" || len(dead[0].Value) == 0 {
		t.Errorf("dead letters: %+v", dead)
	}
	s.tells(g, `newswire_compensate_outcomes_total{channel="push",outcome="doubtful",reason="timeout"} 1`)
	s.tells(g, `newswire_compensate_outcomes_total{channel="push",outcome="sent",reason=""} 3`)
	s.tells(g, `newswire_compensate_outcomes_total{channel="none",outcome="no_device",reason=""} 1`)
	s.tells(g, `newswire_compensate_doubtful 1`)
	s.tells(g, `newswire_compensate_lag 0`)
	if got := g.outcome(record{n: 100, reader: "nobody"}.ceID()); got != "no_device" {
		t.Errorf("a reader without devices ended as %q", got)
	}
}

func TestSMSOnlyWhereARouteSaysSoAndPushReachedNobody(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	push := &phone{props: channel.Properties{WithDevices: true, Dedupes: true}}
	push.answer(func(d channel.Device, _ channel.Notification) channel.Result {
		if d.Address == "push-dead" {
			return channel.Result{Outcome: channel.Gone, Reason: "unregistered"}
		}
		return channel.Result{Outcome: channel.Sent}
	})
	sms := &phone{props: channel.Properties{WithDevices: true}}
	cfg := g.config(map[string]channel.Channel{"webpush": push, "sms": sms})
	cfg.Policy.Routes = []policy.Route{
		{Tags: []string{"breaking"}, Steps: [][]string{{"webpush"}, {"sms"}}},
		{Tags: []string{"*"}, Steps: [][]string{{"webpush"}}},
	}
	s := g.run(cfg)
	register := func(reader, name, address string) {
		t.Helper()
		if code, body := s.ask(t, "PUT", "/v1/devices", reader, map[string]any{"channel": name, "address": address}); code != 200 {
			t.Fatalf("register: %d %v", code, body)
		}
	}
	register("both", "webpush", "push-fine")
	register("both", "sms", "+431")
	register("fallback", "webpush", "push-dead")
	register("fallback", "sms", "+432")
	register("only", "sms", "+433")
	breaking := []string{"breaking"}
	records := []record{
		{n: 1, reader: "both", tags: breaking}, {n: 2, reader: "only", tags: breaking}, {n: 3, reader: "only"},
		{n: 4, reader: "fallback", tags: breaking}, {n: 5, reader: "fallback"},
	}
	g.records(records...)
	g.until("all settled", g.settled(len(records)))
	want := [][]string{
		{"webpush sent"}, {"sms sent"}, nil, {"sms sent", "webpush gone unregistered"}, nil,
	}
	for i, r := range records {
		if i == 4 {
			continue // its push device is gone by then, or not: either way no SMS
		}
		if got := g.states(r.ceID()); !slices.Equal(got, want[i]) {
			t.Errorf("record %d of %s ended as %v, want %v", r.n, r.reader, got, want[i])
		}
	}
	if n := len(sms.calls()); n != 2 {
		t.Errorf("%d SMS, want 2", n)
	}
}

func TestADeadProviderStopsOnlyItsOwnChannel(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	dead, fine := new(phone), new(phone)
	dead.answer(func(channel.Device, channel.Notification) channel.Result {
		return channel.Result{Outcome: channel.Temporary, Reason: "refused", Everybody: true}
	})
	cfg := g.config(map[string]channel.Channel{"dead": dead, "fine": fine})
	cfg.Lanes = map[string]Lane{"dead": {Trip: 3, Rest: time.Second, Concurrency: 4}}
	s := g.run(cfg)
	var records []record
	for n := range 300 {
		records = append(records, record{n: n + 1, reader: fmt.Sprintf("u%d", n)})
	}
	g.records(records...)
	g.until("the other has them all", func() bool { return len(fine.calls()) == 300 })
	g.until("the status tells", func() bool {
		st := s.status()
		return st.Ready && st.Channels[0].Name == "dead" && st.Channels[0].Waiting == 300 && !st.Channels[1].Stopped
	})
	if n := len(dead.calls()); n > 20 {
		t.Errorf("the dead provider was called %d times", n)
	}
	dead.answer(nil)
	g.until("all settled", g.settled(300))
}

func TestQuietHoursCapsAndStaleness(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := &phone{props: channel.Properties{WithDevices: true}}
	cfg := g.config(one("push", p))
	cfg.Policy = rules("push", policy.Channel{PerHour: 3})
	cfg.Policy.Routes = []policy.Route{
		{Tags: []string{"breaking"}, Steps: [][]string{{"push"}}, Urgent: true},
		{Tags: []string{"*"}, Steps: [][]string{{"push"}}},
	}
	s := g.run(cfg)
	now := time.Now().UTC()
	night := map[string]string{"from": now.Add(-2 * time.Hour).Format("15:04"), "to": now.Add(2 * time.Hour).Format("15:04")}
	for reader, quiet := range map[string]any{"asleep": night, "awake": nil} {
		if code, body := s.ask(t, "PUT", "/v1/devices", reader, map[string]any{"channel": "push", "address": reader, "quiet_hours": quiet}); code != 200 {
			t.Fatalf("register: %d %v", code, body)
		}
	}
	stale := record{n: 1, reader: "awake", age: 48 * time.Hour}
	asleep, urgent := record{n: 2, reader: "asleep"}, record{n: 3, reader: "asleep", tags: []string{"breaking"}}
	g.records(stale, asleep, urgent)
	for n := range 5 {
		g.records(record{n: 10 + n, reader: "awake"})
	}
	g.until("the urgent one and three of five are sent", func() bool { return len(p.calls()) == 4 })
	g.until("the rest waits", func() bool {
		// What arrives while another waits stands behind it, with no reason of its own.
		return slices.Equal(g.states(asleep.ceID()), []string{"push waiting quiet_hours"}) &&
			pgtest.Value[bool](g.db, `SELECT count(*) = 2 AND bool_or(reason = 'reader_cap') FROM newswire_compensate.deliveries
				WHERE reader = 'awake' AND state = 'waiting' AND due > now() + interval '50 minutes'`)
	})
	if due := pgtest.Value[time.Time](g.db, `SELECT due FROM newswire_compensate.deliveries WHERE ce_id = $1`, asleep.ceID()); due.Before(now.Add(119*time.Minute-time.Minute)) || due.After(now.Add(2*time.Hour)) {
		t.Errorf("the sleeper's is due at %s, want the end of the quiet hours, %s", due, night["to"])
	}
	if got := g.outcome(stale.ceID()); got != "expired" {
		t.Errorf("the stale one ended as %q", got)
	}
}

func TestWaitingMessagesBecomeADigestAndCorrectionsReplace(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := &phone{props: channel.Properties{WithDevices: true}}
	cfg := g.config(one("push", p))
	cfg.Policy = rules("push", policy.Channel{DigestAbove: 3})
	s := g.run(cfg)
	p.answer(func(channel.Device, channel.Notification) channel.Result {
		return channel.Result{Outcome: channel.Throttled, Reason: "wait", RetryAfter: 6 * time.Second}
	})
	for _, reader := range []string{"many", "few"} {
		if code, body := s.ask(t, "PUT", "/v1/devices", reader, map[string]any{"channel": "push", "address": reader, "language": "de-AT"}); code != 200 {
			t.Fatalf("register: %d %v", code, body)
		}
	}
	g.records(record{n: 1, reader: "many"}, record{n: 2, reader: "few"})
	g.until("both wait", func() bool { return len(p.calls()) == 2 })
	for n := range 5 {
		g.records(record{n: 10 + n, reader: "many"})
	}
	// The article of n 2 is corrected, and another retracted, while they wait.
	g.records(record{n: 20, reader: "few", action: "correct", key: 2, title: "Corrected"},
		record{n: 21, reader: "few", key: 99}, record{n: 22, reader: "few", action: "retract", key: 99})
	g.until("all are there", func() bool {
		return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.records`) == 10
	})
	before := len(p.calls())
	p.answer(nil)
	g.until("all settled", g.settled(10))
	var told []string
	for _, c := range p.calls()[before:] {
		told = append(told, fmt.Sprintf("%s %d %s", c.n.Reader, c.n.Count, c.n.Title))
	}
	slices.Sort(told)
	if want := []string{"few 1 Corrected", "many 6 6 new articles"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	g.records(record{n: 30, reader: "few", action: "correct", key: 2, title: "Again"})
	g.until("the late correction is settled", g.settled(11))
	if got := g.states(record{n: 30, reader: "few"}.ceID()); !slices.Equal(got, []string{"push skipped correction"}) {
		t.Errorf("a correction of what the phone shows already ended as %v", got)
	}
}

// However many instances there are, a gateway is called no more often than its
// channel's rate says. The last call's claim proves it, whatever was slow.
func TestTheRateOfAChannelHoldsOverInstances(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	const n, rate = 60, 20
	var phones []*phone
	begin := pgtest.Value[time.Time](g.db, `SELECT now()`)
	for range 2 {
		p := new(phone)
		cfg := g.config(one("webhook", p))
		cfg.Policy = rules("webhook", policy.Channel{PerSecond: rate})
		cfg.Lanes = map[string]Lane{"webhook": {Concurrency: 4}} // so that each has a part
		phones = append(phones, p)
		g.run(cfg)
	}
	g.load(1, n, n)
	g.until("all settled", g.settled(n))
	if first, second := len(phones[0].calls()), len(phones[1].calls()); first+second != n || first == 0 || second == 0 {
		t.Errorf("the instances made %d and %d calls, want some each and %d in all", first, second, n)
	}
	last := pgtest.Value[time.Time](g.db, `SELECT max(claimed_at) FROM newswire_compensate.deliveries`)
	if least := time.Duration(n-1) * time.Second / rate; last.Sub(begin) < least {
		t.Errorf("%d calls were made within %s, want at least %s for %d a second", n, last.Sub(begin), least, rate)
	}
}
