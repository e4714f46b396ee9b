// Package engine is the whole of Newswire in one process: it wires the hops,
// starts them against the flow and stops them with it, so that whoever hands
// something on always finds the next hop there.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"newswire/ack"
	"newswire/ack/compensate/store"
	"newswire/ack/offline"
	"newswire/cdc"
	"newswire/cmd/newswire/internal/config"
	"newswire/fanout"
	"newswire/fanout/journal"
	"newswire/fanout/journal/fault"
	"newswire/gateway"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options are what a caller inside the program adds to the configuration.
type Options struct {
	Site    http.Handler    // serves on gateway.listen what is not the gateway's
	OnReady func(Addresses) // called once, when everything is live
	Feed    Feed            // takes the slot's place, for measurements; nil: the slot of the configuration
}

// Addresses are where a running engine is reached.
type Addresses struct {
	Gateway string   `json:"gateway"`
	Admin   string   `json:"admin"`
	Brokers []string `json:"brokers"`
}

// Run serves until ctx ends, and returns nil when everything is written and
// everybody was sent away. Before anything else it checks the database; faults
// come back joined, a sentence each. A server that cannot be reached is waited
// for, and so is another engine that holds the journal. One that has nothing to
// read any more still delivers what its journal holds.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger, opts Options) error {
	source := ListenerConfig(cfg)
	var unread error
	if opts.Feed == nil {
		unread = cdc.Preflight(ctx, source)
	}
	switch {
	case errors.Is(unread, cdc.ErrUnreachable):
		log.Warn("waiting for the database", "err", unread)
		unread = nil
	case unread != nil && !cdc.OnlyIntake(unread):
		return unread
	}
	j, err := openJournal(ctx, cfg, log)
	if err != nil || j == nil {
		return err
	}
	if _, began := j.journal.Source(); unread != nil && !began {
		return errors.Join(unread, j.journal.Close())
	}
	e, err := build(cfg, source, j, log, opts)
	if err != nil {
		return errors.Join(err, j.journal.Close())
	}
	err = e.run(ctx)
	if e.devices != nil {
		e.devices.Close()
	}
	return errors.Join(err, j.journal.Close())
}

// held is an open journal with the registry that its metrics are in.
type held struct {
	journal  *journal.Journal
	registry *prometheus.Registry
}

// standBy is how often an engine that stands by looks whether the journal is
// free.
const standBy = 500 * time.Millisecond

