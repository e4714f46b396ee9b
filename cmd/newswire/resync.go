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
		Short: "After a gap: make up for what was never read, with a new slot where the old one cannot give it",
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
