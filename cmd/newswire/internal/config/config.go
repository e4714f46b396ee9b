// Package config reads the configuration of newswire: one YAML file and the
// environment, checked whole. Load promises that what it returns can be served
// as it stands, and that what is wrong is told all at once, each fault in a
// sentence with the place it was found in and what to write instead. No error
// and no print-out of this package carries a password or a secret.
package config

import (
	"crypto"
	"time"

	"newswire/fanout/journal"
)

// Config is the whole configuration. A field's yaml name, joined to those of
// the sections around it, is its key (ack.timeout); upper-case with underscores
// behind NEWSWIRE_ it is the environment variable (NEWSWIRE_ACK_TIMEOUT).
type Config struct {
	Postgres   Postgres   `yaml:"postgres"`
	Journal    Journal    `yaml:"journal"`
	Fanout     Fanout     `yaml:"fanout"`
	Gateway    Gateway    `yaml:"gateway"`
	Ack        Ack        `yaml:"ack"`
	Offline    Offline    `yaml:"offline"`
	Compensate Compensate `yaml:"compensate"`
	Log        Log        `yaml:"log"`
}

// Postgres says which server to read, through which slot, and which rows of it
// are news.
type Postgres struct {
	DSN         string        `yaml:"dsn,omitempty"`      // every form that pgx takes; after Load also what DSNFile held
	DSNFile     string        `yaml:"dsn_file,omitempty"` // instead of DSN: the file that holds it
	Slot        string        `yaml:"slot"`               // replication slot; required
	Publication string        `yaml:"publication"`        // publication the slot follows; required
	Heartbeat   time.Duration `yaml:"heartbeat"`          // between two heartbeat messages; 0s means none, default 10s
	Backfill    time.Duration `yaml:"backfill"`           // at the first start, rows that became news within so long are told; default 0s, none
	Tables      []Table       `yaml:"tables"`             // at least one
}

// Table maps the rows of one table to messages.
type Table struct {
	Name       string     `yaml:"name"` // public.articles; without a schema it is public
	Tags       Tags       `yaml:"tags"`
	DefaultTag string     `yaml:"default_tag"`         // for a row without a usable tag; default general
	Data       []string   `yaml:"data"`                // columns that readers get, in this order
	Published  *Published `yaml:"published,omitempty"` // nil: every row is news
	Time       string     `yaml:"time,omitempty"`      // column that tells since when a row is news; default published.column where that is reached
}

// Tags says where a row's tags come from: exactly one of its fields is set.
type Tags struct {
	Column  string   `yaml:"column,omitempty"`  // text[], jsonb array, or text with commas
	Columns []string `yaml:"columns,omitempty"` // one tag from each
	Query   string   `yaml:"query,omitempty"`   // SELECT of the tags of one row, whose key is $1 (and $2 …)
	Links   []Link   `yaml:"links,omitempty"`   // with query: tables whose changes change the tags
}

// Link is a table whose rows tie others to their tags.
type Link struct {
	Table string   `yaml:"table"` // public.articles_tags; without a schema it is public
	Key   []string `yaml:"key"`   // its columns that hold the other row's key, in the order of that key
}

// Published says which rows are news: exactly one of Equals and Reached is set.
type Published struct {
	Column  string     `yaml:"column"`
	Equals  string     `yaml:"equals,omitempty"`  // the column's text
	Reached bool       `yaml:"reached,omitempty"` // the column is a time, and the row is news from then on
	And     *Published `yaml:"and,omitempty"`     // of the other kind, which must hold too
}

// Journal is the Badger log.
type Journal struct {
	Dir       string        `yaml:"dir"`       // default /var/lib/newswire
	Retention time.Duration `yaml:"retention"` // default 72h; longer than a message may wait for its acks
	Reserve   journal.Size  `yaml:"reserve"`   // intake waits while less of the disk is free; default 0, a twentieth of it, from 128MiB to 1GiB
}

// Fanout decides who gets a message.
type Fanout struct {
	Shards int `yaml:"shards"` // 1 to 1024; default 64
}

// Gateway is what readers connect to.
type Gateway struct {
	Listen         string        `yaml:"listen"`          // default :8080
	Admin          string        `yaml:"admin"`           // health, metrics and the commands that look inside; default 127.0.0.1:8081
	Origins        []string      `yaml:"origins"`         // pages that may connect, each as a browser sends it
	TLS            TLS           `yaml:"tls"`             // both files or none
	Auth           Auth          `yaml:"auth"`            // how readers prove who they are
	Limits         Limits        `yaml:"limits"`          // what one reader, one address and all together may use
	TrustedProxies []string      `yaml:"trusted_proxies"` // addresses or networks whose X-Forwarded-For counts
	ProxyProtocol  bool          `yaml:"proxy_protocol"`  // they begin each connection with the PROXY protocol's header
	Drain          time.Duration `yaml:"drain"`           // within it every session is told to go elsewhere; default 10s
}

