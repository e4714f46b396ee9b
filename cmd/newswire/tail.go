package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/engine"
	"newswire/fanout/journal"
)

// tail prints the journal as it grows.
func (p *program) tail() *cobra.Command {
	var from, tag string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the journal's messages as JSON lines, live",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			if from != "" {
				if _, err := journal.ParseID(from); err != nil {
					return usageError{fmt.Errorf("--from %q: %w", from, err)}
				}
			}
			cfg, err := p.load("journal", "gateway")
			if err != nil {
				return err
			}
			return engine.Tail(ctx, cfg, from, tag, p.stdout)
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "message `id` to begin at; default the oldest that is kept")
	cmd.Flags().StringVar(&tag, "tag", "", "print only messages with this `tag`")
	return cmd
}
