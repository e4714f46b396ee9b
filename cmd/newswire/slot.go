package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"newswire/cdc/slot"
	"newswire/cmd/newswire/internal/config"
	"newswire/fanout/journal"
)

// slot holds the commands about the replication slot.
func (p *program) slot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slot COMMAND",
		Short: "Show or change the replication slot",
		Args:  nameCommand,
		RunE:  func(*cobra.Command, []string) error { return nil }, // Args refuses whatever comes here
	}
	cmd.AddCommand(p.slotStatus(), p.slotCreate(), p.slotDrop(), p.slotAdvance())
	return cmd
}

// rateOver is how long the write rate is measured.
const rateOver = time.Second

func (p *program) slotStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the slot keeps, for how long it may, and what it costs",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			return p.withSlotServer(ctx, func(ctx context.Context, conn *pgx.Conn, cfg config.Config) error {
				s, err := readSlot(ctx, conn, cfg)
				if err != nil {
					return err
				}
				if err := s.Measure(ctx, conn, rateOver); err != nil {
					return err
				}
				return p.print(s, asJSON)
			})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of text")
	return cmd
}

func (p *program) slotCreate() *cobra.Command {
	var confirm string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the slot behind its publication; one that stands as wanted is left alone",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			return p.withSlotServer(ctx, func(ctx context.Context, conn *pgx.Conn, cfg config.Config) error {
				if confirm != cfg.Postgres.Slot {
					if err := missedByNew(ctx, conn, cfg, confirm); err != nil {
						return err
					}
				}
				created, err := slot.Create(ctx, conn, cfg.Postgres.Slot, cfg.Postgres.Publication)
				if err != nil {
					return err
				}
				line := "left alone: replication slot %s stands as wanted\n"
				if created {
					line = "done: replication slot %s reads what is committed from now on\n"
				}
				_, err = fmt.Fprintf(p.stdout, line, cfg.Postgres.Slot)
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "`NAME` of the slot, to say that what a journal lacks may be lacking")
	return cmd
}

// missedByNew refuses a slot in the place of one that a journal was read from:
// a new one has nothing of what was committed in between.
func missedByNew(ctx context.Context, conn *pgx.Conn, cfg config.Config, confirmed string) error {
	name := cfg.Postgres.Slot
	if _, err := slot.Read(ctx, conn, name, cfg.Postgres.Publication); !errors.Is(err, slot.ErrMissing) {
		return nil // what exists is left alone, or Create says why not
	}
	at, ok := journalPosition(ctx, cfg)
	if !ok || at == 0 {
		return nil
	}
	return unconfirmed([]string{
		fmt.Sprintf("the journal ends at %s, and a new slot %q has nothing of what was committed since: the engine stops at the gap", at, name),
		"`newswire resync` makes a new slot, and makes up from the tables for what was missed",
	}, confirmed, "newswire slot create --confirm "+name)
}

func (p *program) slotDrop() *cobra.Command {
	var confirm string
	cmd := &cobra.Command{
		Use:   "drop",
		Short: "Drop the slot; without --confirm say what would be lost",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			return p.withSlotServer(ctx, func(ctx context.Context, conn *pgx.Conn, cfg config.Config) error {
				s, err := readSlot(ctx, conn, cfg)
				if err != nil {
					return err
				}
				if err := s.CheckDrop(); err != nil {
					return err
				}
				if confirm != s.Name {
					lost := foresee(ctx, conn, cfg, s, s.Current.LSN)
					lost = append(lost, "without the slot nothing that is committed from then on is read either")
					return unconfirmed(lost, confirm, "newswire slot drop --confirm "+s.Name)
				}
				if err := s.Drop(ctx, conn); err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.stdout, "done: replication slot %s is gone, and the server keeps no log for it\n", s.Name)
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "`NAME` of the slot, to say that what is lost may be lost")
	return cmd
}

func (p *program) slotAdvance() *cobra.Command {
	var confirm, position string
	cmd := &cobra.Command{
		Use:   "advance",
		Short: "Move the slot forward past what shall not be read; without --confirm say what that is",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			if position == "" {
				return usageError{errors.New("name the position with --to, such as --to 0/1A2B3C4")}
			}
			to, err := journal.ParseLSN(position)
			if err != nil {
				return usageError{fmt.Errorf("--to %q: %w", position, err)}
			}
			return p.withSlotServer(ctx, func(ctx context.Context, conn *pgx.Conn, cfg config.Config) error {
				s, err := readSlot(ctx, conn, cfg)
				if err != nil {
					return err
				}
				if err := s.CheckAdvance(to); err != nil {
					return err
				}
				if confirm != s.Name {
					return unconfirmed(foresee(ctx, conn, cfg, s, to), confirm, fmt.Sprintf("newswire slot advance --to %s --confirm %s", to, s.Name))
				}
				end, err := s.Advance(ctx, conn, to)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.stdout, "done: replication slot %s stands at %s, before at %s\n", s.Name, end, s.Confirmed)
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&position, "to", "", "`LSN` that the slot shall stand at")
	cmd.Flags().StringVar(&confirm, "confirm", "", "`NAME` of the slot, to say that what is skipped may be skipped")
	return cmd
}

// withSlotServer connects to the server of the configured slot.
func (p *program) withSlotServer(ctx context.Context, do func(context.Context, *pgx.Conn, config.Config) error) error {
	cfg, err := p.load("postgres")
	if err != nil {
		return err
	}
	login, err := pgx.ParseConfig(cfg.Postgres.DSN)
	if err != nil {
		return usageError{errors.New("postgres.dsn is not a connection string")} // never pgx's text: it may hold the password
	}
	login.DefaultQueryExecMode = pgx.QueryExecModeExec // prepares nothing, so a pooler may stand between
	conn, err := pgx.ConnectConfig(ctx, login)
	if err != nil {
		return connectFault("postgres.dsn", err, "correct user, password or database there, or let `newswire setup --apply` make the role")
	}
	defer conn.Close(context.WithoutCancel(ctx)) // after a signal too the server is told goodbye
	return do(ctx, conn, cfg)
}

func readSlot(ctx context.Context, conn *pgx.Conn, cfg config.Config) (slot.Status, error) {
	s, err := slot.Read(ctx, conn, cfg.Postgres.Slot, cfg.Postgres.Publication)
	if errors.Is(err, slot.ErrMissing) {
		err = fmt.Errorf("replication slot %q does not exist; before the first start run `newswire setup --apply`, later `newswire resync`", cfg.Postgres.Slot)
	}
	return s, err
}

// foresee says what nobody can read any more once the slot stands at the position.
func foresee(ctx context.Context, conn *pgx.Conn, cfg config.Config, s slot.Status, to journal.LSN) []string {
	loss := s.Foresee(ctx, conn, to)
	if at, ok := journalPosition(ctx, cfg); ok {
		loss.Journal = &at
	}
	return loss.Sentences()
}

// unconfirmed refuses a change, a sentence a line: what would be lost, and what
// to type.
func unconfirmed(lost []string, confirmed, command string) error {
	var faults []error
	for _, sentence := range lost {
		faults = append(faults, errors.New(sentence))
	}
	if confirmed != "" {
		faults = append(faults, fmt.Errorf("--confirm %q is not the slot's name; to go ahead type: %s", confirmed, command))
	} else {
		faults = append(faults, fmt.Errorf("nothing was changed; to go ahead type: %s", command))
	}
	return usageError{errors.Join(faults...)}
}