// TLS is the gateway's certificate. Load has read the pair once, so that a
// wrong one is told before anything starts.
type TLS struct {
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	MinVersion string `yaml:"min_version"` // 1.2 or 1.3; default 1.2
}

// Auth says which tokens are accepted; the key decides the algorithm.
type Auth struct {
	HS256SecretFile string `yaml:"hs256_secret_file"` // at least 32 bytes, a last line end not counted
	PublicKeyFile   string `yaml:"public_key_file"`   // PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA); several while one replaces another
	JWKSFile        string `yaml:"jwks_file"`         // a JWKS of such keys
	JWKSURL         string `yaml:"jwks_url"`          // where an identity provider has one; https, or http on loopback
	Issuer          string `yaml:"issuer"`            // iss that tokens must carry; empty: any
	Audience        string `yaml:"audience"`          // aud that tokens must carry; empty: any
	Anonymous       bool   `yaml:"anonymous"`         // readers without a token come in over WebSocket; default false

	Leeway time.Duration `yaml:"leeway"`  // by which the issuer's clock may be ahead of ours (iat, nbf); default 30s
	MaxTTL time.Duration `yaml:"max_ttl"` // tokens that live longer are refused; default 0s, any

	HS256Secret []byte             `yaml:"-"` // what HS256SecretFile held
	PublicKeys  []crypto.PublicKey `yaml:"-"` // what PublicKeyFile held
}

// Limits bounds what is taken from outside; 0 means no limit.
type Limits struct {
	Sessions            int `yaml:"sessions"`              // default 0
	SessionsPerReader   int `yaml:"sessions_per_reader"`   // default 10
	SessionsPerIP       int `yaml:"sessions_per_ip"`       // default 0
	HandshakesPerSecond int `yaml:"handshakes_per_second"` // default 0
	FramesPerSecond     int `yaml:"frames_per_second"`     // of one session, acks not counted; default 50
	TagsPerReader       int `yaml:"tags_per_reader"`       // default 500
}

// Ack says how long a reader has to acknowledge.
type Ack struct {
	Timeout   time.Duration `yaml:"timeout"`    // until the second attempt; at least 100ms, default 30s
	Retries   int           `yaml:"retries"`    // attempts after the first; default 2
	Backoff   float64       `yaml:"backoff"`    // each wait is so many times the one before; at least 1, default 2
	ReaderTTL time.Duration `yaml:"reader_ttl"` // who has not come for so long is forgotten; default 720h
}

// TotalWait is the time from a message's first attempt to its hand-over.
func (a Ack) TotalWait() time.Duration {
	return saturate(a.totalSeconds())
}

// Offline says which Kafka takes what nobody acknowledged.
type Offline struct {
	Brokers        []string `yaml:"brokers"`         // host:port each, or only "embedded"; default localhost:9092
	EmbeddedListen string   `yaml:"embedded_listen"` // where the embedded broker listens; default 127.0.0.1:9092
	Topic          string   `yaml:"topic"`           // default news-offline
	TLS            bool     `yaml:"tls"`
	SASL           SASL     `yaml:"sasl"`
}

// Embedded tells that Kafka runs inside this process.
func (o Offline) Embedded() bool {
	return len(o.Brokers) == 1 && o.Brokers[0] == embeddedBroker
}

// SASL is the login at the brokers; no mechanism means none.
type SASL struct {
	Mechanism    string `yaml:"mechanism"` // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`

	Password string `yaml:"-"` // what PasswordFile held
}

// Log says what is logged, and how a line looks.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error; default info
	Format string `yaml:"format"` // text or json; default text
}

const (
	defaultTag     = "general"  // of a table that names none
	embeddedBroker = "embedded" // stands in place of broker addresses
)

// Default is the configuration that an empty file means. It lacks what only
// the user knows: database, slot, publication, tables and the tokens' key.
func Default() Config {
	return Config{
		Postgres: Postgres{Heartbeat: 10 * time.Second},
		Journal:  Journal{Dir: "/var/lib/newswire", Retention: 72 * time.Hour},
		Fanout:   Fanout{Shards: 64},
		Gateway: Gateway{
			Listen: ":8080",
			Admin:  "127.0.0.1:8081",
			TLS:    TLS{MinVersion: "1.2"},
			Auth:   Auth{Leeway: 30 * time.Second},
			Limits: Limits{SessionsPerReader: 10, FramesPerSecond: 50, TagsPerReader: 500},
			Drain:  10 * time.Second,
		},
		Ack: Ack{Timeout: 30 * time.Second, Retries: 2, Backoff: 2, ReaderTTL: 720 * time.Hour},
		Offline: Offline{
			Brokers:        []string{"localhost:9092"},
			EmbeddedListen: "127.0.0.1:9092",
			Topic:          "news-offline",
		},
		Compensate: defaultCompensate(),
		Log:        Log{Level: "info", Format: "text"},
	}
}
