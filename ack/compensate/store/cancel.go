package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Cancellation takes back a record.
type Cancellation struct {
	CeID  string
	Cause string
}

// Place is a partition of the topic of cancellations.
type Place struct {
	Topic     string
	Partition int
}

// Cancel takes in what lies in a partition before next and behind what any
// instance has taken in of it: fresh is told how far that is, and gives it. It is
// remembered, and what of it still waits is settled. One instance at a time does so.
func (s *Store) Cancel(ctx context.Context, at Place, next int64, fresh func(read int64) ([]Cancellation, error)) error {
	err := s.transaction(ctx, func(tx *transaction) error {
		var read int64
		err := tx.QueryRow(ctx, `INSERT INTO newswire_compensate.positions AS p (topic, partition, next) VALUES ($1, $2, 0)
			ON CONFLICT (topic, partition) DO UPDATE SET next = p.next RETURNING next`, at.Topic, at.Partition).Scan(&read)
		if err != nil || read >= next {
			return err
		}
		all, err := fresh(read)
		if err != nil {
			return err
		}
		ids, causes := make([]string, len(all)), make([]string, len(all))
		for i, c := range all {
			ids[i], causes[i] = c.CeID, c.Cause
		}
		if _, err := tx.Exec(ctx, `INSERT INTO newswire_compensate.cancelled (ce_id, cause)
			SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (ce_id) DO NOTHING`, ids, causes); err != nil {
			return err
		}
		if _, err := cancelOpen(ctx, tx, ids); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE newswire_compensate.positions SET next = $3 WHERE topic = $1 AND partition = $2`, at.Topic, at.Partition, next)
		return err
	})
	if err != nil {
		return fmt.Errorf("take in cancellations of partition %d: %w", at.Partition, err)
	}
	return nil
}

// cancelOpen settles those deliveries of the ids that wait and are cancelled.
// What is taken meets its cancellation when it is claimed.
func cancelOpen(ctx context.Context, tx *transaction, ids []string) (int, error) {
	rows, err := tx.Query(ctx, `UPDATE newswire_compensate.deliveries d
		SET state = 'cancelled', reason = c.cause, settled_at = now(), owner = NULL
		FROM newswire_compensate.cancelled c
		WHERE c.ce_id = ANY($1) AND d.ce_id = c.ce_id AND d.state || '' = 'waiting'
		RETURNING d.ce_id, d.channel, d.state, d.reason`, ids)
	return closeReturned(ctx, tx, rows, err)
}

// Positions says how far each partition of the topic of cancellations is read.
func (s *Store) Positions(ctx context.Context, topic string) (map[int]int64, error) {
	rows, err := s.pool.Query(ctx, `SELECT partition, next FROM newswire_compensate.positions WHERE topic = $1`, topic)
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	read := make(map[int]int64)
	var partition int
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&partition, &next}, func() error { read[partition] = next; return nil })
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	return read, nil
}

// Reposition moves a partition from one position to another, of which the topic
// has records again; unless another instance was first.
func (s *Store) Reposition(ctx context.Context, at Place, from, to int64) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO newswire_compensate.positions AS p (topic, partition, next) VALUES ($1, $2, $4)
		ON CONFLICT (topic, partition) DO UPDATE SET next = $4 WHERE p.next = $3`, at.Topic, at.Partition, from, to)
	if err != nil {
		return fmt.Errorf("move position of partition %d: %w", at.Partition, err)
	}
	return nil
}
