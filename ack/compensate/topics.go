package compensate

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// asBroker leaves a number to the broker's own default.
const asBroker = -1

// ensureTopics makes those topics that are missing, as the engine would with its
// first record: a group cannot be joined for a topic that is not there.
func (s *Service) ensureTopics(ctx context.Context) error {
	k := s.cfg.Kafka
	wanted := map[string][]kafka.ConfigEntry{
		k.Topic:         nil,
		k.cancelled():   {{ConfigName: "cleanup.policy", ConfigValue: "compact"}},
		k.deadLetters(): nil,
	}
	meta, err := s.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{k.Topic, k.cancelled(), k.deadLetters()}})
	if err != nil {
		return fmt.Errorf("ask Kafka for topics: %w", err)
	}
	for _, t := range meta.Topics {
		if t.Error == nil {
			delete(wanted, t.Name)
		}
	}
	var faults []error
	for name, entries := range wanted {
		answer, err := s.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
			{Topic: name, NumPartitions: asBroker, ReplicationFactor: asBroker, ConfigEntries: entries},
		}})
		if err == nil {
			err = answer.Errors[name]
		}
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			faults = append(faults, fmt.Errorf("topic %s does not exist and cannot be created: %w; create it, or grant this login Create", name, err))
		}
	}
	return errors.Join(faults...)
}
