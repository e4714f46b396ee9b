// Package kafkatest gives tests a Kafka that speaks the protocol and takes
// faults, and reads back what landed in it.
package kafkatest

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is a broker in memory. Its ControlKey and Fault inject faults.
type Cluster struct {
	*kfake.Cluster
	Addrs []string
}

// New starts a broker that ends with the test. Topics do not exist unless opts
// seed them.
func New(t testing.TB, opts ...kfake.Opt) *Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(c.Close)
	return &Cluster{Cluster: c, Addrs: c.ListenAddrs()}
}

// Record is one record as a consumer sees it.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time // when it was produced
	Key       string
	Value     []byte
	Headers   map[string]string
}

// collectTimeout ends a wait that will not come true.
const collectTimeout = 60 * time.Second

// Collect reads topic from its start until done is content with what came so
// far, in the order of each partition. The test fails when that takes too long.
func Collect(t testing.TB, addrs []string, topic string, done func([]Record) bool) []Record {
	t.Helper()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(addrs...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		t.Fatalf("consume %s: %v", topic, err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	var records []Record
	for !done(records) {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("consume %s: not what was awaited after %s: %d records", topic, collectTimeout, len(records))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, newRecord(r))
		})
	}
	return records
}

// Count is content with n records or more.
func Count(n int) func([]Record) bool {
	return func(records []Record) bool { return len(records) >= n }
}

func newRecord(r *kgo.Record) Record {
	headers := make(map[string]string, len(r.Headers))
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	return Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp,
		Key: string(r.Key), Value: r.Value, Headers: headers,
	}
}
