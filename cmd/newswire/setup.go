package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"newswire/cdc/setup"
	"newswire/cmd/newswire/internal/config"
	"newswire/cmd/newswire/internal/engine"
)

// setupFlags are what setup and teardown share.
type setupFlags struct {
	apply    bool
	adminDSN string
	minimal  bool
	whole    bool
}

// setup prints, or runs, what serve needs in the database.
func (p *program) setup() *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Print the SQL that makes role, publication and slot; with --apply run it",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			return p.withPlan(ctx, f, func(ctx context.Context, conn *pgx.Conn, cfg config.Config, wanted setup.Config) (setup.Plan, error) {
				o := setup.Options{Minimal: f.minimal, Whole: f.whole}
				if at, ok := journalPosition(ctx, cfg); ok && at > 0 {
					o.Journal = at.String()
				}
				return setup.Prepare(ctx, conn, wanted, o)
			})
		}),
	}
	p.planFlags(cmd, &f)
	cmd.Flags().BoolVar(&f.minimal, "minimal", false, "make a role that may read the stream, but not SELECT from the tables")
	cmd.Flags().BoolVar(&f.whole, "whole", false, "publish whole rows: without a column list or a row filter nothing stands in the way of DROP COLUMN and ALTER TYPE")
	return cmd
}

// teardown prints, or runs, what removes what setup made.
func (p *program) teardown() *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "Print the SQL that drops what setup made; with --apply run it",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			return p.withPlan(ctx, f, func(ctx context.Context, conn *pgx.Conn, _ config.Config, wanted setup.Config) (setup.Plan, error) {
				return setup.Teardown(ctx, conn, wanted)
			})
		}),
	}
	p.planFlags(cmd, &f)
	return cmd
}

func (p *program) planFlags(cmd *cobra.Command, f *setupFlags) {
	cmd.Flags().BoolVar(&f.apply, "apply", false, "run the SQL instead of printing it")
	cmd.Flags().StringVar(&f.adminDSN, "admin-dsn", "", "connection string (`DSN`) of a role that may do so; default postgres.dsn")
}

type planner func(ctx context.Context, conn *pgx.Conn, cfg config.Config, wanted setup.Config) (setup.Plan, error)

// withPlan connects, has the plan made, and prints or applies it.
func (p *program) withPlan(ctx context.Context, f setupFlags, plan planner) error {
	cfg, err := p.load("postgres")
	if err != nil {
		return err
	}
	wanted, err := engine.ListenerConfig(cfg).Setup()
	if err != nil {
		return usageError{err}
	}
	dsn, source := cfg.Postgres.DSN, "postgres.dsn"
	if f.adminDSN != "" {
		dsn, source = f.adminDSN, "--admin-dsn"
		if err := config.CheckDSN(dsn); err != nil {
			return usageError{fmt.Errorf("%s %w", source, err)}
		}
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		remedy := "correct user, password or database there"
		if f.adminDSN == "" {
			remedy += ", or name one who may make the role with --admin-dsn"
		}
		return connectFault(source, err, remedy)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // after a signal too the server is told goodbye
	made, err := plan(ctx, conn, cfg, wanted)
	if err != nil {
		return err
	}
	if f.apply {
		return p.applyPlan(ctx, conn, made)
	}
	_, err = fmt.Fprint(p.stdout, made)
	return err
}

// applyPlan runs the plan step by step, so that what was done is told even
// when a later step fails.
func (p *program) applyPlan(ctx context.Context, conn *pgx.Conn, plan setup.Plan) error {
	if plan.Obstacle != "" {
		return errors.New(plan.Obstacle)
	}
	for _, step := range plan.Steps {
		line := "left alone: " + strings.ReplaceAll(step.Comment, "\n", " ")
		if step.SQL != "" && step.Undo == "" { // of a teardown: who reads it may want to run it
			line += " Not run: " + strings.ReplaceAll(step.SQL, "\n", " ") + ";"
		}
		if step.Needed {
			if err := (setup.Plan{Steps: []setup.Step{step}}).Apply(ctx, conn); err != nil {
				return stepFault(err)
			}
			line = "done: " + strings.ReplaceAll(step.SQL, "\n", " ") + ";"
		}
		if _, err := fmt.Fprintln(p.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// connectFault adds the remedy: toLogin where the server does not know user,
// password or database.
func connectFault(source string, err error, toLogin string) error {
	remedy := "check the address and that PostgreSQL runs"
	if refused := new(pgconn.PgError); errors.As(err, &refused) {
		remedy = "do what the server asks for, and try again"
		if class := refused.Code[:min(2, len(refused.Code))]; class == "28" || class == "3D" {
			remedy = toLogin
		}
	}
	return fmt.Errorf("connect with %s: %w; %s", source, err, remedy)
}

// stepFault adds the remedy where the login may not do what a step does.
func stepFault(err error) error {
	if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == insufficientPrivilege {
		return fmt.Errorf("%w; name one who may do it, such as a superuser, with --admin-dsn", err)
	}
	return err
}

const insufficientPrivilege = "42501" // PostgreSQL's code
