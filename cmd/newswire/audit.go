package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"newswire/ack"
	"newswire/cmd/newswire/internal/engine"
	"newswire/fanout/journal"
)

// audit proves that every message reached its end for every reader, or tells
// where it did not.
func (p *program) audit() *cobra.Command {
	var q engine.Question
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Recount every message and every reader of it; exit 1 if it does not add up",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			if _, err := journal.ParseID(q.Message); q.Message != "" && err != nil {
				return usageError{fmt.Errorf("--message %q: %w", q.Message, err)}
			}
			if q.Since < 0 {
				return usageError{fmt.Errorf("--since %s: want a time ago, such as 24h", q.Since)}
			}
			cfg, err := p.load("journal", "gateway")
			if err != nil {
				return err
			}
			answer, err := engine.Audit(ctx, cfg, q)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(p.stdout, answer)
			} else {
				err = printAnswer(p.stdout, answer)
			}
			if r := answer.Report; err == nil && r != nil && !r.AddsUp {
				err = fmt.Errorf("the accounts do not add up: %d faults, the first: %s; stop the engine and restore a backup, or report it with the output of `newswire audit --json`", r.Wrong, r.Faults[0])
			}
			return err
		}),
	}
	cmd.Flags().DurationVar(&q.Since, "since", 0, "count only messages committed within the last `duration`; default all that are kept")
	cmd.Flags().StringVar(&q.Message, "message", "", "tell the story of the message with this `id`")
	cmd.Flags().StringVar(&q.Reader, "reader", "", "tell what became of everything for this `reader`; with --message, of that alone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printJSON(w io.Writer, answer engine.Answer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	switch {
	case answer.Report != nil:
		return out.Encode(answer.Report)
	case answer.Message != nil:
		return out.Encode(answer.Message)
	}
	return out.Encode(answer.Reader)
}

// printer prints until something fails.
type printer struct {
	w   io.Writer
	err error
}

func (l *printer) printf(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format+"\n", args...)
	}
}

func printAnswer(w io.Writer, answer engine.Answer) error {
	l := &printer{w: w}
	switch {
	case answer.Report != nil:
		l.report(answer.Report)
	case answer.Message != nil:
		l.message(answer.Message)
	case answer.Reader != nil:
		l.reader(answer.Reader)
	default:
		return errors.New("the engine's answer is empty; is it of another version?")
	}
	return l.err
}

func (l *printer) report(r *ack.Report) {
	if r.Messages > 0 {
		l.printf("since %s, places %d to %d of the journal", stamp(r.Since), r.From, r.Through)
	}
	l.printf("%12d messages, %d of them for nobody, %d withdrawn", r.Messages, r.Nobody, r.Retracted)
	l.printf("%12d pairs of message and reader:", r.Pairs)
	l.printf("%12d   acked", r.Acked)
	l.printf("%12d   handed over, %d of them read afterwards", r.Handed, r.Late)
	l.printf("%12d   forgotten with their readers", r.Forgotten)
	if r.Unsettled > 0 {
		l.printf("%12d   pending, of %d messages, the oldest of %s", r.Pending, r.Unsettled, stamp(r.Oldest))
	} else {
		l.printf("%12d   pending", r.Pending)
	}
	if r.Whole {
		l.printf("%12d messages and %d pairs have left with the retention, of %d and %d that were ever routed",
			r.Expired.Messages, r.Expired.Pairs, r.Ever.Messages, r.Ever.Pairs)
	}
	for _, f := range r.Faults {
		l.printf("FAULT %s", f)
	}
	if r.AddsUp {
		l.printf("It adds up.")
	}
}

func (l *printer) message(s *ack.Story) {
	l.printf("%s  %s of %s %s, place %d", s.ID, s.Action, s.Source, s.Key, s.Seq)
	l.printf("  %s committed", stamp(s.Committed))
	if s.Routed == nil {
		l.printf("  for nobody, or not routed yet")
		return
	}
	l.printf("  %s routed to %d readers", stamp(*s.Routed), s.Pairs)
	for _, a := range s.Sends {
		l.printf("  %s attempt %d to %d readers", stamp(a.At), a.N, a.Readers)
	}
	l.between("acked", s.AckedAt)
	l.between("handed over", s.HandedAt)
	l.printf("  %d acked, %d handed over, %d forgotten, %d pending", s.Acked, s.Handed, s.Forgotten, s.Pending)
	if s.Retracted {
		l.printf("  withdrawn: what was handed over and not read is taken back")
	}
}

func (l *printer) between(what string, t *ack.Times) {
	if t != nil {
		l.printf("  %s the first was %s, %s the last", stamp(t.First), what, stamp(t.Last))
	}
}

func (l *printer) reader(s *engine.ReaderStory) {
	l.printf("reader %q, number %d, follows %q, mutes %q", s.Reader, s.Number, s.Follow, s.Mute)
	if s.LastSeen != nil {
		l.printf("  was here after %s", stamp(*s.LastSeen))
	}
	for _, c := range s.Copies {
		l.printf("%s  %s committed %s: %s", c.ID, c.Action, stamp(c.Committed), c.State)
		if c.Routed != nil {
			l.printf("  %s routed", stamp(*c.Routed))
		}
		for _, s := range steps(c) {
			if first, last := stamp(s.between.First), stamp(s.between.Last); first == last {
				l.printf("  %s %s", last, s.what)
			} else {
				l.printf("  %s %s, or up to %s before", last, s.what, s.between.Last.Sub(s.between.First).Round(time.Millisecond))
			}
		}
	}
}

// step is something that happened to a copy.
type step struct {
	what    string
	between ack.Times
}

// steps gives what happened to a copy behind its routing, in the order of time.
func steps(c ack.Copy) (list []step) {
	for _, a := range c.Attempts {
		list = append(list, step{fmt.Sprint("attempt ", a.N), ack.Times{First: a.At, Last: a.At}})
	}
	for what, t := range map[string]*ack.Times{"acked": c.AckedAt, "handed over": c.HandedAt, "forgotten": c.GoneAt} {
		if t != nil {
			list = append(list, step{what, *t})
		}
	}
	slices.SortStableFunc(list, func(a, b step) int { return a.between.Last.Compare(b.between.Last) })
	return list
}

// stamp prints a time to the millisecond.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
