package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/ack"
	"newswire/ack/offline/kafkatest"
)

// TestAMissingTopicOfTheCancelledHoldsUpNoHandOver and heals when it appears.
func TestAMissingTopicOfTheCancelledHoldsUpNoHandOver(t *testing.T) {
	k := kafkatest.New(t, kfake.SeedTopics(4, topic))
	r := start(t, config(k.Addrs))
	r.outbox.putCancels(ack.Cancel{CeID: "abc:u1", Cause: ack.CauseAcked})
	r.outbox.wait("a refusal", refused(1))
	r.outbox.put(handOvers(1, 5)...)
	r.outbox.wait("the hand-overs", settled(5))
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "(topic)") {
		t.Errorf("Ready = %v, want the missing topic", err)
	}
	createTopic(t, k.Addrs, CancelledTopic(topic))
	r.outbox.wait("the cancellation", func(o *memOutbox) bool { return len(o.cancelled) == 1 && !o.inFlight })
}

func TestABrokerThatComesLateGetsEverything(t *testing.T) {
	addr := freeAddr(t)
	r := start(t, config([]string{addr}))
	want := handOvers(20, 5)
	r.outbox.put(want...)
	r.outbox.wait("refusals", refused(2*len(want)))
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "(unreachable)") {
		t.Errorf("Ready = %v, want unreachable", err)
	}
	k := kafkatest.New(t, seeded(), at(addr))
	r.outbox.wait("all", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), want)
	r.end()
	<-r.done
	if err := r.Ready(); err != nil {
		t.Errorf("Ready = %v after the broker came", err)
	}
	if down, up := r.logs.count("does not take"), r.logs.count("takes hand-overs again"); down != 1 || up != 1 {
		t.Errorf("logged %d times down and %d times up, want each once", down, up)
	}
	if r.metric(t, "newswire_kafka_errors_total", "unreachable") == 0 {
		t.Error("newswire_kafka_errors_total{unreachable} = 0")
	}
}

// TestAnUnreachableBrokerIsKnownBeforeItIsNeeded and the question goes on until
// it is answered.
func TestAnUnreachableBrokerIsKnownBeforeItIsNeeded(t *testing.T) {
	addr := freeAddr(t)
	r := start(t, config([]string{addr}))
	eventually(t, "Ready to tell", func() bool { return r.Ready() != nil })
	kafkatest.New(t, seeded(), at(addr))
	eventually(t, "Ready to be nil", func() bool { return r.Ready() == nil })
}

func TestABrokerThatRestartsLosesNothing(t *testing.T) {
	dir, addr := t.TempDir(), freeAddr(t)
	first, err := StartEmbedded(dir, addr, topic)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, config([]string{addr}))
	before, after := handOvers(5, 20), handOvers(10, 20)[100:]
	r.outbox.put(before...)
	r.outbox.wait("the first", settled(len(before)))
	first.Close()
	r.outbox.put(after...)
	r.outbox.wait("refusals", refused(1))
	second, err := StartEmbedded(dir, addr, topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	want := append(before, after...)
	r.outbox.wait("the rest", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, second.Addrs(), topic, distinct(len(want))), want)
}

// TestFaultsOfOnePartitionKeepEachReadersOrder: one partition refuses again and
// again while the others go on.
func TestFaultsOfOnePartitionKeepEachReadersOrder(t *testing.T) {
	for _, fault := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut} {
		t.Run(fault.Message, func(t *testing.T) {
			k := kafkatest.New(t, seeded())
			k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{1}, Err: fault, Count: 4})
			r := start(t, config(k.Addrs))
			want, body := handOvers(30, 40), json.RawMessage(`{"body": "`+incompressible(10_000)+`"}`)
			for _, h := range want {
				h.Message.Data = body // so that a batch of the outbox goes in several pieces
			}
			r.outbox.put(want...)
			r.outbox.wait("all", settled(len(want)))
			wantOrder(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), want)
			r.outbox.mu.Lock()
			defer r.outbox.mu.Unlock()
			if r.outbox.refused == 0 {
				t.Error("nothing was settled as refused")
			}
		})
	}
}

