package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/engine"
	"newswire/fanout/journal"
)

// tail prints the journal as it grows, or what a reader gets.
func (p *program) tail() *cobra.Command {
	var from, tag string
	var remote remoteTail
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the journal's messages, or with --url what a reader gets, as JSON lines, live",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			if from != "" {
				if _, err := journal.ParseID(from); err != nil {
					return usageError{fmt.Errorf("--from %q: %w", from, err)}
				}
			}
			if remote.url != "" {
				return p.tailRemote(ctx, remote, from, tag)
			}
			if remote.tokenFile != "" {
				return usageError{errors.New("--token-file is a reader's, for --url; without that the journal of this machine is printed")}
			}
			cfg, err := p.load("journal", "gateway")
			if err != nil {
				return err
			}
			return engine.Tail(ctx, cfg, from, tag, p.stdout)
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "message `id` to begin at; default the oldest that is kept")
	cmd.Flags().StringVar(&tag, "tag", "", "print only messages with this `tag`; with --url the reader then follows it and nothing else")
	cmd.Flags().StringVar(&remote.url, "url", "", "a gateway's `address`, such as https://push.example.com: print, and so acknowledge, what its reader has not read")
	cmd.Flags().StringVar(&remote.tokenFile, "token-file", "", "`file` with the reader's token, read again whenever one is needed; without it the reader is anonymous")
	return cmd
}
