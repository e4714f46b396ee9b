package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/bench"
	"newswire/cmd/newswire/internal/bench/yard"
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
	flags.StringVar(&f.Profile, "profile", "", "`directory` for CPU profiles")
	return cmd
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
