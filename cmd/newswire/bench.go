package main

import (
	"context"

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
	cmd.AddCommand(p.benchDrain())
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
	flags.StringVar(&d.Profile, "profile", "", "`file` for a CPU profile of the engine's last run")
	return cmd
}
