package compensate

import (
	"net"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/ack/compensate/channel"
)

// vanish joins the group as a process that is killed before it is answered: the
// coordinator waits for the others, and then has a member that nobody is.
func (g *ground) vanish() {
	g.t.Helper()
	member := kmsg.NewConsumerMemberMetadata()
	member.Topics = []string{testTopic, testTopic + "-cancelled"}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version = 1 // as kafka-go: from 4 on a member is only known once it has been answered
	join.Group, join.ProtocolType = "newswire-compensate", "consumer"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 2000, 2000
	for _, name := range []string{"range", "roundrobin"} {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, member.AppendTo(nil)
		join.Protocols = append(join.Protocols, p)
	}
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, join, 1)
	conn, err := net.Dial("tcp", g.brokers[0])
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := conn.Write(frame); err != nil {
		g.t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		g.t.Fatal(err)
	}
}

// misplace makes the group stand behind the end of every partition, as after its
// topic was made anew.
func (g *ground) misplace() {
	g.t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(g.brokers...), Transport: transport}
	var commits []kafka.OffsetCommit
	for p := range partitions {
		commits = append(commits, kafka.OffsetCommit{Partition: p, Offset: 1000})
	}
	answer, err := client.OffsetCommit(g.t.Context(), &kafka.OffsetCommitRequest{
		GroupID: "newswire-compensate", GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{testTopic: commits},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	for _, p := range answer.Topics[testTopic] {
		if p.Error != nil {
			g.t.Fatal(p.Error)
		}
	}
}

// A partition that its member does not read, whyever, is not left alone: what
// lies in it would reach nobody.
func TestAPartitionThatNobodyReadsIsTakenOver(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(g *ground, cfg Config){
		"its member vanished while it joined": func(g *ground, cfg Config) {
			g.run(cfg)
			g.records(record{n: 1000, reader: "u0"})
			g.until("the instance is at work", g.settled(1))
			g.vanish()
			g.until("the group has a member that nobody is", func() bool {
				group := g.kafka.GroupInfo("newswire-compensate")
				return group.State == "Stable" && len(group.Members) == 2
			})
		},
		"the group stands behind its end": func(g *ground, cfg Config) {
			g.records(record{n: 1000, reader: "u0"})
			g.misplace()
			g.run(cfg)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			prepare(g, g.config(map[string]channel.Channel{"webhook": new(phone)}))
			const n = 60
			g.load(1, n, n)
			g.longUntil("all partitions are read", g.settled(1+n))
		})
	}
}

func TestAPartitionIsUnreadWhenItStandsStill(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	const patience = 10 * time.Second
	still := place{begin: 0, end: 20, committed: 10}
	for _, c := range []struct {
		name    string
		was, is place
		excused bool
		want    bool
	}{
		{"stands still with records to read", still, still, false, true},
		{"stands still while the backlog is full", still, still, true, false},
		{"moves", still, place{0, 30, 11}, false, false},
		{"has nothing to read", place{0, 10, 10}, place{0, 10, 10}, false, false},
		{"has only records that the topic does not keep", place{10, 10, 5}, place{10, 10, 5}, false, false},
		{"stands behind its end", place{0, 10, 20}, place{0, 10, 20}, false, true},
	} {
		w := standings{patience: patience}
		w.look(map[int]place{3: c.was}, begin, false)
		if unread := w.look(map[int]place{3: c.is}, begin.Add(patience), c.excused); len(unread) > 0 {
			t.Errorf("a partition that %s is unread at once", c.name)
		}
		if _, got := w.look(map[int]place{3: c.is}, begin.Add(patience+1), c.excused)[3]; got != c.want {
			t.Errorf("a partition that %s: unread %t, want %t", c.name, got, c.want)
		}
	}
}
