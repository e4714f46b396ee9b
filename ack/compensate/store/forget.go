package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Forget deletes a reader's devices and settles what is not claimed yet; what was
// handed over before now and comes later is not told. A call that is under way at
// this moment is not called back. Without the tables there is nothing to
// forget.
func (s *Store) Forget(ctx context.Context, reader string) error {
	err := s.transaction(ctx, func(tx *transaction) error {
		if _, err := tx.Exec(ctx, `INSERT INTO newswire_compensate.forgotten (reader) VALUES ($1)
			ON CONFLICT (reader) DO UPDATE SET at = now()`, reader); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM newswire_compensate.devices WHERE reader = $1`, reader); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `UPDATE newswire_compensate.deliveries
			SET state = 'cancelled', reason = 'forgotten', settled_at = now(), owner = NULL
			WHERE reader = $1 AND state IN ('waiting', 'taken', 'claimed') AND state <> 'claimed'
			RETURNING ce_id, channel, state, reason`, reader)
		_, err = closeReturned(ctx, tx, rows, err)
		return err
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "42P01" || refused.Code == "3F000") { // no such table, no such schema
		return nil
	}
	if err != nil {
		return fmt.Errorf("forget a reader's devices: %w", err)
	}
	return nil
}

// Forgotten says which of the readers wanted to be forgotten, and when.
func (s *Store) Forgotten(ctx context.Context, readers []string) (map[string]time.Time, error) {
	rows, err := s.pool.Query(ctx, `SELECT reader, at FROM newswire_compensate.forgotten WHERE reader = ANY($1)`, readers)
	if err != nil {
		return nil, fmt.Errorf("look up forgotten readers: %w", err)
	}
	all := make(map[string]time.Time)
	var reader string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&reader, &at}, func() error { all[reader] = at; return nil })
	if err != nil {
		return nil, fmt.Errorf("look up forgotten readers: %w", err)
	}
	return all, nil
}
