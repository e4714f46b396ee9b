package compensate

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/cdc/pgtest"
)

const cancelTopic = testTopic + "-cancelled"

// A cancellation that Kafka has counts, however late this instance reads it:
// until then nothing is sent, neither what it takes back nor anything else.
func TestNothingIsSentBeforeWhatKafkaTakesBackIsKnown(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	back, wanted := record{n: 1, reader: "u1"}, record{n: 2, reader: "u2"}
	lag := g.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: cancelTopic, Err: kerr.NotLeaderForPartition, Count: -1})
	p := new(phone)
	s := g.run(g.config(one("webhook", p)))
	g.cancel(back.ceID(), "retracted")
	g.records(back, wanted)
	g.until("both are taken and put back", func() bool {
		return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.deliveries WHERE reason = 'cancellations'`) == 2
	})
	g.until("readiness tells", func() bool { return strings.Contains(strings.Join(s.reasons(), "\n"), cancelTopic) })
	if n := len(p.calls()); n != 0 {
		t.Errorf("%d calls before the cancellations were read", n)
	}
	lag.Remove()
	g.until("both settled", g.settled(2))
	g.onlySent(p, wanted)
	g.until("ready again", s.Ready)
}

// onlySent wants one call in all, for r.
func (g *ground) onlySent(p *phone, r record) {
	g.t.Helper()
	var sent []string
	for _, c := range p.calls() {
		sent = append(sent, c.n.CeID)
	}
	if len(sent) != 1 || sent[0] != r.ceID() {
		g.t.Errorf("sent: %v, want only %s", sent, r.ceID())
	}
}

// What the topic does not have any more holds nothing up, and a topic that was
// made anew is read from its start.
func TestCancellationsAreReadFromWhereTheTopicHasThem(t *testing.T) {
	t.Parallel()
	back, wanted := record{n: 1, reader: "u1"}, record{n: 2, reader: "u2"}
	t.Run("it begins behind what was read", func(t *testing.T) {
		t.Parallel()
		g := newGround(t)
		g.cancel(back.ceID(), "acked")
		g.cancel("00010000000000000001:x", "acked")
		g.clearTopic(cancelTopic)
		p := new(phone)
		g.run(g.config(one("webhook", p)))
		g.records(wanted)
		g.until("settled", g.settled(1))
		g.onlySent(p, wanted)
	})
	t.Run("it ends before what was read", func(t *testing.T) {
		t.Parallel()
		g := newGround(t)
		g.db.Exec(`INSERT INTO newswire_compensate.positions SELECT $1, p, 1000 FROM generate_series(0, $2 - 1) p`, cancelTopic, partitions)
		g.cancel(back.ceID(), "acked")
		p := new(phone)
		g.run(g.config(one("webhook", p)))
		g.records(back, wanted)
		g.until("settled", g.settled(2))
		g.onlySent(p, wanted)
	})
	t.Run("its end was compacted away", func(t *testing.T) {
		t.Parallel()
		g := newGround(t)
		g.cancel(back.ceID(), "acked")
		ends := make(map[int32]int64)
		for _, p := range g.kafka.PartitionInfos(cancelTopic) {
			ends[p.Partition] = p.HighWatermark
		}
		// As of a partition whose last records compaction has removed: there is an
		// end that no fetch comes to.
		g.kafka.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			g.kafka.KeepControl()
			fetch := req.(*kmsg.FetchRequest)
			if len(fetch.Topics) != 1 || fetch.Topics[0].Topic != cancelTopic {
				return nil, nil, false
			}
			answer := fetch.ResponseKind().(*kmsg.FetchResponse)
			topic := kmsg.NewFetchResponseTopic()
			topic.Topic = cancelTopic
			for _, p := range fetch.Topics[0].Partitions {
				part := kmsg.NewFetchResponseTopicPartition()
				part.Partition = p.Partition
				part.HighWatermark = ends[p.Partition]
				topic.Partitions = append(topic.Partitions, part)
			}
			answer.Topics = append(answer.Topics, topic)
			return answer, nil, true
		})
		p := new(phone)
		g.run(g.config(one("webhook", p)))
		g.records(wanted)
		g.until("settled", g.settled(1))
		g.onlySent(p, wanted)
	})
}

// clearTopic deletes the records of a topic, as its retention does.
func (g *ground) clearTopic(name string) {
	g.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(g.brokers...))
	if err != nil {
		g.t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = name
	for p := range int32(partitions) {
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		part.Partition, part.Offset = p, -1 // all
		topic.Partitions = append(topic.Partitions, part)
	}
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(g.t.Context(), client); err != nil {
		g.t.Fatal(err)
	}
}
