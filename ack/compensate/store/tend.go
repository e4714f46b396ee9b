package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// live names the instances that were seen within the lease, $1 in seconds.
const live = `(SELECT id FROM newswire_compensate.instances WHERE seen_at > now() - make_interval(secs => $1))`

// Recovered counts what instances that are gone have left behind.
type Recovered struct {
	Taken    int // taken and never claimed: waits again
	Repeated int // claimed on a channel that dedupes: waits again, as it was
	Doubtful int // claimed on a channel that does not: nobody knows
}

// Recover takes over from instances that are gone. dedupes names the channels
// where a repeat does no harm.
func (s *Store) Recover(ctx context.Context, dedupes []string) (r Recovered, err error) {
	dedupes = append([]string{}, dedupes...) // nil would be NULL, and match no claim
	err = s.transaction(ctx, func(tx *transaction) error {
		tag, err := tx.Exec(ctx, `UPDATE newswire_compensate.deliveries SET state = 'waiting', owner = NULL
			WHERE state = 'taken' AND owner NOT IN `+live, s.lease.Seconds())
		if err != nil {
			return err
		}
		r.Taken = int(tag.RowsAffected())
		tag, err = tx.Exec(ctx, `UPDATE newswire_compensate.deliveries SET state = 'waiting', owner = NULL, reason = 'lost'
			WHERE state = 'claimed' AND channel = ANY($2) AND owner NOT IN `+live, s.lease.Seconds(), dedupes)
		if err != nil {
			return err
		}
		r.Repeated = int(tag.RowsAffected())
		// The owner stays written: should it only have slept, its outcome still counts.
		rows, err := tx.Query(ctx, `UPDATE newswire_compensate.deliveries SET state = 'doubtful', reason = 'lost', settled_at = now()
			WHERE state = 'claimed' AND NOT channel = ANY($2) AND owner NOT IN `+live+` RETURNING ce_id, channel, state, reason`, s.lease.Seconds(), dedupes)
		r.Doubtful, err = closeReturned(ctx, tx, rows, err)
		return err
	})
	if err != nil {
		return Recovered{}, fmt.Errorf("recover deliveries: %w", err)
	}
	return r, nil
}

// Bounds of one statement of housekeeping.
const mostTended = 1000

