package main

import (
	"context"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/engine"
)

// serve runs the engine until a signal ends it.
func (p *program) serve() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the engine: read the slot, deliver, hand over what nobody acknowledged",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			p.spareMemory()
			return engine.Run(ctx, cfg, p.logger(cfg.Log), engine.Options{})
		}),
	}
}
