package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"newswire/ack/compensate"
	"newswire/cmd/newswire/internal/compensation"
)

// compensateRequest is what the command was asked for; without anything, to serve.
type compensateRequest struct {
	dryRun       bool
	listDoubtful bool
	replayFrom   string
	replayTo     string
	replayDLQ    bool
}

// compensate runs the service that reaches readers who were away.
func (p *program) compensate() *cobra.Command {
	var r compensateRequest
	cmd := &cobra.Command{
		Use:   "compensate",
		Short: "Reach by push or SMS the readers who did not acknowledge; look into what was sent, and replay",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			window, err := r.validate()
			if err != nil {
				return usageError{err}
			}
			cfg, err := p.load(compensation.Needs...)
			if err != nil {
				return err
			}
			service, err := compensation.New(cfg, p.logger(cfg.Log), nil)
			if err != nil {
				return usageError{err}
			}
			if err = compensation.Preflight(ctx, cfg); err == nil {
				err = p.runCompensate(ctx, service, r, window)
			}
			return errors.Join(err, service.Close())
		}),
	}
	cmd.AddCommand(p.vapid())
	flags := cmd.Flags()
	flags.BoolVar(&r.dryRun, "dry-run", false, "print as JSON lines what would become of the records that lie in the topic and were not taken in, or of those to replay, and end; send and write nothing")
	flags.BoolVar(&r.listDoubtful, "list-doubtful", false, "print as JSON lines what may or may not have arrived")
	flags.StringVar(&r.replayFrom, "replay-from", "", "`time` (RFC 3339, or an age such as 2h) from which on records are taken in again: what was certainly not sent will be")
	flags.StringVar(&r.replayTo, "replay-to", "", "`time` up to which --replay-from goes; default now")
	flags.BoolVar(&r.replayDLQ, "replay-dlq", false, "take the dead letters in again")
	return cmd
}

// validate gives the range to replay; nil: none was asked for.
func (r compensateRequest) validate() (*compensate.Range, error) {
	switch {
	case r.replayTo != "" && r.replayFrom == "":
		return nil, errors.New("--replay-to needs --replay-from")
	case r.replayDLQ && r.replayFrom != "":
		return nil, errors.New("--replay-dlq and --replay-from do different things: give one of them")
	case r.replayDLQ && r.dryRun:
		return nil, errors.New("--dry-run looks into the topic, not into its dead letters: read those with any Kafka client")
	case r.listDoubtful && (r.dryRun || r.replayDLQ || r.replayFrom != ""):
		return nil, errors.New("--list-doubtful only lists: give it alone")
	case r.replayFrom == "":
		return nil, nil
	}
	window := new(compensate.Range)
	var err error
	if window.From, err = momentOf("--replay-from", r.replayFrom); err != nil {
		return nil, err
	}
	if r.replayTo == "" {
		return window, nil
	}
	if window.To, err = momentOf("--replay-to", r.replayTo); err == nil && !window.To.After(window.From) {
		err = fmt.Errorf("--replay-to %s is not behind --replay-from %s", r.replayTo, r.replayFrom)
	}
	return window, err
}

// momentOf reads a time, or an age.
func momentOf(flag, text string) (time.Time, error) {
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return time.Now().Add(-age), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s %q is neither a time such as 2026-11-23T09:41:00Z nor an age such as 2h", flag, text)
	}
	return t, nil
}

func (p *program) runCompensate(ctx context.Context, s *compensate.Service, r compensateRequest, window *compensate.Range) error {
	lines := json.NewEncoder(p.stdout)
	lines.SetEscapeHTML(false)
	var done compensate.Replayed
	var err error
	switch {
	case r.listDoubtful:
		return s.EachDoubtful(ctx, func(d compensate.Doubtful) error { return lines.Encode(d) })
	case r.dryRun:
		n := 0
		err = s.DryRun(ctx, window, func(f compensate.Foreseen) error { n++; return lines.Encode(f) })
		if err == nil && n == 0 && window == nil {
			fmt.Fprintln(p.stderr, "newswire: nothing lies in the topic that was not taken in: a running service reads all at once; --replay-from 2h looks at what it had")
		}
		return err
	case r.replayDLQ:
		done, err = s.ReplayDeadLetters(ctx)
	case window != nil:
		done, err = s.Replay(ctx, *window)
	default:
		return s.Run(ctx)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Read %d records, opened %d of them: running instances send these.\n", done.Read, done.Opened)
	return err
}