// Expire settles what has become stale while it waited, and counts it. What may
// have arrived by an earlier attempt is in doubt.
func (s *Store) Expire(ctx context.Context) (stale int, err error) {
	err = s.transaction(ctx, func(tx *transaction) error {
		rows, err := tx.Query(ctx, `UPDATE newswire_compensate.deliveries d SET settled_at = now(), owner = NULL, reason = 'expired',
				state = CASE WHEN d.bundle IS NULL THEN 'expired' ELSE 'doubtful' END
			FROM (SELECT ce_id, channel, device FROM newswire_compensate.deliveries
				WHERE state = 'waiting' AND expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) old
			WHERE d.ce_id = old.ce_id AND d.channel = old.channel AND d.device = old.device
			RETURNING d.ce_id, d.channel, d.state, d.reason`, mostTended)
		stale, err = closeReturned(ctx, tx, rows, err)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("expire deliveries: %w", err)
	}
	return stale, nil
}

// Purge removes what was settled before the retention began, and tells whether there
// may be more of it. Nothing is known of it any more, so the retention must be longer
// than the topic's.
func (s *Store) Purge(ctx context.Context, before time.Time) (more bool, err error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM newswire_compensate.records WHERE ce_id IN (
		SELECT ce_id FROM newswire_compensate.records WHERE outcome IS NOT NULL AND settled_at < $1 LIMIT $2)`, before, mostTended)
	if err != nil {
		return false, fmt.Errorf("purge records: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM newswire_compensate.cancelled WHERE at < $1`, before); err != nil {
		return false, fmt.Errorf("purge cancellations: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM newswire_compensate.forgotten WHERE at < $1`, before); err != nil {
		return false, fmt.Errorf("purge forgotten readers: %w", err)
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM newswire_compensate.instances WHERE seen_at < $1`, before); err != nil {
		return false, fmt.Errorf("purge instances: %w", err)
	}
	return tag.RowsAffected() == mostTended, nil
}

// Analyze gathers statistics of tables that have none, or have changed by as much
// as they hold: a server does so by itself only now and then, and plans badly until
// then. It leaves tables of another owner's to the server.
func (s *Store) Analyze(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `SELECT c.oid::regclass::text FROM pg_class c LEFT JOIN pg_stat_user_tables u ON u.relid = c.oid
		WHERE c.relnamespace = 'newswire_compensate'::regnamespace AND c.relname IN ('records', 'deliveries', 'devices', 'cancelled')
		AND pg_has_role(c.relowner, 'USAGE') AND pg_relation_size(c.oid) > $1
		AND (c.reltuples < 0 OR u.n_mod_since_analyze > GREATEST($2, c.reltuples))`, worthAnalyzing, changesWorthAnalyzing)
	if err != nil {
		return fmt.Errorf("look for tables without statistics: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for tables without statistics: %w", err)
	}
	for _, table := range tables {
		if _, err := s.pool.Exec(ctx, "ANALYZE "+table); err != nil {
			return fmt.Errorf("gather statistics of %s: %w", table, err)
		}
	}
	return nil
}

// How large a table is when its plans begin to matter.
const (
	worthAnalyzing        = 256 << 10 // bytes
	changesWorthAnalyzing = 1000      // rows, where it held none
)

// Advance gives those records whose step reached nobody to next, which says where
// they go from there; without targets they are settled.
func (s *Store) Advance(ctx context.Context, next func(context.Context, []Record) ([]Record, error)) (moved int, err error) {
	err = s.transaction(ctx, func(tx *transaction) error {
		rows, err := tx.Query(ctx, `SELECT ce_id, seq, reader, article, action, value, expires_at, step
			FROM newswire_compensate.records WHERE outcome = 'next' LIMIT $1 FOR UPDATE SKIP LOCKED`, mostTended)
		if err != nil {
			return err
		}
		var stuck []Record
		seqs := make(map[string]int64)
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
			var r Record
			var seq int64
			err := row.Scan(&r.CeID, &seq, &r.Reader, &r.Article, &r.Action, &r.Value, &r.Expires, &r.Step)
			stuck, seqs[r.CeID] = append(stuck, r), seq
			return struct{}{}, err
		})
		if err != nil || len(stuck) == 0 {
			return err
		}
		planned, err := next(ctx, stuck)
		if err != nil {
			return err
		}
		var onward []placed
		for _, r := range planned {
			outcome := &r.Outcome
			if len(r.Targets) > 0 {
				onward, outcome = append(onward, placed{r, seqs[r.CeID]}), nil
			}
			if _, err := tx.Exec(ctx, `WITH needed AS (
					SELECT $2::text IS NULL OR EXISTS (SELECT FROM newswire_compensate.deliveries d
						WHERE d.ce_id = $1 AND d.state = 'permanent' AND d.told_at IS NULL) AS yes)
				UPDATE newswire_compensate.records r SET outcome = $2, step = $3,
					settled_at = CASE WHEN $2::text IS NULL THEN NULL ELSE now() END,
					value = CASE WHEN needed.yes THEN r.value END, headers = CASE WHEN needed.yes THEN r.headers END
				FROM needed WHERE ce_id = $1`, r.CeID, outcome, r.Step); err != nil {
				return err
			}
		}
		if err := insertDeliveries(ctx, tx, onward); err != nil {
			return err
		}
		moved = len(planned)
		_, err = cancelOpen(ctx, tx, ceIDs(onward))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("advance records: %w", err)
	}
	return moved, nil
}

// DeadLetter is a delivery that a provider has refused for good.
type DeadLetter struct {
	CeID     string
	Channel  string
	Device   int64
	Reader   string
	Reason   string
	Detail   string
	Attempts int
	Settled  time.Time
	Value    []byte
	Origin
}

// Bury gives tell the dead letters that nobody was told of. They are marked once it
// has returned nil, so that each is told at least once.
func (s *Store) Bury(ctx context.Context, tell func(context.Context, []DeadLetter) error) (told int, err error) {
	err = s.transaction(ctx, func(tx *transaction) error {
		rows, err := tx.Query(ctx, `SELECT d.ce_id, d.channel, d.device, d.reader, d.reason, d.detail, d.attempts, d.settled_at, r.value,
				COALESCE(r.partition, 0), COALESCE(r.position, -1), r.headers
			FROM newswire_compensate.deliveries d JOIN newswire_compensate.records r USING (ce_id)
			WHERE d.state = 'permanent' AND d.told_at IS NULL ORDER BY d.seq LIMIT 100 FOR UPDATE OF d SKIP LOCKED`)
		if err != nil {
			return err
		}
		letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l DeadLetter, err error) {
			err = row.Scan(&l.CeID, &l.Channel, &l.Device, &l.Reader, &l.Reason, &l.Detail, &l.Attempts, &l.Settled, &l.Value,
				&l.Partition, &l.Position, &l.Headers)
			return l, err
		})
		if err != nil || len(letters) == 0 {
			return err
		}
		if err := tell(ctx, letters); err != nil {
			return err
		}
		ids := make([]string, len(letters))
		for i, l := range letters {
			ids[i] = l.CeID
			if _, err := tx.Exec(ctx, `UPDATE newswire_compensate.deliveries SET told_at = now()
				WHERE ce_id = $1 AND channel = $2 AND device = $3`, l.CeID, l.Channel, l.Device); err != nil {
				return err
			}
		}
		told = len(letters)
		_, err = tx.Exec(ctx, `UPDATE newswire_compensate.records SET value = NULL, headers = NULL WHERE ce_id = ANY($1) AND settled_at IS NOT NULL`, ids)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("tell dead letters: %w", err)
	}
	return told, nil
}
