package engine

import (
	"context"
	"log/slog"
	"time"

	"newswire/cdc"
	"newswire/fanout/journal"

	"github.com/prometheus/client_golang/prometheus"
)

// source brings commits into the journal: the slot's listener, or a feed.
type source interface {
	Run(ctx context.Context) error
	Ready() error                      // nil, or why nothing comes in
	Waiting() (n int, first time.Time) // articles that wait for their time
}

// Feed appends commits to the journal until ctx ends, as the listener does with
// what the slot brings. It keeps to journal.Append's rules on positions.
type Feed func(ctx context.Context, j *journal.Journal) error

// newSource makes the listener, unless a feed takes its place.
func newSource(cfg cdc.Config, feed Feed, j *journal.Journal, log *slog.Logger, reg prometheus.Registerer) (source, error) {
	if feed != nil {
		return fed{feed, j}, nil
	}
	return cdc.New(cfg, j, log, reg)
}

// fed is a source that is always ready.
type fed struct {
	feed    Feed
	journal *journal.Journal
}

func (f fed) Run(ctx context.Context) error   { return f.feed(ctx, f.journal) }
func (fed) Ready() error                      { return nil }
func (fed) Waiting() (n int, first time.Time) { return 0, time.Time{} }
