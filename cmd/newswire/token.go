package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/config"
	"newswire/gateway/tokens"
)

// tokenRequest is what a token shall say.
type tokenRequest struct {
	reader  string
	ttl     time.Duration
	tags    []string
	limited bool // tags was given: the reader may follow these and no others
	backend bool // the site's own: may name any reader in the devices API
}

// token signs a token, for trying out; an identity provider signs the real ones.
func (p *program) token() *cobra.Command {
	var r tokenRequest
	cmd := &cobra.Command{
		Use:   "token --reader NAME",
		Short: "Print a token signed with the configured secret, for trying out",
		Args:  noArguments,
	}
	cmd.Flags().StringVar(&r.reader, "reader", "", "`name` of the reader: the token's sub")
	cmd.Flags().DurationVar(&r.ttl, "ttl", time.Hour, "`time` until it expires")
	cmd.Flags().StringSliceVar(&r.tags, "tags", nil, "`tags`, or prefix:*, that the reader may follow; default all")
	cmd.Flags().BoolVar(&r.backend, "backend", false, "for the site's own backend: may register devices of every reader")
	cmd.RunE = work(func(context.Context) error {
		r.limited = cmd.Flags().Changed("tags")
		if err := r.validate(); err != nil {
			return usageError{err}
		}
		cfg, err := p.load("gateway")
		if err != nil {
			return err
		}
		signed, err := r.sign(cfg.Gateway.Auth, time.Now())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.stdout, signed)
		return err
	})
	return cmd
}

// What the wire protocol takes as a reader's name and as a tag.
const (
	maxReaderBytes = 256
	maxTagBytes    = 128
)

func (r tokenRequest) validate() error {
	if r.reader == "" {
		return errors.New("name the reader with --reader, such as --reader u1")
	}
	if !plainText(r.reader, maxReaderBytes) {
		return fmt.Errorf("--reader %q: a reader's name has 1 to %d bytes and no control characters", r.reader, maxReaderBytes)
	}
	if r.ttl < time.Second {
		return fmt.Errorf("--ttl %s: a token lives for at least 1s", r.ttl)
	}
	for _, tag := range r.tags {
		if !plainText(strings.TrimSuffix(tag, ":*"), maxTagBytes) {
			return fmt.Errorf("--tags %q: a tag has 1 to %d bytes and no control characters", tag, maxTagBytes)
		}
	}
	return nil
}

func plainText(s string, maxBytes int) bool {
	return s != "" && len(s) <= maxBytes && utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// sign makes the token as the gateway of this configuration wants it.
func (r tokenRequest) sign(auth config.Auth, now time.Time) (string, error) {
	if len(auth.HS256Secret) == 0 {
		return "", errors.New("gateway.auth.hs256_secret_file is not set: only with a secret can newswire sign; whoever holds the private key of gateway.auth.public_key_file can")
	}
	if auth.MaxTTL > 0 && r.ttl > auth.MaxTTL {
		return "", fmt.Errorf("--ttl %s: gateway.auth.max_ttl refuses tokens that live longer than %s", r.ttl, auth.MaxTTL)
	}
	claims := jwt.MapClaims{"sub": r.reader, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(r.ttl).Unix()}
	if auth.Issuer != "" {
		claims["iss"] = auth.Issuer
	}
	if auth.Audience != "" {
		claims["aud"] = auth.Audience
	}
	if r.limited {
		claims["tags"] = append([]string{}, r.tags...) // never null: an empty list permits nothing
	}
	if r.backend {
		claims["newswire_role"] = tokens.RoleBackend
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(auth.HS256Secret)
	if err != nil {
		return "", fmt.Errorf("sign token of %q: %w", r.reader, err)
	}
	return signed, nil
}
