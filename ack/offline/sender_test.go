package offline

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/ack"
	"newswire/ack/offline/kafkatest"
)

func TestHandOversReachKafkaInOrderAndSettle(t *testing.T) {
	k := kafkatest.New(t, seeded())
	r := start(t, config(k.Addrs))
	want := handOvers(40, 30) // more than one batch
	r.outbox.put(want...)
	r.outbox.wait("all", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), want)
	if err := r.Ready(); err != nil {
		t.Errorf("Ready = %v", err)
	}
	if n := r.metric(t, "newswire_offline_total", "ack_timeout"); n != float64(len(want)) {
		t.Errorf("newswire_offline_total{ack_timeout} = %v, want %d", n, len(want))
	}
	if n := r.metric(t, "newswire_offline_total", "slow_reader"); n != 0 {
		t.Errorf("newswire_offline_total{slow_reader} = %v, want 0", n)
	}
	if r.metric(t, "newswire_kafka_produce_seconds", "") == 0 {
		t.Error("newswire_kafka_produce_seconds has observed nothing")
	}
}

func TestCancellationsGoToTheirTopicByCeID(t *testing.T) {
	k := kafkatest.New(t, seeded())
	r := start(t, config(k.Addrs))
	c := ack.Cancel{CeID: "abc:u1", Cause: ack.CauseAcked}
	r.outbox.putCancels(c)
	r.outbox.wait("the cancellation", func(o *memOutbox) bool { return len(o.cancelled) == 1 && !o.inFlight })
	got := kafkatest.Collect(t, k.Addrs, CancelledTopic(topic), kafkatest.Count(1))[0]
	if got.Key != c.CeID || string(got.Value) != `{"ce_id":"abc:u1","cause":"acked"}` {
		t.Errorf("record %s: %s", got.Key, got.Value)
	}
	r.end()
	<-r.done
	if n := r.metric(t, "newswire_offline_cancelled_total", "acked"); n != 1 {
		t.Errorf("newswire_offline_cancelled_total{acked} = %v, want 1", n)
	}
}

func TestTopicsAppearWhereTheBrokerCreatesThem(t *testing.T) {
	k := kafkatest.New(t, kfake.AllowAutoTopicCreation())
	r := start(t, config(k.Addrs))
	r.outbox.put(handOvers(1, 3)...)
	r.outbox.wait("the hand-overs", settled(3))
}

func TestALargeArticleGoesWithoutItsData(t *testing.T) {
	k := kafkatest.New(t, seeded())
	r := start(t, config(k.Addrs))
	large := handOver("u0", 1)
	large.Message.Data = json.RawMessage(`{"id": 42, "body": "` + incompressible(1<<20) + `"}`)
	r.outbox.put(handOver("u0", 0), large, handOver("u0", 2))
	r.outbox.wait("all", settled(3))
	for _, rec := range kafkatest.Collect(t, k.Addrs, topic, kafkatest.Count(3)) {
		isLarge := rec.Headers["ce_id"] == ack.CeID(large.Message.ID, "u0")
		if got := strings.Contains(string(rec.Value), `"data":{"id": 42},"truncated":true`); got != isLarge {
			t.Errorf("record %s truncated: %t", rec.Headers["ce_id"], got)
		}
	}
	r.end()
	<-r.done
	if n := r.metric(t, "newswire_offline_truncated_total", ""); n != 1 {
		t.Errorf("newswire_offline_truncated_total = %v, want 1", n)
	}
}

// TestTheEndDoesNotCutABatchInFlight: Run waits for the acknowledgement, settles
// it as true and is gone.
func TestTheEndDoesNotCutABatchInFlight(t *testing.T) {
	k := kafkatest.New(t, seeded())
	reached, release := make(chan struct{}), make(chan struct{})
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.SleepControl(func() { close(reached); <-release })
		return nil, nil, false
	})
	r := start(t, config(k.Addrs))
	r.outbox.put(handOver("u0", 0))
	<-reached
	r.end()
	select {
	case <-r.done:
		t.Fatal("Run returned with a batch in flight")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-r.done; err != nil {
		t.Errorf("Run = %v", err)
	}
	r.outbox.wait("the batch", settled(1))
}

func TestTheEndIsPromptWhenIdleOrDown(t *testing.T) {
	k := kafkatest.New(t, seeded())
	for name, addr := range map[string]string{"idle": k.Addrs[0], "down": freeAddr(t)} {
		t.Run(name, func(t *testing.T) {
			r := start(t, config([]string{addr}))
			if name == "down" {
				r.outbox.put(handOver("u0", 0))
				r.outbox.wait("a refusal", refused(1))
			}
			begun := time.Now()
			r.end()
			if err := <-r.done; err != nil {
				t.Errorf("Run = %v", err)
			}
			if took := time.Since(begun); took > stopGrace {
				t.Errorf("Run took %s to end", took)
			}
		})
	}
}

func TestLoginAndEncryption(t *testing.T) {
	server := httptest.NewUnstartedServer(nil) // lends its certificate for 127.0.0.1
	server.StartTLS()
	certificate, authority := server.TLS.Certificates[0], x509.NewCertPool()
	authority.AddCert(server.Certificate())
	server.Close()
	for _, mechanism := range []string{"plain", "scram-sha-256", "SCRAM-SHA-512"} {
		for _, password := range []string{"right", "wrong"} {
			t.Run(mechanism+" "+password, func(t *testing.T) {
				k := kafkatest.New(t, seeded(), kfake.EnableSASL(),
					kfake.Superuser(strings.ToUpper(mechanism), "newswire", "right"),
					kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
				cfg := config(k.Addrs)
				cfg.TLS, cfg.SASL = true, SASL{Mechanism: mechanism, Username: "newswire", Password: password}
				r := start(t, cfg, func(s *Sender) { s.transport.TLS.RootCAs = authority })
				r.outbox.put(handOver("u0", 0))
				if password == "right" {
					r.outbox.wait("the hand-over", settled(1))
					return
				}
				r.outbox.wait("a refusal", refused(1))
				if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "offline.sasl") || strings.Contains(err.Error(), password) {
					t.Errorf("Ready = %v, want a hint at the login, without the password", err)
				}
			})
		}
	}
	t.Run("an unknown authority", func(t *testing.T) {
		k := kafkatest.New(t, seeded(), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
		cfg := config(k.Addrs)
		cfg.TLS = true
		r := start(t, cfg)
		r.outbox.put(handOver("u0", 0))
		r.outbox.wait("a refusal", refused(1))
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "(tls)") {
			t.Errorf("Ready = %v, want tls", err)
		}
	})
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Config{Brokers: []string{"kafka"}, Topic: "news offline", SASL: SASL{Mechanism: "gssapi"}}, nil, nil, nil)
	for _, want := range []string{"offline.brokers", "offline.topic", "offline.sasl.mechanism", "offline.sasl.username"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want it to name %s", err, want)
		}
	}
}
