package offline

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/offline/kafkatest"
)

func createTopic(t *testing.T, addrs []string, name string, settings ...kafka.ConfigEntry) {
	t.Helper()
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(addrs...), Transport: transport}
	response, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: 3, ReplicationFactor: -1, ConfigEntries: settings}},
	})
	if err != nil || response.Errors[name] != nil {
		t.Fatalf("create topic %s: %v, %v", name, err, response)
	}
}

// wantFindings checks that each of want is in one finding, and that there are
// no others.
func wantFindings(t *testing.T, got []string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(strings.Join(got, "\n"), w) {
			t.Errorf("no finding tells of %q", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d findings, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

func TestCheckTopicTellsWhyNobodyAnswers(t *testing.T) {
	addr := freeAddr(t)
	wantFindings(t, CheckTopic(t.Context(), config([]string{addr})), "Kafka at "+addr+" does not answer (unreachable): dial tcp "+addr+": ")
}

func TestCheckTopicFindsWhatLosesHandOvers(t *testing.T) {
	k := kafkatest.New(t)
	wantFindings(t, CheckTopic(t.Context(), config(k.Addrs)),
		"topic news-offline does not exist", "topic news-offline-cancelled does not exist")

	createTopic(t, k.Addrs, topic,
		kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"},
		kafka.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "1000"})
	createTopic(t, k.Addrs, CancelledTopic(topic))
	wantFindings(t, CheckTopic(t.Context(), config(k.Addrs)),
		"topic news-offline: 3 of 3 partitions have a single replica",
		"topic news-offline: min.insync.replicas is 1",
		"topic news-offline: cleanup.policy is \"compact\"",
		"topic news-offline: max.message.bytes is 1000",
		"topic news-offline-cancelled: 3 of 3 partitions have a single replica",
		"topic news-offline-cancelled: min.insync.replicas is 1",
		"topic news-offline-cancelled: cleanup.policy is \"delete\"")
}

func TestCheckTopicHasNothingToSayOfAGoodOne(t *testing.T) {
	k := kafkatest.New(t, kfake.NumBrokers(3), kfake.BrokerConfigs(map[string]string{"min.insync.replicas": "2"}))
	createTopic(t, k.Addrs, topic)
	createTopic(t, k.Addrs, CancelledTopic(topic), kafka.ConfigEntry{ConfigName: "cleanup.policy", ConfigValue: "compact"})
	wantFindings(t, CheckTopic(t.Context(), config(k.Addrs)))
}

func TestCheckTopicTellsOfAnUnreachableBroker(t *testing.T) {
	addr := freeAddr(t)
	wantFindings(t, CheckTopic(t.Context(), config([]string{addr})), addr)
}

func TestCheckTopicOfTheEmbeddedBrokerIsEmpty(t *testing.T) {
	wantFindings(t, CheckTopic(t.Context(), embeddedConfig(t.TempDir())))
}
