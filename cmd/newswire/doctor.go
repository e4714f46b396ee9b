package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"newswire/ack/offline"
	"newswire/cdc"
	"newswire/cdc/doctor"
	"newswire/cdc/setup"
	"newswire/cmd/newswire/internal/config"
	"newswire/cmd/newswire/internal/engine"
	"newswire/fanout/journal"
)

// doctor examines what serve depends on.
func (p *program) doctor() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check server, rights, slot, Kafka and disk; each finding with its remedy",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			cfg, err := p.load("postgres", "journal", "offline")
			if err != nil {
				return err
			}
			examined, err := doctorConfig(cfg)
			if err != nil {
				return usageError{err}
			}
			report := doctor.Run(ctx, examined)
			if err := p.print(report, asJSON); err != nil {
				return err
			}
			if n := report.Count(doctor.Fatal); n > 0 {
				return fmt.Errorf("fatal findings: %d; newswire cannot serve so, or editors cannot save", n)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of text")
	return cmd
}

// print writes what a command has found, for people or for programs.
func (p *program) print(found fmt.Stringer, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprint(p.stdout, found)
		return err
	}
	out := json.NewEncoder(p.stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(found)
}

// doctorConfig says what the configuration depends on.
func doctorConfig(cfg config.Config) (doctor.Config, error) {
	d := doctor.Config{
		DSN: cfg.Postgres.DSN, Slot: cfg.Postgres.Slot, Publication: cfg.Postgres.Publication,
		Heartbeat: cfg.Postgres.Heartbeat, Backfill: cfg.Postgres.Backfill > 0, JournalDir: cfg.Journal.Dir, JournalReserve: cfg.Journal.Reserve,
		Journal: func(ctx context.Context) (journal.LSN, bool) { return journalPosition(ctx, cfg) },
		Engine: func(ctx context.Context) ([]string, bool) {
			s, err := askEngine(ctx, cfg.Gateway.Admin)
			return s.Reasons, err == nil
		},
	}
	listener := engine.ListenerConfig(cfg)
	wanted, err := listener.Setup()
	if err != nil {
		return d, err
	}
	d.Preflight = func(ctx context.Context) error { return cdc.Preflight(ctx, listener) }
	for i, t := range cfg.Postgres.Tables {
		key, w := fmt.Sprintf("postgres.tables[%d]", i), wanted.Tables[i]
		table := doctor.Table{
			Schema: w.Schema, Name: w.Name, Key: key, All: len(t.Data) == 0, News: w.News, Why: w.Why,
		}
		for _, column := range t.Columns() {
			table.Columns = append(table.Columns, doctor.Column{Name: column, Key: key + "." + namedBy(t, column)})
		}
		d.Tables = append(d.Tables, table)
	}
	d.Tables, d.Queries = append(d.Tables, linkTables(cfg.Postgres.Tables, wanted.Tables)...), wanted.Queries
	d.Ask = func(ctx context.Context, q setup.Query) ([]string, error) {
		return cdc.CheckQuery(ctx, listener, q.Key)
	}
	if !cfg.Offline.Embedded() {
		d.Kafka = func(ctx context.Context) []string { return offline.CheckTopic(ctx, offlineConfig(cfg)) }
	}
	return d, nil
}

// linkTables are those that only tie rows of others to their tags: they are
// wanted behind the mapped ones.
func linkTables(mapped []config.Table, wanted []setup.Table) (links []doctor.Table) {
	for _, w := range wanted[len(mapped):] {
		table := doctor.Table{Schema: w.Schema, Name: w.Name, Link: true}
		for i, t := range mapped {
			for k, l := range t.Tags.Links {
				schema, name, err := config.Table{Name: l.Table}.Split()
				if err != nil || schema != w.Schema || name != w.Name {
					continue
				}
				table.Key = fmt.Sprintf("postgres.tables[%d].tags.links[%d]", i, k)
				for n, column := range l.Key {
					table.Columns = append(table.Columns, doctor.Column{Name: column, Key: fmt.Sprintf("%s.key[%d]", table.Key, n)})
				}
			}
		}
		links = append(links, table)
	}
	return links
}

// namedBy is the key of the table that names the column.
func namedBy(t config.Table, column string) string {
	switch {
	case column == t.Tags.Column:
		return "tags.column"
	case slices.Contains(t.Data, column):
		return fmt.Sprintf("data[%d]", slices.Index(t.Data, column))
	case slices.Contains(t.Tags.Columns, column):
		return fmt.Sprintf("tags.columns[%d]", slices.Index(t.Tags.Columns, column))
	}
	return "published.column"
}

func offlineConfig(cfg config.Config) offline.Config {
	return offline.Config{
		Brokers: cfg.Offline.Brokers, EmbeddedListen: cfg.Offline.EmbeddedListen, Dir: cfg.Journal.Dir,
		Topic: cfg.Offline.Topic, TLS: cfg.Offline.TLS,
		SASL: offline.SASL{
			Mechanism: cfg.Offline.SASL.Mechanism, Username: cfg.Offline.SASL.Username, Password: cfg.Offline.SASL.Password,
		},
		Source: "newswire/" + cfg.Postgres.Slot,
	}
}

// askTimeout is what a running engine is given to say where its journal ends.
const askTimeout = 2 * time.Second

// journalPosition asks the running engine up to where its journal has
// everything, or reads the journal when none runs; 0 is an empty one, or none
// yet. ok is false when neither tells.
func journalPosition(ctx context.Context, cfg config.Config) (at journal.LSN, ok bool) {
	if s, err := askEngine(ctx, cfg.Gateway.Admin); err == nil {
		at, err := journal.ParseLSN(s.Journal.Confirmed)
		return at, err == nil
	}
	j, err := engine.OpenAtRest(cfg)
	if errors.Is(err, engine.ErrNoJournal) {
		return 0, true
	}
	if err != nil {
		return 0, false
	}
	at = j.Confirmed()
	return at, j.Close() == nil
}

func askEngine(ctx context.Context, admin string) (s engine.Status, err error) {
	host, port, err := net.SplitHostPort(admin)
	if err != nil {
		return s, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // what listens everywhere is reached there
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, errors.New("the engine answers " + resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
