package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/bench"
	"newswire/cmd/newswire/internal/bench/yard"
	"newswire/cmd/newswire/internal/config"
)

func (p *program) benchFanout() *cobra.Command {
	var f bench.Fanout
	cmd := &cobra.Command{
		Use:   "fanout",
		Short: "Send messages to thousands of readers: a bare loop of write(2), goroutines and channels, and the engine",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			f.Stdout = p.stdout
			return f.Run(ctx)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&f.Readers, "readers", 5000, "`number` of connections")
	flags.IntVar(&f.Rate, "rate", 5, "`number` of messages a second")
	flags.DurationVar(&f.For, "for", 10*time.Second, "`time` of one measurement")
	flags.IntVar(&f.Burst, "burst", 300, "`number` of messages of a burst; 0 for none")
	flags.IntVar(&f.BurstReaders, "burst-readers", 2000, "`number` of connections that get a burst")
	flags.IntVar(&f.Runs, "runs", 3, "`number` of measurements of each")
	flags.BoolVar(&f.Curve, "curve", false, "instead: the engine with 1,000 to 15,000 readers")
	flags.BoolVar(&f.Reconnect, "reconnect", false, "instead: all readers come back after the engine was killed")
	flags.IntVar(&f.Stalled, "stalled", 0, "instead: `number` of the readers who stop reading, and what that costs the others")
	flags.StringVar(&f.Profile, "profile", "", "`directory` for CPU profiles")
	return cmd
}

func (p *program) benchLatency() *cobra.Command {
	var l bench.Latency
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Time from the commit to the reader's socket, beside pg_recvlogical's pipe",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			l.Stdout = p.stdout
			return l.Run(ctx, p.logger(config.Log{Level: "warn"}))
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&l.Readers, "readers", 1000, "`number` of connections")
	flags.IntVar(&l.Rate, "rate", 50, "`number` of commits a second")
	flags.DurationVar(&l.For, "for", 10*time.Second, "`time` of one measurement")
	flags.IntVar(&l.Runs, "runs", 3, "`number` of measurements of each")
	flags.StringVar(&l.PGBin, "pg-bin", "", "`directory` of PostgreSQL's programs; default the newest there is")
	return cmd
}

func (p *program) benchFlood() *cobra.Command {
	var f bench.Flood
	cmd := &cobra.Command{
		Use:   "flood",
		Short: "Time from the commit to the reader's socket, without and with others who flood the gateway",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			f.Stdout = p.stdout
			return f.Run(ctx, p.logger(config.Log{Level: "warn"}))
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&f.Readers, "readers", 200, "`number` of readers who wait for news")
	flags.IntVar(&f.Rate, "rate", 50, "`number` of commits a second")
	flags.DurationVar(&f.For, "for", 6*time.Second, "`time` of one measurement")
	flags.IntVar(&f.Runs, "runs", 3, "`number` of measurements of each")
	flags.StringVar(&f.PGBin, "pg-bin", "", "`directory` of PostgreSQL's programs; default the newest there is")
	return cmd
}

// benchSiege is a flood, which the benchmark starts.
func (p *program) benchSiege() *cobra.Command {
	return &cobra.Command{
		Use: "siege KIND ADDRESS", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return work(func(ctx context.Context) error { return bench.Siege(ctx, args[0], args[1], os.Stdin, p.stdout) })(cmd, nil)
		},
	}
}

// benchYard is one server of the fan-out benchmark, which starts it.
func (p *program) benchYard() *cobra.Command {
	return &cobra.Command{
		Use: "yard KIND DIRECTORY ADDRESS", Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return work(func(ctx context.Context) error { return yard.Serve(ctx, args[0], args[1], args[2], os.Stdin, p.stdout) })(cmd, nil)
		},
	}
}
