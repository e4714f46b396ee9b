package offline

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// inspectTimeout is what Kafka may take to describe two topics.
const inspectTimeout = 15 * time.Second

// CheckTopic tells in sentences what about the topics could lose or delay
// hand-overs, each with its remedy. Nothing of it is fatal: the ledger keeps
// what Kafka does not take. An embedded broker has nothing to find.
func CheckTopic(ctx context.Context, cfg Config) []string {
	if err := cfg.validate(); err != nil {
		return []string{err.Error()}
	}
	if cfg.Embedded() {
		return nil
	}
	warnings, err := inspectTopics(ctx, cfg, nil)
	if err != nil {
		out := newOutage(err)
		warnings = append(warnings, fmt.Sprintf("Kafka at %s does not answer (%s): %v; hand-overs wait in the ledger until it does",
			strings.Join(cfg.Brokers, ", "), out.kind, out.err))
	}
	return warnings
}

// inspectTopics describes both topics; err is set when Kafka could not be asked.
func inspectTopics(ctx context.Context, cfg Config, roots *x509.CertPool) ([]string, error) {
	l := newLink()
	defer l.close()
	transport, err := newTransport(cfg, roots, l)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	client := &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Transport: transport}
	found, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: transport.MetadataTopics})
	if err != nil {
		return nil, err
	}
	var warnings []string
	for _, t := range found.Topics {
		warnings = append(warnings, inspectPartitions(t)...)
		if t.Error != nil {
			continue
		}
		settings, err := describe(ctx, client, t.Name)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("the settings of Kafka topic %s could not be read (%v): check by hand that min.insync.replicas is at least 2", t.Name, err))
			continue
		}
		warnings = append(warnings, inspectSettings(t.Name, settings)...)
	}
	return warnings, nil
}

func inspectPartitions(t kafka.Topic) []string {
	switch {
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
		return []string{fmt.Sprintf("Kafka topic %s does not exist: create it, unless the brokers create topics on first use", t.Name)}
	case t.Error != nil:
		return []string{fmt.Sprintf("Kafka topic %s cannot be described: %v", t.Name, t.Error)}
	}
	var warnings []string
	var leaderless, single int
	for _, p := range t.Partitions {
		if p.Leader.Host == "" {
			leaderless++
		}
		if len(p.Replicas) < 2 {
			single++
		}
	}
	if leaderless > 0 {
		warnings = append(warnings, fmt.Sprintf("Kafka topic %s: %d of %d partitions have no leader; their readers' hand-overs wait until a broker takes them", t.Name, leaderless, len(t.Partitions)))
	}
	if single > 0 {
		warnings = append(warnings, fmt.Sprintf("Kafka topic %s: %d of %d partitions have a single replica; give it a replication factor of 3, or a lost broker loses hand-overs", t.Name, single, len(t.Partitions)))
	}
	return warnings
}

func inspectSettings(topic string, settings map[string]string) []string {
	var warnings []string
	if n, err := strconv.Atoi(settings["min.insync.replicas"]); err == nil && n < 2 {
		warnings = append(warnings, fmt.Sprintf("Kafka topic %s: min.insync.replicas is %d; set it to 2, or one broker's acknowledgement counts as all", topic, n))
	}
	compacted := strings.Contains(settings["cleanup.policy"], "compact")
	cancelled := strings.HasSuffix(topic, cancelledSuffix)
	switch {
	case cancelled && !compacted:
		warnings = append(warnings, fmt.Sprintf("Kafka topic %s: cleanup.policy is %q; set it to compact, or cancellations are forgotten with the topic's retention", topic, settings["cleanup.policy"]))
	case !cancelled && compacted:
		warnings = append(warnings, fmt.Sprintf("Kafka topic %s: cleanup.policy is %q; set it to delete, or only the last hand-over of each reader is kept", topic, settings["cleanup.policy"]))
	}
	if n, err := strconv.Atoi(settings["max.message.bytes"]); err == nil && n < maxBytes && !cancelled {
		warnings = append(warnings, fmt.Sprintf("Kafka topic %s: max.message.bytes is %d; with less than %d large articles are handed over without their data", topic, n, maxBytes))
	}
	return warnings
}

func describe(ctx context.Context, client *kafka.Client, topic string) (map[string]string, error) {
	response, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{
			ResourceType: kafka.ResourceTypeTopic,
			ResourceName: topic,
			ConfigNames:  []string{"min.insync.replicas", "cleanup.policy", "max.message.bytes"},
		}},
	})
	if err != nil {
		return nil, err
	}
	settings := make(map[string]string)
	for _, r := range response.Resources {
		if r.Error != nil {
			return nil, r.Error
		}
		for _, e := range r.ConfigEntries {
			settings[e.ConfigName] = e.ConfigValue
		}
	}
	return settings, nil
}
