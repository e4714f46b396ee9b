package compensate

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"newswire/ack/compensate/channel"
	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
)

// A dead letter is the record itself, with what became of it; and so is that of a
// dead letter that was taken in again, in vain.
func TestADeadLetterIsItsRecord(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := new(phone)
	p.answer(func(channel.Device, channel.Notification) channel.Result {
		return channel.Result{Outcome: channel.Permanent, Reason: "too_big", Detail: "413"}
	})
	s := g.run(g.config(one("webhook", p)))
	g.load(1, 3, 1) // so that its place is not the first
	g.until("the first settled", g.settled(3))
	r := record{n: 7, reader: "u1"}
	g.records(r)
	g.until("it is refused", g.settled(4))
	of := func(topic string, n int) (found []kafkatest.Record) {
		for _, one := range kafkatest.Collect(t, g.brokers, topic, kafkatest.Count(n)) {
			if one.Headers["ce_id"] == r.ceID() {
				found = append(found, one)
			}
		}
		return found
	}
	original := of(testTopic, 4)[0]
	check := func(letter kafkatest.Record) {
		t.Helper()
		want := maps.Clone(original.Headers)
		maps.Copy(want, map[string]string{
			headerCause: "too_big", headerDetail: "413", headerChannel: "webhook", headerDevice: "0", headerAttempts: "1",
			headerTime: letter.Headers[headerTime], headerTopic: testTopic,
			headerPartition: fmt.Sprint(original.Partition), headerOffset: fmt.Sprint(original.Offset),
		})
		if letter.Key != original.Key || string(letter.Value) != string(original.Value) || !maps.Equal(letter.Headers, want) || letter.Headers[headerTime] == "" {
			t.Errorf("the dead letter is %q %s %v,\nwant %q %s %v", letter.Key, letter.Value, letter.Headers, original.Key, original.Value, want)
		}
		if !strings.HasPrefix(letter.Headers["ce_source"], "newswire/") {
			t.Errorf("the test's records have no header worth keeping: %v", letter.Headers)
		}
	}
	check(of(testTopic+".dlq", 4)[0])
	if _, err := s.ReplayDeadLetters(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(of(testTopic+".dlq", 8)[1])
	g.until("nothing is kept that nobody needs", func() bool {
		return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.records WHERE value IS NOT NULL OR headers IS NOT NULL`) == 0
	})
}
