package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/engine"
	"newswire/fanout/journal"
)

// backup copies the journal.
func (p *program) backup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up the journal, while the engine runs: into an existing backup only what is new",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return work(func(ctx context.Context) error {
				cfg, err := p.load("journal", "gateway")
				if err != nil {
					return err
				}
				b, added, err := engine.Backup(ctx, cfg, args[0])
				if err != nil {
					return err
				}
				last := b.Parts[len(b.Parts)-1]
				_, err = fmt.Fprintf(p.stdout, "%s: %s added, %s in %d parts; the journal up to entry %d, read up to %s\n",
					args[0], journal.Size(added), journal.Size(b.Size), len(b.Parts), last.Head, last.Confirmed)
				return err
			})(cmd, args)
		},
	}
}

// restore makes a journal of a backup.
func (p *program) restore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a journal of a backup, in an empty journal.dir",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return work(func(ctx context.Context) error {
				cfg, err := p.load("journal", "log")
				if err != nil {
					return err
				}
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("restore: %w: name a file that `newswire backup` has made and that this account may read", err)
				}
				defer f.Close() // was only read
				part, err := journal.Restore(ctx, f, cfg.Journal.Dir, p.logger(cfg.Log))
				if errors.Is(err, journal.ErrBackup) {
					err = fmt.Errorf("%w; name a file that `newswire backup` has made, another one where this is damaged", err)
				}
				if err != nil {
					return fmt.Errorf("restore %s: %w", args[0], err)
				}
				_, err = fmt.Fprintf(p.stdout, "%s: the journal as of %s, up to entry %d, read up to %s.\n"+
					"Start the engine; if the slot was read further meanwhile, it says so, and `newswire resync` makes up for that.\n",
					cfg.Journal.Dir, part.Time.Format(time.RFC3339), part.Head, part.Confirmed)
				return err
			})(cmd, args)
		},
	}
}

// oneFile is for a command that takes the name of a file.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes the name of one file, such as %s /var/backups/newswire.backup", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}
