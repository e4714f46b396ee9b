// Package compensation makes the compensation service of the configuration: its
// channels, its Kafka, and whose tokens it takes.
package compensation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"newswire/ack/compensate"
	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/apns"
	"newswire/ack/compensate/channel/fcm"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/webhook"
	"newswire/ack/compensate/channel/webpush"
	"newswire/ack/compensate/policy"
	"newswire/ack/offline"
	"newswire/cmd/newswire/internal/config"
	"newswire/gateway/certificate"
	"newswire/gateway/tokens"
	"newswire/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
)

// Needs are the sections of the configuration that the service reads.
var Needs = []string{"gateway", "offline", "compensate", "log"}

// New makes the service. more are channels beside those of the configuration.
func New(cfg config.Config, log *slog.Logger, more map[string]channel.Channel) (*compensate.Service, error) {
	c, err := Config(cfg, log, more)
	if err != nil {
		return nil, err
	}
	return compensate.New(c)
}

// Preflight tells whether the database has the tables of this version. A server
// that cannot be reached is no fault: it is waited for. One that refuses the
// login, or has no such database, would be waited for in vain.
func Preflight(ctx context.Context, cfg config.Config) error {
	asked, cancel := context.WithTimeout(ctx, preflightPatience)
	defer cancel()
	conn, err := pgx.Connect(asked, cfg.Compensate.Postgres.DSN)
	if err != nil {
		return refusal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	set := migrations.Compensate()
	version, err := set.Applied(asked, conn)
	switch {
	case forbidden(err):
		return fmt.Errorf("the role of compensate.postgres.dsn may not read schema %[1]s: run newswire migrate as that role, or GRANT USAGE ON SCHEMA %[1]s and SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[1]s to it", set.Schema)
	case err != nil:
		return fmt.Errorf("compensate.postgres.dsn: %w", err)
	case version == 0:
		return fmt.Errorf("the database of compensate.postgres.dsn has no tables of the compensation service: run newswire migrate")
	case version < set.Latest():
		return fmt.Errorf("the tables of the compensation service are at version %d, this newswire needs %d: run newswire migrate", version, set.Latest())
	}
	if err := set.NotNewer(version); err != nil {
		return err
	}
	return rights(asked, conn, set.Schema)
}

// forbidden tells whether the server has refused a right.
func forbidden(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.Code == "42501" // insufficient_privilege
}

// rights names the tables that the role may not work on: it would fail at the
// first record.
func rights(ctx context.Context, conn *pgx.Conn, schema string) error {
	rows, err := conn.Query(ctx, `SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND relname <> 'versions'
		AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
		ORDER BY relname`, schema)
	if err != nil {
		return fmt.Errorf("ask for the rights on schema %s: %w", schema, err)
	}
	lacking, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("ask for the rights on schema %s: %w", schema, err)
	}
	if len(lacking) == 0 {
		return nil
	}
	return fmt.Errorf("the role of compensate.postgres.dsn may not read and write %s of schema %s: have their owner GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[2]s to it", strings.Join(lacking, ", "), schema)
}

// preflightPatience is how long a server is asked before it counts as away.
const preflightPatience = 10 * time.Second

// refusal is what a server says that will not change by waiting; nil: it is away.
func refusal(err error) error {
	var said *pgconn.PgError
	switch {
	case !errors.As(err, &said):
		return nil
	case strings.HasPrefix(said.Code, "28"): // invalid authorization
		return fmt.Errorf("the server of compensate.postgres.dsn refuses the login: %s (SQLSTATE %s); correct user and password, or the server's pg_hba.conf", said.Message, said.Code)
	case said.Code == "3D000": // no such database
		return fmt.Errorf("the server of compensate.postgres.dsn says: %s (SQLSTATE 3D000); create it and run newswire migrate, or correct the name", said.Message)
	}
	return nil
}