// openJournal opens the journal. While another process has it, this one stands
// by: it holds no port and no slot. It gives nil when ctx ends first.
func openJournal(ctx context.Context, cfg config.Config, log *slog.Logger) (*held, error) {
	if err := os.MkdirAll(cfg.Journal.Dir, 0o750); err != nil {
		return nil, dirFault(err)
	}
	for told := false; ; told = true {
		reg := prometheus.NewRegistry()
		j, err := journal.Open(journal.Config{Dir: cfg.Journal.Dir, Reserve: cfg.Journal.Reserve, Unsynced: fault.On(fault.Unsynced)}, log, reg)
		switch {
		case err == nil:
			reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			return &held{j, reg}, nil
		case !errors.Is(err, journal.ErrHeld):
			return nil, err
		case !told:
			log.Info("standing by, to take over when the process ends that has the journal", "why", err)
		}
		select {
		case <-time.After(standBy):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// forgetConns bounds what readers who want to be forgotten use of the compensation
// service's database.
const forgetConns = 2

// engine is the hops, in flow order.
type engine struct {
	cfg      config.Config
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	started  time.Time
	devices  *store.Store // of the compensation service; nil where its database is not configured

	listener source
	journal  *journal.Journal
	readers  *fanout.Readers
	router   *fanout.Router
	pools    *gateway.Pools
	gateway  *gateway.Gateway
	ledger   *ack.Ledger
	backlog  *ack.Backlog
	sender   *offline.Sender
	admin    *admin

	lastAudit    atomic.Pointer[audited] // nil before the first one
	auditMetrics *auditMetrics

	resyncs chan resyncRequest // the admin listener sends, intake receives; never closed
}

func build(cfg config.Config, source cdc.Config, j *held, log *slog.Logger, opts Options) (*engine, error) {
	e := &engine{cfg: cfg, opts: opts, log: log, registry: j.registry, journal: j.journal, started: time.Now(), resyncs: make(chan resyncRequest)}
	home := fanout.InJournal(e.journal)
	readers, err := fanout.OpenReaders(home, e.registry)
	if err != nil {
		return nil, err
	}
	e.readers = readers
	if e.listener, err = newSource(source, opts.Feed, e.journal, log, e.registry); err != nil {
		return nil, err
	}
	e.ledger, err = ack.New(ack.Config{
		Timeout: cfg.Ack.Timeout, Retries: cfg.Ack.Retries, Backoff: cfg.Ack.Backoff,
	}, e.journal, readers, log, e.registry)
	if err != nil {
		return nil, err
	}
	e.auditMetrics = newAuditMetrics(e.registry, e.ledger)
	door, err := gatewayConfig(cfg, opts)
	if err != nil {
		return nil, err
	}
	if e.backlog, err = ack.NewBacklog(e.journal); err != nil {
		return nil, err
	}
	accounts := ack.NewAccounts(e.ledger, e.backlog)
	e.pools = gateway.NewPools(door, accounts, e.journal, log, e.registry)
	if e.router, err = fanout.NewRouter(cfg.Fanout.Shards, e.journal, home, accounts, e.pools, log, e.registry); err != nil {
		return nil, err
	}
	if dsn := cfg.Compensate.Postgres.DSN; dsn != "" {
		if e.devices, err = store.New(store.Config{DSN: dsn, Name: "newswire serve", MaxConns: forgetConns}); err != nil {
			return nil, err
		}
		door.Forget = e.devices.Forget
	}
	if e.gateway, err = gateway.New(door, e.pools, readers, e.router, log); err != nil {
		return nil, err
	}
	if e.admin, err = newAdmin(cfg.Gateway.Admin, e); err != nil {
		return nil, err
	}
	e.sender, err = offline.New(offline.Config{
		Brokers: cfg.Offline.Brokers, EmbeddedListen: cfg.Offline.EmbeddedListen, Dir: cfg.Journal.Dir,
		Topic: cfg.Offline.Topic, TLS: cfg.Offline.TLS,
		SASL: offline.SASL{
			Mechanism: cfg.Offline.SASL.Mechanism, Username: cfg.Offline.SASL.Username, Password: cfg.Offline.SASL.Password,
		},
		Source: "newswire/" + cfg.Postgres.Slot,
	}, e.ledger, log, e.registry)
	if err != nil {
		return nil, errors.Join(err, e.admin.listener.Close())
	}
	return e, nil
}

// ListenerConfig is what cdc needs of the configuration.
func ListenerConfig(cfg config.Config) cdc.Config {
	c := cdc.Config{
		DSN: cfg.Postgres.DSN, Slot: cfg.Postgres.Slot, Publication: cfg.Postgres.Publication,
		Heartbeat: cfg.Postgres.Heartbeat, Backfill: cfg.Postgres.Backfill,
	}
	for _, t := range cfg.Postgres.Tables {
		table := cdc.Table{
			Name: t.Name, DefaultTag: t.DefaultTag, Data: t.Data, Time: t.Time,
			Tags: cdc.Tags{Column: t.Tags.Column, Columns: t.Tags.Columns, Query: t.Tags.Query},
		}
		for _, l := range t.Tags.Links {
			table.Tags.Links = append(table.Tags.Links, cdc.Link{Table: l.Table, Key: l.Key})
		}
		for at, p := &table.Published, t.Published; p != nil; at, p = &(*at).And, p.And {
			*at = &cdc.Published{Column: p.Column, Equals: p.Equals, Reached: p.Reached}
		}
		c.Tables = append(c.Tables, table)
	}
	return c
}

// gatewayConfig is what the gateway needs of the configuration.
func gatewayConfig(cfg config.Config, opts Options) (gateway.Config, error) {
	g := cfg.Gateway
	proxies, err := parseProxies(g.TrustedProxies)
	return gateway.Config{
		Listen: g.Listen, Origins: g.Origins, CertFile: g.TLS.CertFile, KeyFile: g.TLS.KeyFile, MinTLS: g.TLS.Least(), ProxyProtocol: g.ProxyProtocol,
		Auth: g.Auth.Tokens(), Anonymous: g.Auth.Anonymous,
		Limits: gateway.Limits{
			Sessions: g.Limits.Sessions, SessionsPerReader: g.Limits.SessionsPerReader,
			SessionsPerIP: g.Limits.SessionsPerIP, HandshakesPerSecond: g.Limits.HandshakesPerSecond,
			FramesPerSecond: g.Limits.FramesPerSecond, TagsPerReader: g.Limits.TagsPerReader,
		},
		TrustedProxies: proxies, Drain: g.Drain, AckTimeout: cfg.Ack.Timeout, Site: opts.Site,
	}, err
}

// parseProxies reads addresses and networks.
func parseProxies(texts []string) (nets []netip.Prefix, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("gateway.trusted_proxies: %q is no address and no network", text)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		nets = append(nets, p)
	}
	return nets, nil
}

// courier lets the ledger ask the pools.
type courier struct{ *gateway.Pools }

func (c courier) Presence(of *roaring.Bitmap, lately time.Duration) ack.Presence {
	connected, changed := c.Pools.Presence(of, lately)
	return ack.Presence{Connected: connected, Changed: changed}
}

// presence lets the readers' keeper ask the pools and the ledger.
type presence struct {
	*gateway.Pools
	ledger *ack.Ledger
}

func (p presence) Pending(of *roaring.Bitmap) *roaring.Bitmap { return p.ledger.Pending(of) }

// reasons tells why the engine is not ready; none when it is.
func (e *engine) reasons() (why []string) {
	for _, err := range []error{e.listener.Ready(), e.journal.Full(), e.gateway.Ready()} {
		if err != nil {
			why = append(why, err.Error())
		}
	}
	if !e.router.CaughtUp() {
		why = append(why, "the journal's messages are still being routed")
	}
	return why
}

func (e *engine) addresses() Addresses {
	return Addresses{e.gateway.Addr().String(), e.admin.listener.Addr().String(), e.sender.Brokers()}
}

// armedWithout is how many ack timeouts the ledger waits for readiness. A
// database that stays away, or a gap that nobody mends, must not keep what is
// in the journal from being handed over.
const armedWithout = 10

// watch arms the ledger and tells the caller once the engine is ready.
func (e *engine) watch(ctx context.Context) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	var admits time.Time
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		if e.gateway.Ready() != nil {
			continue
		}
		if admits.IsZero() {
			admits = time.Now()
		}
		if len(e.reasons()) == 0 {
			break
		}
		if time.Since(admits) > armedWithout*e.cfg.Ack.Timeout {
			e.ledger.Arm()
		}
	}
	e.ledger.Arm()
	e.log.Info("ready", "gateway", e.gateway.Addr().String(), "admin", e.admin.listener.Addr().String(), "brokers", e.sender.Brokers())
	if e.opts.OnReady != nil {
		e.opts.OnReady(e.addresses())
	}
	return nil
}

// listen takes an address; the error names the configuration key and the remedy.
func listen(key, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w; choose another address or end the process that has it", key, address, rootCause(err))
	}
	return ln, nil
}

// rootCause gives the last error in a chain, for one plain sentence.
func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
