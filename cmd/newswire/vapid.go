package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

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
				public, err := vapidKey(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(p.stdout, public)
				return err
			})(cmd, args)
		},
	}
}

// vapidKey gives the public part of the key in a file, which is made where it is
// not there. One that is there is never written: every browser's subscription
// is bound to it.
func vapidKey(file string) (public string, err error) {
	pem, public, err := webpush.GenerateKey()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return webpush.PublicKey(file)
	}
	if err != nil {
		return "", fmt.Errorf("make the key file: %w", err)
	}
	_, err = f.Write(pem)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(file) // half a key is none
		return "", fmt.Errorf("write the key file: %w", err)
	}
	return public, nil
}