// Config is what the service works with.
func Config(cfg config.Config, log *slog.Logger, more map[string]channel.Channel) (compensate.Config, error) {
	m := cfg.Compensate
	channels, lanes, err := channels(m.Channels)
	if err != nil {
		return compensate.Config{}, err
	}
	rules := m.Rules()
	for name, ch := range more {
		channels[name] = ch
		rules.Channels[name] = policy.Channel{Corrections: true}
	}
	if len(channels) == 0 {
		return compensate.Config{}, errors.New("compensate.channels names none: configure at least one of webpush, apns, fcm, sms and webhook")
	}
	if m.Postgres.DSN == "" {
		return compensate.Config{}, errors.New("compensate.postgres.dsn is missing: write how to reach the database that newswire migrate has prepared, or name the file that says so in compensate.postgres.dsn_file")
	}
	kafka, err := kafkaOf(cfg)
	if err != nil {
		return compensate.Config{}, err
	}
	verifier, err := tokens.New(cfg.Gateway.Auth.Tokens(), log)
	if err != nil {
		return compensate.Config{}, err
	}
	pair, err := pairOf(cfg.Gateway.TLS, log)
	if err != nil {
		return compensate.Config{}, err
	}
	var over *tls.Config
	if pair != nil {
		over = pair.TLS(cfg.Gateway.TLS.Least())
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return compensate.Config{
		Kafka: kafka, DSN: m.Postgres.DSN, Channels: channels, Lanes: lanes, Policy: rules,
		Listen: m.Listen, Admin: m.Admin, Origins: cfg.Gateway.Origins, TLS: over,
		Verify: func(token string) (compensate.Caller, error) {
			holder, err := verifier.Verify(context.Background(), token)
			if errors.Is(err, tokens.ErrUnavailable) {
				err = compensate.ErrUnavailable
			}
			return compensate.Caller{Reader: holder.Reader, Backend: holder.Role == tokens.RoleBackend}, err
		},
		Follow:  follower(verifier, pair),
		Backlog: m.Backlog, Retention: m.Retention, Lease: m.Lease, DeviceTTL: m.DeviceTTL, Registry: registry, Log: log,
	}, nil
}

// channels makes those that are configured; files with keys are read here.
func channels(c *config.Channels) (map[string]channel.Channel, map[string]compensate.Lane, error) {
	made := make(map[string]channel.Channel)
	lanes := make(map[string]compensate.Lane)
	var faults []error
	for _, one := range c.Configured() {
		ch, err := open(one.Name, c)
		if err != nil {
			faults = append(faults, fmt.Errorf("compensate.channels.%s: %w", one.Name, err))
			continue
		}
		made[one.Name] = ch
		lanes[one.Name] = compensate.Lane{
			Concurrency: one.Policy.Concurrency, Trip: one.Policy.Trip, Rest: one.Policy.Rest, BackendOnly: one.OnlyBackend(),
		}
	}
	return made, lanes, errors.Join(faults...)
}

func open(name string, c *config.Channels) (channel.Channel, error) {
	switch name {
	case "webpush":
		return webpush.New(c.WebPush.Config)
	case "apns":
		return apns.New(c.APNs.Config)
	case "fcm":
		return fcm.New(c.FCM.Config)
	case "sms":
		return sms.New(c.SMS.Config)
	}
	return webhook.New(c.Webhook.Config)
}

func kafkaOf(cfg config.Config) (compensate.Kafka, error) {
	o := cfg.Offline
	mechanism, err := offline.SASL{Mechanism: o.SASL.Mechanism, Username: o.SASL.Username, Password: o.SASL.Password}.Login()
	if err != nil {
		return compensate.Kafka{}, err
	}
	k := compensate.Kafka{Brokers: o.Brokers, Topic: o.Topic, Group: cfg.Compensate.Group, SASL: mechanism}
	if o.Embedded() {
		k.Brokers = []string{o.EmbeddedListen} // in the engine's process
	}
	if o.TLS {
		k.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return k, nil
}

// pairOf gives the gateway's certificate: both are the site's to its readers. Nil
// where TLS is not configured.
func pairOf(t config.TLS, log *slog.Logger) (*certificate.Pair, error) {
	if t.CertFile == "" {
		return nil, nil
	}
	pair, err := certificate.Open(t.CertFile, t.KeyFile, log)
	if err != nil {
		return nil, fmt.Errorf("gateway.tls cannot be used: %w", err)
	}
	return pair, nil
}

// follower keeps keys and certificate up to date until ctx ends.
func follower(verifier *tokens.Verifier, pair *certificate.Pair) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var group errgroup.Group
		group.Go(func() error { return verifier.Run(ctx) })
		if pair != nil {
			group.Go(func() error { return pair.Run(ctx) })
		}
		return group.Wait()
	}
}
