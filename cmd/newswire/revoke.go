package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/engine"
	"newswire/gateway"
)

// revokeRequest is whose tokens shall be refused, or no longer.
type revokeRequest struct {
	reader, tokenID       string
	issuedBefore, expires string // RFC 3339; issuedBefore also as an age
	undo, list            bool
}

// revoke refuses tokens before their time, on the running engine.
func (p *program) revoke() *cobra.Command {
	var r revokeRequest
	cmd := &cobra.Command{
		Use:   "revoke --reader NAME | --token-id ID",
		Short: "Refuse tokens before their time and end their sessions, on the running engine; list what is refused, or take it back",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			wanted, err := r.validate(time.Now())
			if err != nil {
				return usageError{err}
			}
			cfg, err := p.load("gateway")
			if err != nil {
				return err
			}
			out := json.NewEncoder(p.stdout)
			switch {
			case r.list:
				all, err := engine.Revocations(ctx, cfg)
				for i := 0; err == nil && i < len(all); i++ {
					err = out.Encode(all[i])
				}
				return err
			case r.undo:
				return engine.Unrevoke(ctx, cfg, wanted)
			}
			made, err := engine.Revoke(ctx, cfg, wanted)
			if err != nil {
				return err
			}
			return out.Encode(made)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&r.reader, "reader", "", "`name` of the reader whose tokens are refused")
	flags.StringVar(&r.tokenID, "token-id", "", "`id` (jti) of the one token that is refused")
	flags.StringVar(&r.issuedBefore, "issued-before", "", "with --reader: `time` (RFC 3339, or an age such as 2h) before which they were issued; default now")
	flags.StringVar(&r.expires, "expires", "", "`time` (RFC 3339) by which the tokens have expired by themselves, so that this can be forgotten; default gateway.auth.max_ttl from now, else never")
	flags.BoolVar(&r.undo, "undo", false, "take it back")
	flags.BoolVar(&r.list, "list", false, "print what is in force as JSON lines")
	return cmd
}

func (r revokeRequest) validate(now time.Time) (wanted gateway.Revocation, err error) {
	wanted = gateway.Revocation{TokenID: r.tokenID, Reader: r.reader}
	switch {
	case r.list && (r.reader != "" || r.tokenID != "" || r.undo):
		return wanted, errors.New("--list only lists: give it alone")
	case r.list:
		return wanted, nil
	case (r.reader == "") == (r.tokenID == ""):
		return wanted, errors.New("name either a reader with --reader or a token with --token-id")
	case r.tokenID != "" && r.issuedBefore != "":
		return wanted, errors.New("--issued-before belongs to --reader: a token is refused whenever it was issued")
	case r.undo && (r.issuedBefore != "" || r.expires != ""):
		return wanted, errors.New("--undo takes back the whole revocation: leave out --issued-before and --expires")
	}
	if r.issuedBefore != "" {
		if wanted.IssuedBefore, err = momentOf("--issued-before", r.issuedBefore); err != nil {
			return wanted, err
		}
		if wanted.IssuedBefore.After(now.Add(time.Minute)) {
			return wanted, fmt.Errorf("--issued-before %s lies ahead: tokens that are signed until then would be refused too", r.issuedBefore)
		}
	}
	if r.expires != "" {
		if wanted.Expires, err = time.Parse(time.RFC3339, r.expires); err != nil {
			return wanted, fmt.Errorf("--expires %q is no time such as 2026-11-23T09:41:00Z", r.expires)
		}
	}
	return wanted, nil
}
