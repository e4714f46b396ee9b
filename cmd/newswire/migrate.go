package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"newswire/migrations"
)

// migrate makes the tables of the compensation service.
func (p *program) migrate() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make or update the tables of the compensation service, in the database of compensate.postgres",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			set := migrations.Compensate()
			if show {
				text, err := set.SQL()
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(p.stdout, text)
				return err
			}
			cfg, err := p.load("compensate")
			if err != nil {
				return err
			}
			dsn := cfg.Compensate.Postgres.DSN
			if dsn == "" {
				return usageError{errors.New("compensate.postgres.dsn is missing: write how to reach the database that shall keep devices and receipts")}
			}
			ran, err := migrations.Apply(ctx, dsn, set)
			for _, name := range ran {
				fmt.Fprintf(p.stdout, "Applied %s.\n", name)
			}
			var refused *pgconn.PgError
			if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
				return fmt.Errorf("%w; grant the role of compensate.postgres.dsn CREATE on the database, or have its owner run newswire migrate", err)
			}
			if err == nil && len(ran) == 0 {
				_, err = fmt.Fprintf(p.stdout, "Nothing to do: the schema %s is at version %d.\n", set.Schema, set.Latest())
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the SQL and run nothing")
	return cmd
}
