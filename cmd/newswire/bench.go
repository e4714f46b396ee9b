package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/bench"
	"newswire/cmd/newswire/internal/config"
)

// bench measures this program beside a yardstick, on a throw-away PostgreSQL.
func (p *program) bench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this program beside a yardstick, on a throw-away PostgreSQL",
		Args:  nameCommand,
		RunE:  func(*cobra.Command, []string) error { return nil }, // Args refuses whatever comes here
	}
	cmd.AddCommand(p.benchDrain(), p.benchEditors(), p.benchFanout(), p.benchFlood(), p.benchLatency(), p.benchSiege(), p.benchYard())
	return cmd
}

func (p *program) benchDrain() *cobra.Command {
	var d bench.Drain
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Drain a backlog with pg_recvlogical and with the engine",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			d.Stdout = p.stdout
			return d.Run(ctx, p.logger(config.Log{Level: "warn"}))
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&d.Commits, "commits", 100_000, "`number` of commits of one row")
	flags.IntVar(&d.Rows, "rows", 300_000, "`number` of rows of one commit behind them; 0 for none")
	flags.IntVar(&d.Runs, "runs", 3, "`number` of runs of each")
	flags.StringVar(&d.PGBin, "pg-bin", "", "`directory` of PostgreSQL's programs; default the newest there is")
	flags.BoolVar(&d.Discard, "discard", false, "let pg_recvlogical throw away what it gets")
	flags.StringVar(&d.Profile, "profile", "", "`file` for a CPU profile of the engine's last run")
	return cmd
}

func (p *program) benchEditors() *cobra.Command {
	var e bench.Editors
	cmd := &cobra.Command{
		Use:   "editors",
		Short: "Save articles with pgbench, without and with the engine behind the slot",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			e.Stdout = p.stdout
			return e.Run(ctx, p.logger(config.Log{Level: "warn"}))
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&e.Clients, "clients", 4, "`number` of editors that save at the same time")
	flags.IntVar(&e.Rate, "rate", 0, "`number` of saves a second; 0 for as many as can be")
	flags.DurationVar(&e.For, "for", 10*time.Second, "`time` of one measurement")
	flags.IntVar(&e.Runs, "runs", 3, "`number` of measurements of each")
	flags.StringVar(&e.PGBin, "pg-bin", "", "`directory` of PostgreSQL's programs; default the newest there is")
	return cmd
}
