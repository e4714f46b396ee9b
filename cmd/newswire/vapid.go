package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"newswire/ack/compensate/channel/webpush"
)

// vapid makes the key by which push services know the sender.
func (p *program) vapid() *cobra.Command {
	return &cobra.Command{
		Use:   "vapid FILE",
		Short: "Make the VAPID key of Web Push in FILE, unless one is there, and print its public part",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one file for the key, such as vapid.pem")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return work(func(context.Context) error {
				public, err := webpush.KeyFile(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(p.stdout, public)
				return err
			})(cmd, args)
		},
	}
}
