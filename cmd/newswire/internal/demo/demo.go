// Package demo runs the whole of Newswire on one machine: a PostgreSQL of its
// own, an embedded Kafka, the engine, and a page to try it on.
//
// It promises to touch nothing but its directory and its five addresses, to
// leave no process behind, and to find everything as it was when it is started
// again.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"newswire/ack/compensate"
	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/local"
	"newswire/ack/compensate/channel/webpush"
	"newswire/cdc/cluster"
	"newswire/cmd/newswire/internal/compensation"
	"newswire/cmd/newswire/internal/config"
	"newswire/cmd/newswire/internal/demo/site"
	"newswire/cmd/newswire/internal/engine"
)

// stopPatience bounds PostgreSQL's shutdown; a checkpoint of the demo's few
// megabytes takes well under a second.
const stopPatience = 30 * time.Second

// Run starts everything, announces the page on o.Stdout once it is live, and
// ends with ctx: first the engine, then PostgreSQL. The data stays.
func Run(ctx context.Context, o Options, log *slog.Logger) (err error) {
	if o, err = o.complete(); err != nil {
		return err
	}
	start := time.Now()
	say := func(format string, args ...any) { fmt.Fprintf(o.Stdout, format+"\n", args...) }
	bin, err := cluster.FindBinaries(o.PGBin)
	if err != nil {
		return err
	}
	// Others may pass through, not look around: PostgreSQL is another user when we are root.
	if err := errors.Join(os.MkdirAll(o.Dir, 0o711), os.MkdirAll(filepath.Join(o.Dir, "journal"), 0o700)); err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	say("Newswire demo in %s.", o.Dir)
	secret, err := secretFile(filepath.Join(o.Dir, "token-secret"))
	if err != nil {
		return err
	}
	if _, err := webpush.KeyFile(filepath.Join(o.Dir, vapidFile)); err != nil {
		return fmt.Errorf("make the key of Web Push: %w", err)
	}
	say("Starting PostgreSQL with the programs in %s …", bin)
	pg, err := cluster.Start(ctx, cluster.Config{Dir: filepath.Join(o.Dir, "postgres"), BinDir: bin}, log)
	if err != nil {
		return startFault(ctx, o, err)
	}
	defer func() {
		if fault := stop(ctx, pg); fault != nil {
			err = errors.Join(err, fault)
			return
		}
		say("Stopped. The data stays in %s: the next demo goes on with it, and deleting it begins anew.", o.Dir)
	}()
	if err := prepare(ctx, pg, say); err != nil {
		return unlessEnded(ctx, err)
	}
	commands := commands(o, pg, bin)
	cfg := configure(o, pg, secret)
	page, service, err := assemble(o, pg, cfg, commands, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	say("Starting the engine …")
	ready := func(engine.Addresses) { announce(o, commands, time.Since(start), say) }
	return unlessEnded(ctx, serve(ctx, o, pg, page, service, cfg, ready, log, say))
}

// assemble makes the page and the compensation service, which share the readers'
// telephones.
func assemble(o Options, pg *cluster.Cluster, cfg config.Config, commands site.Commands, log *slog.Logger) (*site.Site, *compensate.Service, error) {
	telephones, err := local.New(local.Config{})
	if err != nil {
		return nil, nil, err
	}
	page, err := site.New(site.Config{
		Host:      o.host(),
		Secret:    cfg.Gateway.Auth.HS256Secret,
		EditorDSN: pg.DSN(database, editor),
		Topic:     cfg.Offline.Topic,
		Devices:   port(o.Devices),
		Phone:     telephones.Shown,
		Commands:  commands,
	}, log)
	if err != nil {
		return nil, nil, err
	}
	service, err := compensation.New(cfg, log, map[string]channel.Channel{"phone": telephones})
	return page, service, err
}

// port is that of an address, which complete has read.
func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// serve runs engine, compensation and page until ctx ends or one of them, or
// PostgreSQL, has ended.
func serve(ctx context.Context, o Options, pg *cluster.Cluster, page *site.Site, service *compensate.Service, cfg config.Config,
	ready func(engine.Addresses), log *slog.Logger, say func(string, ...any)) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("configure the engine: %w", err)
	}
	outer := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := engine.Run(ctx, cfg, log, engine.Options{Site: page, OnReady: ready})
		if err == nil && ctx.Err() == nil {
			err = errors.New("the engine has ended by itself")
		}
		return err
	})
	g.Go(func() error { return service.Run(ctx) }) // which waits for the engine's Kafka
	g.Go(func() error { return page.Run(ctx, []string{o.KafkaListen}) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			if outer.Err() != nil {
				say("\nStopping …")
			}
			return nil
		case <-pg.Done():
			return fmt.Errorf("PostgreSQL has ended by itself: %s says why", pg.LogFile())
		}
	})
	return g.Wait()
}

