package offline

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

const (
	// dialTimeout bounds a connection with its handshakes, so that a black
	// hole is told from a slow broker.
	dialTimeout = 5 * time.Second
	// writeTimeout is what a batch may take until all in-sync replicas have
	// it. Shorter would turn a slow cluster into a source of repeats.
	writeTimeout = 10 * time.Second
	// metadataTTL bounds how long a moved leader goes unnoticed.
	metadataTTL = 5 * time.Second
)

// newTransport makes the connection pool for cfg. roots nil means the
// system's certificate authorities.
func newTransport(cfg Config, roots *x509.CertPool, l *link) (*kafka.Transport, error) {
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	t := &kafka.Transport{
		Dial:        l.dial,
		DialTimeout: dialTimeout,
		MetadataTTL: metadataTTL,
		// Not the whole cluster's topics, of which there may be thousands.
		MetadataTopics: []string{cfg.Topic, CancelledTopic(cfg.Topic)},
		ClientID:       "newswire",
		SASL:           mechanism,
	}
	if cfg.TLS {
		t.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	return t, nil
}

func newWriter(brokers []string, t *kafka.Transport) *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(brokers...),
		Transport:    t,
		Balancer:     &kafka.Hash{},    // by key: one reader, one partition, one order
		RequiredAcks: kafka.RequireAll, // the zero value asks for none
		Compression:  kafka.Zstd,
		BatchSize:    maxBatch,
		BatchBytes:   2 * maxBytes, // never the limit: send has already cut to size, so each partition gets one batch
		BatchTimeout: 5 * time.Millisecond,
		ReadTimeout:  writeTimeout,
		WriteTimeout: writeTimeout,
		// The outbox is the retry. A second loop in here would hide what is
		// wrong and stretch the way out.
		MaxAttempts:            1,
		AllowAutoTopicCreation: true, // whether the topic appears is the broker's policy
	}
}

// mechanism is nil without SASL.
func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch strings.ToLower(s.Mechanism) {
	case "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, s.Username, s.Password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, s.Username, s.Password)
	}
	return nil, fmt.Errorf("offline.sasl.mechanism %q is none of plain, scram-sha-256, scram-sha-512", s.Mechanism)
}

// link dials for a transport and remembers what is open. kafka-go bounds
// neither the login nor the wait for a batch by a caller's context; closing
// the connections ends both.
type link struct {
	dialer net.Dialer // fixed

	connsMu sync.Mutex // guards conns and closed
	conns   map[net.Conn]struct{}
	closed  bool
}

func newLink() *link {
	return &link{dialer: net.Dialer{Timeout: dialTimeout}, conns: make(map[net.Conn]struct{})}
}

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := l.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tracked := &linkConn{Conn: c, link: l}
	l.connsMu.Lock()
	closed := l.closed
	if !closed {
		l.conns[tracked] = struct{}{}
	}
	l.connsMu.Unlock()
	if closed {
		c.Close()
		return nil, net.ErrClosed
	}
	return tracked, nil
}

// close ends all connections; none is made after it.
func (l *link) close() {
	l.connsMu.Lock()
	conns := l.conns
	l.conns, l.closed = make(map[net.Conn]struct{}), true
	l.connsMu.Unlock()
	for c := range conns {
		c.Close()
	}
}

type linkConn struct {
	net.Conn
	link *link
}

func (c *linkConn) Close() error {
	c.link.connsMu.Lock()
	delete(c.link.conns, c)
	c.link.connsMu.Unlock()
	return c.Conn.Close()
}

// Login is what kafka-go logs in with; nil without SASL.
func (s SASL) Login() (sasl.Mechanism, error) { return s.mechanism() }