// TestALostReplyIsSettledAsUnknown: the broker has the records but says so to
// nobody; the repeat carries the same ce_id.
func TestALostReplyIsSettledAsUnknown(t *testing.T) {
	k := kafkatest.New(t, kfake.SeedTopics(1, topic))
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}) // kfake keeps the batch
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("connection cut"), true // and this one it does not
	})
	r := start(t, config(k.Addrs))
	want := handOvers(3, 1)
	r.outbox.put(want...)
	r.outbox.wait("all", settled(3))
	r.outbox.wait("both refusals", refused(6))
	records := kafkatest.Collect(t, k.Addrs, topic, kafkatest.Count(6))
	wantOrder(t, records, want)
}

// TestATopicThatTakesLessThanUsualHoldsUpNothing: batches shrink until they
// fit, and what cannot fit goes without its data.
func TestATopicThatTakesLessThanUsualHoldsUpNothing(t *testing.T) {
	k := kafkatest.New(t, seeded(), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "40000"}))
	r := start(t, config(k.Addrs))
	var want []ack.HandOver
	for i := range 6 {
		h := handOver("u0", i)
		h.Message.Data = json.RawMessage(`{"id": 42, "body": "` + incompressible(20_000*(1+i%3*2)) + `"}`)
		want = append(want, h)
	}
	r.outbox.put(want...)
	r.outbox.wait("all", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), want)
	if r.logs.count("too large") == 0 {
		t.Error("the refusal was not logged")
	}
}

// TestTheEndDoesNotWaitForADeadBroker: a batch without answer is given up after
// its grace and settled as unknown.
func TestTheEndDoesNotWaitForADeadBroker(t *testing.T) {
	k := kafkatest.New(t, seeded())
	reached, release := make(chan struct{}), make(chan struct{})
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.SleepControl(func() { close(reached); <-release })
		return nil, nil, false
	})
	t.Cleanup(func() { close(release) })
	r := start(t, config(k.Addrs))
	r.outbox.put(handOver("u0", 0))
	<-reached
	begun := time.Now()
	r.end()
	if err := <-r.done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if took := time.Since(begun); took < stopGrace || took > stopGrace+30*time.Second {
		t.Errorf("Run took %s to end, want %s", took, stopGrace)
	}
	r.outbox.wait("the refusal", refused(1))
}

func TestAnOutboxThatFailsEndsRun(t *testing.T) {
	k := kafkatest.New(t, seeded())
	o := newOutbox(t)
	o.settleErr = errors.New("disk full")
	s, err := New(config(k.Addrs), o, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	o.put(handOver("u0", 0))
	if err := s.Run(context.Background()); !errors.Is(err, o.settleErr) {
		t.Errorf("Run = %v, want %v", err, o.settleErr)
	}
}

// TestOutcomesAreCertainOnlyWhereKafkaSaysSo: behind some errors the record is
// in the topic all the same.
func TestOutcomesAreCertainOnlyWhereKafkaSaysSo(t *testing.T) {
	for _, c := range []struct {
		err  error
		want ack.Outcome
	}{
		{nil, ack.Taken},
		{kafka.NotLeaderForPartition, ack.Refused},
		{fmt.Errorf("write: %w", kafka.NotEnoughReplicas), ack.Refused},
		{kafka.NotEnoughReplicasAfterAppend, ack.InDoubt},
		{kafka.RequestTimedOut, ack.InDoubt},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, ack.Refused},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, ack.InDoubt},
		{io.ErrUnexpectedEOF, ack.InDoubt},
		{context.DeadlineExceeded, ack.InDoubt},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%v: outcome %d, want %d", c.err, got, c.want)
		}
	}
}
