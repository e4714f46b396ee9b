package offline

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/segmentio/kafka-go"

	"newswire/ack/offline/kafkatest"
)

func embeddedConfig(dir string) Config {
	return Config{Brokers: []string{EmbeddedBroker}, EmbeddedListen: "127.0.0.1:0", Dir: dir, Topic: topic}
}

// TestTheEmbeddedBrokerKeepsWhatItAcknowledged over an orderly end and over a
// crash, which is a copy of its directory taken while it runs.
func TestTheEmbeddedBrokerKeepsWhatItAcknowledged(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	r := start(t, embeddedConfig(dir))
	want := handOvers(10, 30)
	r.outbox.put(want...)
	r.outbox.wait("all", settled(len(want)))
	wantOrder(t, kafkatest.Collect(t, r.Brokers(), topic, distinct(len(want))), want)
	if err := os.CopyFS(crashed, os.DirFS(filepath.Join(dir, "kafka"))); err != nil {
		t.Fatal(err)
	}
	r.end()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"orderly": filepath.Join(dir, "kafka"), "crash": crashed} {
		t.Run(name, func(t *testing.T) {
			again, err := StartEmbedded(dir, "127.0.0.1:0", topic)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			wantOrder(t, kafkatest.Collect(t, again.Addrs(), topic, distinct(len(want))), want)
		})
	}
}

// TestTheEmbeddedBrokerMakesItsTopics, also a new one on a directory that holds
// another already.
func TestTheEmbeddedBrokerMakesItsTopics(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		e, err := StartEmbedded(dir, "127.0.0.1:0", name)
		if err != nil {
			t.Fatal(err)
		}
		transport := new(kafka.Transport)
		client := &kafka.Client{Addr: kafka.TCP(e.Addrs()...), Transport: transport}
		found, err := client.Metadata(t.Context(), &kafka.MetadataRequest{Topics: []string{name, CancelledTopic(name)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range found.Topics {
			if topic.Error != nil || len(topic.Partitions) != embeddedPartitions {
				t.Errorf("topic %s: %d partitions, %v", topic.Name, len(topic.Partitions), topic.Error)
			}
		}
		for topic, want := range map[string]string{name: "delete", CancelledTopic(name): "compact"} {
			settings, err := describe(t.Context(), client, topic)
			if err != nil || settings["cleanup.policy"] != want {
				t.Errorf("topic %s: cleanup.policy %q, %v, want %s", topic, settings["cleanup.policy"], err, want)
			}
		}
		transport.CloseIdleConnections()
		e.Close()
	}
}

func TestAnAddressInUseIsOneSentenceWithTheRemedy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := embeddedConfig(t.TempDir())
	cfg.EmbeddedListen = taken.Addr().String()
	_, err = New(cfg, newOutbox(t), slog.New(slog.DiscardHandler), nil)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("New = %v, want an address in use", err)
	}
	for _, want := range []string{cfg.EmbeddedListen, "offline.embedded_listen"} {
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q does not name %s in one line", err, want)
		}
	}
}

func TestAnAddressThatClientsCannotUseIsRefused(t *testing.T) {
	for _, listen := range []string{":9092", "0.0.0.0:9092", "[::]:9092", "9092"} {
		if _, err := StartEmbedded(t.TempDir(), listen, topic); err == nil {
			t.Errorf("StartEmbedded on %q = nil, want an error", listen)
		}
	}
}

func TestADirectoryThatCannotBeUsedEndsRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(embeddedConfig(file), newOutbox(t), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Run = %v, want it to name %s", err, file)
	}
}

func incompressible(n int) string {
	b := make([]byte, n/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}
