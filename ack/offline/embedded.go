package offline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	// embeddedPartitions spreads readers over as many consumers as one
	// machine has use for.
	embeddedPartitions = 12
	// embeddedStart bounds the questions to a broker in the same process.
	embeddedStart = 10 * time.Second
)

// Embedded is a Kafka broker in this process, for one machine: every record is
// synced before it is acknowledged, and there is no second copy.
type Embedded struct {
	cluster   *kfake.Cluster
	addr      string
	closeOnce sync.Once
}

// StartEmbedded serves a broker on listen that keeps its data under dir. Of
// topics, each is made where it is missing, with its CancelledTopic.
func StartEmbedded(dir, listen string, topics ...string) (*Embedded, error) {
	ln, err := listenEmbedded(listen)
	if err != nil {
		return nil, err
	}
	return startEmbedded(ln, dir, topics...)
}

// Addrs are the addresses that clients connect to.
func (e *Embedded) Addrs() []string { return []string{e.addr} }

// Close syncs what the broker holds and ends it. Closing twice is harmless.
func (e *Embedded) Close() { e.closeOnce.Do(e.cluster.Close) }

func listenEmbedded(listen string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("offline.embedded_listen %q is not host:port: %w", listen, err)
	}
	// Kafka clients connect to the address that the broker names, which is
	// this one.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("offline.embedded_listen %q names no host: give the address that clients shall connect to, such as 127.0.0.1", listen)
	}
	ln, err := net.Listen("tcp", listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s for the embedded Kafka broker: the address is in use; stop what runs there, or set offline.embedded_listen to a free one: %w", listen, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s for the embedded Kafka broker: %w; set offline.embedded_listen to an address of this machine", listen, err)
	}
	return ln, nil
}

// startEmbedded owns ln from here on.
func startEmbedded(ln net.Listener, dir string, topics ...string) (*Embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		ln.Close()
		return nil, fmt.Errorf("make directory of the embedded Kafka broker: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ListenFn(func(_, _ string) (net.Listener, error) { return ln, nil }),
		kfake.DataDir(dir),
		kfake.SyncWrites(), // or an acknowledged record would not survive a lost machine
		kfake.ClusterID("newswire-embedded"),
	)
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("start embedded Kafka broker on %s: %w", dir, err)
	}
	e := &Embedded{cluster: cluster, addr: ln.Addr().String()}
	if err := e.makeTopics(topics); err != nil {
		e.Close()
		return nil, fmt.Errorf("make topics of the embedded Kafka broker on %s: %w", dir, err)
	}
	return e, nil
}

// makeTopics asks as any client would: the broker's own seeding is skipped as
// soon as its directory holds data, so a new topic name would never appear.
func (e *Embedded) makeTopics(topics []string) error {
	wanted := make(map[string]kafka.TopicConfig)
	for _, t := range topics {
		t = strings.TrimSuffix(t, cancelledSuffix)
		wanted[t] = kafka.TopicConfig{Topic: t, NumPartitions: embeddedPartitions, ReplicationFactor: 1}
		wanted[CancelledTopic(t)] = kafka.TopicConfig{
			Topic: CancelledTopic(t), NumPartitions: embeddedPartitions, ReplicationFactor: 1,
			ConfigEntries: []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: "compact"}},
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	request := &kafka.CreateTopicsRequest{}
	for _, t := range wanted {
		request.Topics = append(request.Topics, t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), embeddedStart)
	defer cancel()
	transport := &kafka.Transport{MetadataTTL: metadataTTL}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(e.addr), Transport: transport}
	response, err := client.CreateTopics(ctx, request)
	if err != nil {
		return err
	}
	for topic, err := range response.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	return nil
}
