package config

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"newswire/fanout/journal"
)

// leastReserve is room for a few of the journal's tables, which are written
// anew on a disk that is nearly full too.
const leastReserve journal.Size = 64 << 20

func (c *Config) checkJournal(check *checker) {
	j := c.Journal
	check.required("journal.dir", j.Dir, "name the directory that keeps the journal, such as /var/lib/newswire")
	if j.Reserve != 0 && j.Reserve < leastReserve {
		check.fault("journal.reserve", "is %s: write at least 64MiB, or leave it out for a twentieth of the disk", j.Reserve)
	}
	switch wait := c.Ack.TotalWait(); {
	case j.Retention <= 0:
		check.fault("journal.retention", "is %s: write more than 0s, such as 72h", j.Retention)
	case wait == math.MaxInt64: // saturated: no duration says how long
		check.fault("ack.retries", "is %d: with ack.timeout %s and ack.backoff %v a message waits centuries for its acks; write less, such as 2 retries and backoff 2", c.Ack.Retries, c.Ack.Timeout, c.Ack.Backoff)
	case j.Retention <= wait:
		check.fault("journal.retention", "is %s: a message waits %s for its acks (ack.timeout, retries and backoff), keep it longer than that", j.Retention, wait)
	case c.Postgres.Backfill > j.Retention:
		check.fault("journal.retention", "is %s: postgres.backfill goes back %s, keep it longer than that", j.Retention, c.Postgres.Backfill)
	}
}

func (f *Fanout) check(c *checker) {
	if f.Shards < 1 || f.Shards > 1024 {
		c.fault("fanout.shards", "is %d: write 1 to 1024, such as 64", f.Shards)
	}
}

func (a *Ack) check(c *checker) {
	if a.Timeout < 100*time.Millisecond {
		c.fault("ack.timeout", "is %s: write at least 100ms, such as 30s", a.Timeout)
	}
	if a.Retries < 0 {
		c.fault("ack.retries", "is %d: write 0 or more, such as 2", a.Retries)
	}
	if !(a.Backoff >= 1) || math.IsInf(a.Backoff, 0) {
		c.fault("ack.backoff", "is %v: write 1 or more, such as 2", a.Backoff)
	}
	c.atLeast("ack.reader_ttl", a.ReaderTTL, time.Second, "720h")
}

// totalSeconds sums timeout × backoff⁰ … timeout × backoff^retries.
func (a Ack) totalSeconds() float64 {
	attempts := float64(a.Retries) + 1
	if a.Backoff == 1 {
		return a.Timeout.Seconds() * attempts
	}
	return a.Timeout.Seconds() * (math.Pow(a.Backoff, attempts) - 1) / (a.Backoff - 1)
}

// saturate turns seconds into the nearest duration there is.
func saturate(seconds float64) time.Duration {
	if !(seconds < math.MaxInt64/float64(time.Second)) {
		return math.MaxInt64
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// The mechanisms that a broker may ask for.
const (
	saslPlain    = "PLAIN"
	saslScram256 = "SCRAM-SHA-256"
	saslScram512 = "SCRAM-SHA-512"
)

func (o *Offline) load(c *checker) {
	o.SASL.Mechanism = strings.ToUpper(o.SASL.Mechanism)
	if o.SASL.PasswordFile == "" {
		return
	}
	if text, ok := c.readFile("offline.sasl.password_file", o.SASL.PasswordFile); ok {
		o.SASL.Password = string(text)
		c.required("offline.sasl.password_file", o.SASL.Password, "the file "+o.SASL.PasswordFile+" is empty")
	}
}

func (o *Offline) check(c *checker, g Gateway) {
	if len(o.Brokers) == 0 {
		c.fault("offline.brokers", "names no broker: write host:port of at least one, or [embedded]")
	}
	for i, broker := range o.Brokers {
		host, port, err := net.SplitHostPort(broker)
		n, convErr := strconv.Atoi(port)
		if o.Embedded() || (err == nil && convErr == nil && host != "" && n > 0 && n <= 65535) {
			continue
		}
		c.fault(fmt.Sprintf("offline.brokers[%d]", i), "is %q: write host:port, or [embedded] alone", broker)
	}
	if !topicName.MatchString(o.Topic) || o.Topic == "." || o.Topic == ".." {
		c.fault("offline.topic", "is %q, which Kafka does not take: use 1 to 249 letters, digits, dots, _ and -", o.Topic)
	}
	if o.Embedded() {
		c.listenAddress("offline.embedded_listen", o.EmbeddedListen)
		if host, _, _ := net.SplitHostPort(o.EmbeddedListen); host == "" || net.ParseIP(host).IsUnspecified() {
			c.fault("offline.embedded_listen", "is %q: write the address that Kafka's clients connect to, such as 127.0.0.1:9092", o.EmbeddedListen)
		}
		c.ownPort("offline.embedded_listen", o.EmbeddedListen, "gateway.listen", g.Listen)
		c.ownPort("offline.embedded_listen", o.EmbeddedListen, "gateway.admin", g.Admin)
		if o.TLS || o.SASL.Mechanism != "" {
			c.fault("offline.brokers", "is [embedded], which has neither TLS nor a login: leave out offline.tls and offline.sasl")
		}
	}
	o.SASL.check(c)
}

func (s *SASL) check(c *checker) {
	if s.Mechanism == "" {
		if s.Username != "" || s.PasswordFile != "" {
			c.fault("offline.sasl.mechanism", "is missing: write %s, %s or %s", saslPlain, saslScram256, saslScram512)
		}
		return
	}
	c.oneOf("offline.sasl.mechanism", s.Mechanism, saslPlain, saslScram256, saslScram512)
	c.required("offline.sasl.username", s.Username, "a login needs one")
	if s.Password == "" {
		c.fault("offline.sasl.password_file", "is missing: name the file that holds the password")
	}
}

func (l *Log) check(c *checker) {
	c.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", l.Format, "text", "json")
}

// maxSecretBytes bounds what is read as a secret: a wrong path may name a device
// that never ends.
const maxSecretBytes = 64 << 10

// readFile reads a file that holds one secret; line ends behind it are the
// editor's, not the secret's.
func (c *checker) readFile(key, path string) ([]byte, bool) {
	const remedy = "name a file that is there and that this account may read"
	f, err := os.Open(path)
	if err != nil {
		c.fault(key, "cannot be read: %s; %s", oneLine(err), remedy)
		return nil, false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	switch {
	case err != nil:
		c.fault(key, "cannot be read: %s; %s", oneLine(err), remedy)
		return nil, false
	case len(text) > maxSecretBytes:
		c.fault(key, "%s is larger than %d bytes: name the file that holds only the secret", path, maxSecretBytes)
		return nil, false
	}
	return bytes.TrimRight(text, "\r\n"), true
}
