package compensate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/sasl"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
)

// ErrUnavailable is Verify's answer while the keys that it checks with cannot be
// had: the same token may be good later.
var ErrUnavailable = errors.New("tokens cannot be checked at the moment")

// Config says where records come from, where devices and receipts are kept, and
// how readers are reached.
type Config struct {
	Kafka    Kafka
	DSN      string                     // of the database that newswire migrate has prepared; required
	Channels map[string]channel.Channel // by name; at least one
	Policy   policy.Config              // Devices of its Channels is filled in by New
	Lanes    map[string]Lane            // by channel; missing ones have the defaults

	Listen  string                             // devices API; required
	Admin   string                             // health, metrics and status; required
	Origins []string                           // pages that may call the devices API
	Verify  func(token string) (Caller, error) // whose token it is; ErrUnavailable while nobody can say; required
	Follow  func(ctx context.Context) error    // keeps Verify's keys up to date while the service runs; nil: nothing does
	TLS     *tls.Config                        // of Listen; nil: plain

	Backlog   int           // deliveries without outcome beyond which Kafka keeps the rest; 0 means 1,000,000
	Retention time.Duration // of receipts, longer than the topic's; 0 means 168h
	DeviceTTL time.Duration // a device not registered again, and not reached, for so long is deleted; 0: never
	Lease     time.Duration // an instance not seen for so long is taken for dead; 0 means 15s
	Drain     time.Duration // how long what is under way may take at the end; 0 means 15s

	Registry *prometheus.Registry // nil: one of its own
	Log      *slog.Logger         // required
	OnReady  func(Addresses)      // called once, when both listeners are open; may be nil
}

// Kafka is where the engine hands over.
type Kafka struct {
	Brokers []string // host:port each
	Topic   string   // news-offline; cancellations come from <topic>-cancelled, dead letters go to <topic>.dlq
	Group   string   // consumer group; instances with the same one share the work
	TLS     *tls.Config
	SASL    sasl.Mechanism
	Session time.Duration // a member of the group not heard of for so long has left; 0 means 10s
}

func (k Kafka) cancelled() string   { return k.Topic + "-cancelled" }
func (k Kafka) deadLetters() string { return k.Topic + ".dlq" }

// Lane is how one channel's calls are made.
type Lane struct {
	Concurrency int           // calls at the same time, and no more than the channel has connections for; 0 means 32
	Trip        int           // faults of the provider in a row that stop the channel; 0 means 5
	Rest        time.Duration // how long it is stopped before it is tried again; 0 means 10s
	BackendOnly bool          // only the site's backend registers devices: phone numbers, whose owner somebody must have asked
}

// Caller is who calls the devices API.
type Caller struct {
	Reader  string
	Backend bool // the site's own: may name any reader
}

// Addresses are where a running service is reached.
type Addresses struct {
	API   string `json:"api"`
	Admin string `json:"admin"`
}

func (c Config) complete() (Config, error) {
	var faults []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	need(len(c.Kafka.Brokers) > 0, "offline.brokers is empty: name host:port of at least one broker")
	need(c.Kafka.Topic != "", "offline.topic is empty: name the topic of the hand-overs, such as news-offline")
	need(c.Kafka.Group != "", "compensate.group is empty: name the consumer group, such as newswire-compensate")
	need(c.DSN != "", "compensate.postgres.dsn is missing: write how to reach the database of devices and receipts")
	need(c.Verify != nil && c.Log != nil, "Verify and Log are required")
	c.Kafka.Session = orElse(c.Kafka.Session, 10*time.Second)
	c.Backlog = orElse(c.Backlog, 1_000_000)
	c.Retention = orElse(c.Retention, 168*time.Hour)
	c.Lease = orElse(c.Lease, 15*time.Second)
	c.Drain = orElse(c.Drain, 15*time.Second)
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	lanes := make(map[string]Lane)
	rules := make(map[string]policy.Channel)
	for name, ch := range c.Channels {
		l := c.Lanes[name]
		lanes[name] = Lane{orElse(l.Concurrency, 32), orElse(l.Trip, 5), orElse(l.Rest, 10*time.Second), l.BackendOnly}
		r := c.Policy.Channels[name]
		r.Devices = ch.Properties().WithDevices
		rules[name] = r
	}
	c.Lanes, c.Policy.Channels = lanes, rules
	return c, errors.Join(faults...)
}

func orElse[T comparable](value, other T) T {
	var zero T
	if value == zero {
		return other
	}
	return value
}

// names lists the channels in order.
func (c Config) names() []string {
	var names []string
	for name := range c.Channels {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// instance is this process for people: the machine and the process's number.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// Doubtful is a delivery of which nobody knows whether it arrived.
type Doubtful = store.Doubtful
