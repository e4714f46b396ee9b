package offline

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/ack/offline/kafkatest"
)

// blackHole takes connections on an address and never answers, until it is
// closed.
func blackHole(t *testing.T, addr string) (closed func()) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var taken sync.WaitGroup
	taken.Go(func() {
		var conns []net.Conn
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Close()
		}
	})
	return sync.OnceFunc(func() {
		ln.Close()
		taken.Wait()
	})
}

// TestABlackHoleIsGivenUpAndHeals: what never answers is an outage with a name,
// and everything arrives once a broker is there.
func TestABlackHoleIsGivenUpAndHeals(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	closed := blackHole(t, addr)
	defer closed()
	r := start(t, config([]string{addr}))
	want := handOvers(5, 4)
	r.outbox.put(want...)
	r.outbox.waitFor(2*callTimeout, "a refusal", refused(1))
	if r.Ready() == nil {
		t.Error("Ready = nil while nothing answers")
	}
	closed()
	k := kafkatest.New(t, seeded(), at(addr))
	r.outbox.waitFor(2*callTimeout, "all", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), want)
}

// TestASlowBrokerIsWaitedFor: five seconds an answer are slow, not a fault;
// nothing is sent twice.
func TestASlowBrokerIsWaitedFor(t *testing.T) {
	t.Parallel()
	k := kafkatest.New(t, seeded())
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.SleepControl(func() { <-time.After(5 * time.Second) })
		return nil, nil, false // and then as usual
	})
	r := start(t, config(k.Addrs))
	want := handOvers(3, 8)
	r.outbox.put(want...)
	r.outbox.waitFor(time.Minute, "all", settled(len(want)))
	r.outbox.mu.Lock()
	n := r.outbox.refused
	r.outbox.mu.Unlock()
	if n > 0 {
		t.Errorf("%d hand-overs were refused, want patience", n)
	}
	records := kafkatest.Collect(t, k.Addrs, topic, distinct(len(want)))
	if len(records) != len(want) {
		t.Errorf("%d records, want %d", len(records), len(want))
	}
	wantOrder(t, records, want)
}

// TestAPartitionWithoutLeaderIsWaitedFor: the cluster says so when it is asked
// where the partitions are.
func TestAPartitionWithoutLeaderIsWaitedFor(t *testing.T) {
	t.Parallel()
	k := kafkatest.New(t, seeded())
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic, Partitions: []int32{0, 1, 2, 3}, Err: kerr.LeaderNotAvailable, Count: 12})
	r := start(t, config(k.Addrs))
	want := handOvers(5, 10)
	r.outbox.put(want...)
	r.outbox.waitFor(time.Minute, "all", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), want)
}

// TestAPartitionAddedLosesNothing: readers move to other partitions, each at one
// moment, behind which nothing of it is unresolved in the old one.
func TestAPartitionAddedLosesNothing(t *testing.T) {
	t.Parallel()
	k := kafkatest.New(t, kfake.SeedTopics(1, topic))
	r := start(t, config(k.Addrs))
	want := handOvers(60, 10)
	r.outbox.put(want[:200]...)
	r.outbox.wait("the first", settled(200))
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(k.Addrs...), Transport: transport}
	added, err := client.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 4}}})
	if err != nil || added.Errors[topic] != nil {
		t.Fatal(err, added)
	}
	r.outbox.put(want[200:400]...)
	r.outbox.wait("the second", settled(400))
	<-time.After(metadataTTL + time.Second) // by then the sender knows
	r.outbox.put(want[400:]...)
	r.outbox.wait("all", settled(len(want)))
	records := kafkatest.Collect(t, k.Addrs, topic, distinct(len(want)))
	partitions := make(map[int32][]kafkatest.Record)
	seen := make(map[string]bool)
	for _, record := range records {
		partitions[record.Partition] = append(partitions[record.Partition], record)
		seen[record.Headers["ce_id"]] = true
	}
	if len(seen) != len(want) || len(partitions) < 2 {
		t.Errorf("%d different records in %d partitions, want %d in several", len(seen), len(partitions), len(want))
	}
	for n, of := range partitions {
		last := make(map[string]string)
		for _, record := range of {
			id := record.Headers["ce_id"]
			if id < last[record.Key] {
				t.Errorf("partition %d: reader %s got %s after %s", n, record.Key, id, last[record.Key])
			}
			last[record.Key] = id
		}
	}
}
