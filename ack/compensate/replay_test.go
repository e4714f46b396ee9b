package compensate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack/compensate/channel"
	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
)

func TestAReplaySendsOnlyWhatWasCertainlyNotSent(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := new(phone)
	fate := map[string]channel.Result{
		"sent": {Outcome: channel.Sent}, "refused": {Outcome: channel.Permanent, Reason: "too_big"}, "lost": {Outcome: channel.Doubtful, Reason: "timeout"},
	}
	p.answer(func(_ channel.Device, n channel.Notification) channel.Result { return fate[n.Reader] })
	s := g.run(g.config(one("webhook", p)))
	records := []record{{n: 1, reader: "sent"}, {n: 2, reader: "refused"}, {n: 3, reader: "lost"}, {n: 4, reader: "sent", age: 48 * time.Hour}}
	g.records(records...)
	g.until("all settled", g.settled(len(records)))
	kafkatest.Collect(t, g.brokers, testTopic+".dlq", kafkatest.Count(1))
	g.until("the dead letter is told of", func() bool {
		return pgtest.Value[int](g.db, `SELECT count(told_at)::int FROM newswire_compensate.deliveries`) == 1
	})
	p.answer(nil)
	before := len(p.calls())
	done, err := s.ReplayDeadLetters(t.Context())
	if err != nil || done != (Replayed{Read: 1, Opened: 1}) {
		t.Fatalf("ReplayDeadLetters = %+v, %v", done, err)
	}
	g.until("it is sent now", func() bool { return g.outcome(records[1].ceID()) == "sent" })
	done, err = s.Replay(t.Context(), Range{From: time.Now().Add(-time.Hour)})
	if err != nil || done != (Replayed{Read: 4, Opened: 0}) {
		t.Errorf("Replay = %+v, %v; want all read, and nothing opened: it was sent, is in doubt or is stale", done, err)
	}
	if done, err = s.Replay(t.Context(), Range{From: time.Now().Add(time.Hour)}); err != nil || done.Read != 0 {
		t.Errorf("Replay of what is to come = %+v, %v", done, err)
	}
	if got := p.calls()[before:]; len(got) != 1 || got[0].n.Reader != "refused" {
		t.Errorf("the replays sent %d", len(got))
	}
	var doubtful []string
	if err := s.EachDoubtful(t.Context(), func(d Doubtful) error { doubtful = append(doubtful, d.CeID+" "+d.Reason); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{records[2].ceID() + " timeout"}; !slices.Equal(doubtful, want) {
		t.Errorf("in doubt: %v, want %v", doubtful, want)
	}
}

// What a correction has taken the place of would bring the old words back.
func TestAReplayBringsNoOldWordsBack(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := new(phone)
	p.answer(func(_ channel.Device, n channel.Notification) channel.Result {
		if n.Action == "publish" {
			return channel.Result{Outcome: channel.Permanent, Reason: "too_big"}
		}
		return channel.Result{Outcome: channel.Sent}
	})
	s := g.run(g.config(one("webhook", p)))
	g.records(record{n: 1, reader: "u1", key: 7})
	g.until("the article is refused", g.settled(1))
	g.records(record{n: 2, reader: "u1", key: 7, action: "correct"}, record{n: 3, reader: "u1"})
	g.until("its correction is sent", g.settled(3))
	p.answer(nil)
	before := len(p.calls())
	done, err := s.Replay(t.Context(), Range{From: time.Now().Add(-time.Hour)})
	if err != nil || done != (Replayed{Read: 3, Opened: 1}) {
		t.Errorf("Replay = %+v, %v; want the third alone opened", done, err)
	}
	g.until("all settled", g.settled(3))
	if got := p.calls()[before:]; len(got) != 1 || got[0].n.CeID != (record{n: 3, reader: "u1"}).ceID() {
		t.Errorf("the replay sent %d, want the third alone", len(got))
	}
}

func TestADryRunTellsAndChangesNothing(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := &phone{props: channel.Properties{WithDevices: true, Title: 7}}
	cfg := g.config(one("push", p))
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g.db.Exec(`INSERT INTO newswire_compensate.devices (reader, channel, address) VALUES ('u1', 'push', 'a')`)
	g.db.Exec(`INSERT INTO newswire_compensate.cancelled (ce_id, cause) VALUES ($1, 'acked')`, record{n: 3, reader: "u1"}.ceID())
	g.db.Exec(`INSERT INTO newswire_compensate.forgotten (reader) VALUES ('u5')`)
	g.records(record{n: 1, reader: "u1"}, record{n: 2, reader: "u2"}, record{n: 3, reader: "u1"}, record{n: 4, reader: "u1", action: "retract"},
		record{n: 5, reader: "u5", age: time.Hour})
	for range 2 { // it leaves everything as it was, so it can be run again
		got := make(map[string]string)
		err := s.DryRun(t.Context(), nil, func(f Foreseen) error { got[f.CeID] = f.Outcome + " " + f.Channel + f.Title; return nil })
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			record{n: 1, reader: "u1"}.ceID(): "send pushTitle 1", record{n: 2, reader: "u2"}.ceID(): "no_device ",
			record{n: 3, reader: "u1"}.ceID(): "cancelled ", record{n: 4, reader: "u1"}.ceID(): "retract ",
			record{n: 5, reader: "u5"}.ceID(): "forgotten ",
		}
		for id, outcome := range want {
			if got[id] != outcome {
				t.Errorf("%s: foreseen %q, want %q", id, got[id], outcome)
			}
		}
	}
	if n := len(p.calls()); n != 0 {
		t.Errorf("a dry run made %d calls", n)
	}
	if n := pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.records`); n != 0 {
		t.Errorf("a dry run wrote %d records", n)
	}
}

func TestUnreadableRecordsAreDeadLetters(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.run(g.config(one("webhook", new(phone))))
	g.produce(kafka.Message{Topic: testTopic, Key: []byte("u1"), Value: []byte("{")}, kafka.Message{Topic: testTopic, Key: []byte("u1"), Value: []byte(`{"id":"x"}`)},
		kafka.Message{Topic: testTopic + "-cancelled", Key: []byte("x"), Value: []byte(`{"ce_id":"x"}`)},
		record{n: 2, reader: "zero\x00"}.message(t), record{n: 3, reader: strings.Repeat("x", 300)}.message(t))
	g.records(record{n: 1, reader: "u1"})
	for _, r := range kafkatest.Collect(t, g.brokers, testTopic+".dlq", kafkatest.Count(5)) {
		if r.Headers[headerCause] != "malformed" || r.Headers[headerDetail] == "" || r.Headers[headerTopic] == "" || r.Headers[headerOffset] == "" {
			t.Errorf("dead letter %q has headers %v", r.Value, r.Headers)
		}
	}
	g.until("the good one is sent", g.settled(1))
}

func TestADeadLetterIsOpenedThoughAnotherChannelHasSent(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	hook, text := new(phone), new(phone)
	hook.answer(func(channel.Device, channel.Notification) channel.Result {
		return channel.Result{Outcome: channel.Permanent, Reason: "http_400"}
	})
	s := g.run(g.config(map[string]channel.Channel{"webhook": hook, "other": text}))
	r := record{n: 1, reader: "u1"}
	g.records(r, record{n: 2, reader: "u1", action: "retract"}, record{n: 1, reader: "u1"})
	g.until("all settled", g.settled(2))
	s.tells(g, `newswire_compensate_outcomes_total{channel="none",outcome="retract",reason=""} 1`) // though the batch repeats a record
	kafkatest.Collect(t, g.brokers, testTopic+".dlq", kafkatest.Count(1))
	hook.answer(nil)
	for _, want := range []int{1, 0} { // the second time it was sent
		done, err := s.ReplayDeadLetters(t.Context())
		if err != nil || done != (Replayed{Read: 1, Opened: want}) {
			t.Errorf("ReplayDeadLetters = %+v, %v; want %d opened", done, err, want)
		}
		g.until("all settled again", g.settled(2))
	}
	if got := g.states(r.ceID()); !slices.Equal(got, []string{"other sent", "webhook sent"}) || len(hook.calls()) != 2 || len(text.calls()) != 1 {
		t.Errorf("it ended as %v, by %d and %d calls", got, len(hook.calls()), len(text.calls()))
	}
}
