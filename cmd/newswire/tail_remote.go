package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"newswire/gateway/client"
)

// remoteTail is a tail of what a reader gets.
type remoteTail struct {
	url       string
	tokenFile string // empty: anonymous
}

// tailRemote prints what the gateway's reader has not read, and then what comes,
// until ctx ends. What is printed is acknowledged. A gateway that cannot be
// reached at first is a fault; later it is waited for.
func (p *program) tailRemote(ctx context.Context, remote remoteTail, from, tag string) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	cfg := client.Config{
		URL: remote.url, After: idBefore(from),
		OnMessage: func(_ context.Context, m *client.Message) error {
			_, err := p.stdout.Write(append(m.Raw, '\n'))
			if err != nil {
				fail(fmt.Errorf("tail: %w", err))
			}
			return err
		},
		OnGap: func(after string) {
			fmt.Fprintf(p.stderr, "the gateway does not keep what lies behind %s any more; it goes on with what it has\n", after)
		},
		OnState: p.tellTail(fail),
	}
	if remote.tokenFile != "" {
		cfg.Token = tokenFrom(remote.tokenFile)
	}
	switch {
	case tag != "":
		cfg.Follow = []string{tag}
	case remote.tokenFile == "":
		cfg.Follow = []string{"*"} // nothing is stored that could say more
	}
	c, err := client.New(cfg)
	if err != nil {
		return usageError{fmt.Errorf("--url: %w", err)}
	}
	err = c.Run(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	var closed *client.CloseError
	if errors.As(err, &closed) && closed.Reason == "unauthorized" {
		return fmt.Errorf("tail: %w; give a token that is valid there with --token-file (newswire token makes one)", err)
	}
	return err
}

// tellTail says on stderr what becomes of the connection. Until it stands for the
// first time, a failure ends it.
func (p *program) tellTail(fail context.CancelCauseFunc) func(client.StateChange) {
	online := false
	return func(change client.StateChange) {
		switch {
		case change.State == client.Online && len(change.Sets.Follow) == 0:
			fmt.Fprintf(p.stderr, "the reader %s follows nothing; name a tag with --tag\n", change.Reader)
			online = true
		case change.State == client.Online:
			online = true
		case change.State == client.Offline && !online:
			fail(fmt.Errorf("tail: %w", change.Err))
		case change.State == client.Offline:
			fmt.Fprintf(p.stderr, "%v; next attempt in %s\n", change.Err, change.Retry.Round(time.Millisecond))
		}
	}
}

// tokenFrom reads a token whenever one is needed, so that it can be replaced.
func tokenFrom(file string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w; name a file that holds the reader's token", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
}

// idBefore gives the id just before one, so that what comes after it begins
// there; empty before the first, and of none.
func idBefore(id string) string {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 14 {
		return ""
	}
	low := binary.BigEndian.Uint64(raw[6:])
	binary.BigEndian.PutUint64(raw[6:], low-1)
	if low > 0 {
		return hex.EncodeToString(raw)
	}
	high := make([]byte, 8)
	copy(high[2:], raw[:6])
	n := binary.BigEndian.Uint64(high)
	if n == 0 {
		return ""
	}
	binary.BigEndian.PutUint64(high, n-1)
	copy(raw[:6], high[2:])
	return hex.EncodeToString(raw)
}
