package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/engine"
)

// resync mends a gap between the database and the journal.
func (p *program) resync() *cobra.Command {
	return &cobra.Command{
		Use:   "resync",
		Short: "After a gap: replace the slot and make up for what was never read",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			cfg, err := p.load("postgres", "journal", "gateway")
			if err != nil {
				return err
			}
			if err := engine.Resync(ctx, cfg, p.stdout); err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, "Resynced: intake goes on.")
			return err
		}),
	}
}