// configure writes down what the user's own configuration would say.
func configure(o Options, pg *cluster.Cluster, secret []byte) config.Config {
	cfg := config.Default()
	cfg.Postgres.DSN = pg.DSN(database, name)
	cfg.Postgres.Slot = name
	cfg.Postgres.Publication = name
	cfg.Postgres.Tables = []config.Table{{
		Name:       schema + "." + table,
		Tags:       config.Tags{Column: "tags"},
		DefaultTag: "general",
		Data:       columns,
		Published:  &config.Published{Column: "status", Equals: "published"},
	}}
	cfg.Journal.Dir = filepath.Join(o.Dir, "journal")
	cfg.Gateway.Listen = o.Listen
	cfg.Gateway.Admin = o.Admin
	cfg.Gateway.Origins = o.origins()
	cfg.Gateway.Auth.HS256Secret = secret
	cfg.Gateway.Drain = time.Second // a page that has been told will come back anyway
	cfg.Ack.Timeout = o.AckTimeout
	cfg.Offline.Brokers = []string{"embedded"}
	cfg.Offline.EmbeddedListen = o.KafkaListen
	cfg.Compensate.Listen = o.Devices
	cfg.Compensate.Admin = o.Compensate
	cfg.Compensate.Postgres.DSN = pg.DSN(phones, cluster.Superuser)
	cfg.Compensate.Channels = &config.Channels{WebPush: &config.WebPush{
		Config: webpush.Config{KeyFile: filepath.Join(o.Dir, vapidFile), Subject: "https://newswire.example.com/"},
	}}
	return cfg
}

// vapidFile holds the key that browsers' push services know the demo by.
const vapidFile = "vapid.pem"

// secretFile gives the secret that signs tokens, made at the first start.
func secretFile(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil {
		return secret, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the token secret: %w", err)
	}
	random := make([]byte, 48)
	rand.Read(random) // never fails: without randomness the process ends
	secret = base64.StdEncoding.AppendEncode(nil, random)
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("write the token secret: %w", err)
	}
	return secret, nil
}

// commands do from a shell what the page does.
func commands(o Options, pg *cluster.Cluster, bin string) site.Commands {
	psql := "psql"
	if path := filepath.Join(bin, psql); executable(path) {
		psql = quote(path)
	}
	insert := `INSERT INTO articles (title, tags) VALUES ('Saved with psql', ARRAY['tech'])`
	return site.Commands{
		Psql: fmt.Sprintf(`%s %s -c "%s"`, psql, quote(pg.DSN(database, editor)), insert),
		Kcat: fmt.Sprintf("kcat -C -b %s -t %s -o beginning -u", o.KafkaListen, config.Default().Offline.Topic),
	}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// quote makes one word of a POSIX shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func announce(o Options, c site.Commands, took time.Duration, say func(string, ...any)) {
	say("Ready after %.1f s.\n", took.Seconds())
	say("  The page:  %s\n", o.page())
	say("  Save an article from a shell:\n    %s\n", c.Psql)
	say("  What nobody acknowledged, as Kafka clients see it:\n    %s\n", c.Kcat)
	say("  Health and metrics:  http://%s/readyz  http://%[1]s/metrics", o.Admin)
	say("  … of what reaches telephones:  http://%s/readyz  http://%[1]s/metrics\n", o.Compensate)
	if o.open() {
		say("  Other machines can reach %s, where SQL is run as the role %s: leave it open only among friends.\n", o.Listen, editor)
	}
	say("Ctrl-C ends it.")
}

// startFault puts PostgreSQL's refusal into the words of the demo.
func startFault(ctx context.Context, o Options, err error) error {
	if errors.Is(err, cluster.ErrRunning) {
		return fmt.Errorf("another demo runs in %s: end it, or name another directory with --dir (%w)", o.Dir, err)
	}
	return unlessEnded(ctx, err)
}

// unlessEnded gives no error for what ends because the user has ended it.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func stop(ctx context.Context, pg *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	if err := pg.Stop(ctx); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}
