package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// config holds the commands about the configuration.
func (p *program) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config COMMAND",
		Short: "Check or print the configuration",
		Args:  nameCommand,
		RunE:  func(*cobra.Command, []string) error { return nil }, // Args refuses whatever comes here
	}
	cmd.AddCommand(p.configCheck())
	return cmd
}

func (p *program) configCheck() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, secret files included, without connecting anywhere",
		Args:  noArguments,
		RunE: work(func(context.Context) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			if show {
				_, err = fmt.Fprint(p.stdout, cfg.Effective())
				return err
			}
			source := p.configFile()
			if source == "" {
				source = "the environment"
			}
			_, err = fmt.Fprintf(p.stdout, "The configuration from %s can be served.\n", source)
			return err
		}),
	}
	cmd.Flags().BoolVar(&show, "print", false, "print what is in force as YAML, passwords masked")
	return cmd
}
