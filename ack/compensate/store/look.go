package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SentSince says how many notifications a reader's device was sent on a channel since
// then, and when the first of them was. A digest is one.
func (s *Store) SentSince(ctx context.Context, channel, reader string, device int64, since time.Time) (n int, first time.Time, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(DISTINCT bundle), COALESCE(min(settled_at), now()) FROM newswire_compensate.deliveries
		WHERE reader = $1 AND channel = $2 AND state IN ('sent', 'doubtful') AND settled_at > $3 AND device = $4`, reader, channel, since, device).Scan(&n, &first)
	if err != nil {
		return 0, first, fmt.Errorf("count what a reader was sent on channel %s: %w", channel, err)
	}
	return n, first, nil
}

// Doubtful is a delivery of which nobody knows whether it arrived.
type Doubtful struct {
	CeID     string    `json:"ce_id"`
	Channel  string    `json:"channel"`
	Device   int64     `json:"device,omitempty"`
	Reader   string    `json:"reader"`
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	Claimed  time.Time `json:"claimed_at"`
	Settled  time.Time `json:"settled_at"`
}

// EachDoubtful gives what is in doubt, the oldest first.
func (s *Store) EachDoubtful(ctx context.Context, each func(Doubtful) error) error {
	rows, err := s.pool.Query(ctx, `SELECT ce_id, channel, device, reader, reason, attempts, claimed_at, settled_at
		FROM newswire_compensate.deliveries WHERE state = 'doubtful' ORDER BY settled_at, ce_id`)
	if err != nil {
		return fmt.Errorf("list what is in doubt: %w", err)
	}
	var d Doubtful
	_, err = pgx.ForEachRow(rows, []any{&d.CeID, &d.Channel, &d.Device, &d.Reader, &d.Reason, &d.Attempts, &d.Claimed, &d.Settled}, func() error {
		return each(d)
	})
	if err != nil {
		return fmt.Errorf("list what is in doubt: %w", err)
	}
	return nil
}

// Known tells which of the records were taken in already, and as what they ended;
// "" is at work.
func (s *Store) Known(ctx context.Context, ids []string) (map[string]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT ce_id, COALESCE(outcome, '') FROM newswire_compensate.records WHERE ce_id = ANY($1)
		UNION ALL SELECT ce_id, 'cancelled' FROM newswire_compensate.cancelled c WHERE ce_id = ANY($1)
			AND NOT EXISTS (SELECT FROM newswire_compensate.records r WHERE r.ce_id = c.ce_id)`, ids)
	if err != nil {
		return nil, fmt.Errorf("look up records: %w", err)
	}
	known := make(map[string]string)
	var id, outcome string
	_, err = pgx.ForEachRow(rows, []any{&id, &outcome}, func() error { known[id] = outcome; return nil })
	if err != nil {
		return nil, fmt.Errorf("look up records: %w", err)
	}
	return known, nil
}

// Waiting counts the deliveries without an outcome, by channel.
func (s *Store) Waiting(ctx context.Context) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, `SELECT channel, count(*) FROM newswire_compensate.deliveries
		WHERE state IN ('waiting', 'taken', 'claimed') GROUP BY channel`)
	if err != nil {
		return nil, fmt.Errorf("count what waits: %w", err)
	}
	waiting := make(map[string]int)
	var channel string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&channel, &n}, func() error { waiting[channel] = n; return nil })
	if err != nil {
		return nil, fmt.Errorf("count what waits: %w", err)
	}
	return waiting, nil
}

// InDoubt counts what is in doubt.
func (s *Store) InDoubt(ctx context.Context) (n int, err error) {
	if err = s.pool.QueryRow(ctx, `SELECT count(*) FROM newswire_compensate.deliveries WHERE state = 'doubtful'`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count what is in doubt: %w", err)
	}
	return n, nil
}
