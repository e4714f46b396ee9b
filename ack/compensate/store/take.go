package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Delivery is one record on its way to one device.
type Delivery struct {
	CeID     string
	Channel  string
	Device   int64
	Reader   string
	Article  string
	Action   string
	Urgent   bool
	Attempts int // that were made
	Expires  time.Time
	Bundle   string // of one that was begun and shall be repeated as it was; else empty
	Told     bool   // of a correct: something of the article was sent to the device before
	Value    []byte // the record, as it stood in Kafka

	// taking is which Take of it this is. An instance that slept, or a statement that
	// comes late, has an earlier one, and changes nothing any more.
	taking int64
}

// Bounds of one Take.
const (
	mostPerReader = 100      // deliveries of one reader
	lookAhead     = 8        // due deliveries looked at for each reader wanted
	mostTaken     = 16 << 20 // bytes of records; one is always given
)

// Take gives this instance what is due for at most so many readers on a channel,
// all that is due for each (within bounds), in order of arrival. Nobody else is
// given a reader's deliveries on that channel until all of these are settled or
// put back; so each reader's order holds over instances.
func (s *Store) Take(ctx context.Context, channel string, readers int) (taken []Delivery, err error) {
	err = s.transaction(ctx, func(tx *transaction) error {
		// One at a time: two who look at once could divide a reader.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('newswire_compensate.take.' || $1, 0))`, channel); err != nil {
			return err
		}
		var alive bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM newswire_compensate.instances
			WHERE id = $1 AND seen_at > now() - make_interval(secs => $2))`, s.me, (s.lease / 2).Seconds()).Scan(&alive)
		if err != nil || !alive {
			return err // who is not known to live would lose at once what it took
		}
		rows, err := tx.Query(ctx, takeSQL, channel, readers*lookAhead, readers, mostPerReader, s.me, mostTaken)
		if err != nil {
			return err
		}
		taken, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Delivery, err error) {
			d.Channel = channel
			err = row.Scan(&d.CeID, &d.Device, &d.Reader, &d.Article, &d.Action, &d.Urgent, &d.Attempts, &d.Expires, &d.Bundle, &d.Told, &d.taking)
			return d, err
		})
		return err
	})
	if err == nil {
		err = s.values(ctx, taken)
	}
	if err != nil {
		return nil, fmt.Errorf("take deliveries of channel %s: %w", channel, err)
	}
	return taken, nil
}

// values fetches the records of deliveries: apart from taking them, so that no
// lock is held while megabytes are on their way.
func (s *Store) values(ctx context.Context, taken []Delivery) error {
	if len(taken) == 0 {
		return nil
	}
	ids, _, _ := keys(taken)
	rows, err := s.pool.Query(ctx, `SELECT ce_id, value FROM newswire_compensate.records WHERE ce_id = ANY($1)`, ids)
	if err != nil {
		return err
	}
	of := make(map[string][]byte, len(taken))
	var id string
	var value []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &value}, func() error { of[id], value = value, nil; return nil })
	for i := range taken {
		taken[i].Value = of[taken[i].CeID]
	}
	return err
}

// The state of a row that is known by its key is compared as an expression, here
// and elsewhere: a planner without statistics would else go through an index of
// all that wait. Records are looked up one by one, never joined: a planner that
// believes their table to be empty would else go through all of it for each delivery.
const takeSQL = `
WITH due AS MATERIALIZED (
	SELECT d.reader, d.due, d.seq FROM newswire_compensate.deliveries d
	WHERE d.channel = $1 AND d.state = 'waiting' AND d.due <= now()
	AND (SELECT true FROM newswire_compensate.deliveries b
		WHERE b.reader = d.reader AND b.channel = $1 AND b.state IN ('taken', 'claimed') LIMIT 1) IS NULL
	ORDER BY d.due, d.seq LIMIT $2
), chosen AS MATERIALIZED (
	SELECT reader FROM due GROUP BY reader ORDER BY min(due), min(seq) LIMIT $3
), mine AS MATERIALIZED (
	SELECT ce_id, device FROM (
		SELECT w.ce_id, w.device, row_number() OVER (ORDER BY w.seq) AS n,
			sum((SELECT octet_length(r.value) FROM newswire_compensate.records r WHERE r.ce_id = w.ce_id)) OVER (ORDER BY w.seq) AS bytes
		FROM chosen c CROSS JOIN LATERAL (
			SELECT d.ce_id, d.device, d.seq FROM newswire_compensate.deliveries d
			WHERE d.reader = c.reader AND d.channel = $1 AND d.state = 'waiting' AND d.due <= now()
			ORDER BY d.seq LIMIT $4) w) x
	WHERE bytes <= $6 OR n = 1
), taken AS (
	UPDATE newswire_compensate.deliveries d SET state = 'taken', owner = $5, taking = d.taking + 1
	FROM mine m WHERE d.ce_id = m.ce_id AND d.channel = $1 AND d.device = m.device AND d.state || '' = 'waiting'
	RETURNING d.ce_id, d.device, d.reader, d.article, d.urgent, d.attempts, d.expires_at, COALESCE(d.bundle, '') AS bundle, d.seq, d.taking
)
SELECT t.ce_id, t.device, t.reader, t.article, r.action, t.urgent, t.attempts, t.expires_at, t.bundle,
	CASE WHEN r.action = 'correct' THEN EXISTS (SELECT FROM newswire_compensate.deliveries p WHERE p.reader = t.reader AND p.channel = $1 AND p.device = t.device
		AND p.article = t.article AND p.seq < t.seq AND p.state IN ('sent', 'doubtful')) ELSE false END, t.taking
FROM taken t CROSS JOIN LATERAL (SELECT action FROM newswire_compensate.records WHERE ce_id = t.ce_id OFFSET 0) r ORDER BY t.seq`

// Again says when what was put back is due, and how.
type Again struct {
	In      time.Duration // from now, by the database's clock: what is due is for it to say
	Reason  string
	AsWas   bool // what was claimed together is sent together again: it may have been accepted
	Untried bool // nothing was called: the claim was no attempt
}

// PutBack returns what this instance took and has no outcome of. What waits
// behind it for the same device waits as long, so that nothing overtakes; what
// is urgent and what is not do not wait for each other.
func (s *Store) PutBack(ctx context.Context, ds []Delivery, again Again) error {
	if len(ds) == 0 {
		return nil
	}
	ids, devices, takings := keys(ds)
	err := s.transaction(ctx, func(tx *transaction) error {
		_, err := tx.Exec(ctx, `UPDATE newswire_compensate.deliveries d SET state = 'waiting', owner = NULL, due = now() + $4::interval, reason = $5,
				bundle = CASE WHEN d.state = 'claimed' AND NOT $7 THEN NULL ELSE d.bundle END,
				attempts = d.attempts - (d.state = 'claimed' AND $8)::int
			FROM unnest($2::text[], $3::bigint[], $9::bigint[]) AS n (ce_id, device, taking)
			WHERE d.ce_id = n.ce_id AND d.channel = $1 AND d.device = n.device AND d.taking = n.taking AND d.owner IS NOT DISTINCT FROM $6 AND d.state || '' IN ('taken', 'claimed')`,
			ds[0].Channel, ids, devices, again.In, again.Reason, s.me, again.AsWas, again.Untried, takings)
		if err != nil {
			return err
		}
		for _, d := range oneOfEach(ds) {
			if _, err := tx.Exec(ctx, `UPDATE newswire_compensate.deliveries SET due = now() + $5::interval
				WHERE reader = $1 AND channel = $2 AND device = $3 AND urgent = $4 AND state IN ('waiting', 'taken', 'claimed')
				AND state = 'waiting' AND due < now() + $5::interval`, d.Reader, d.Channel, d.Device, d.Urgent, again.In); err != nil {
				return err
			}
		}
		_, err = cancelOpen(ctx, tx, ids)
		return err
	})
	if err != nil {
		return fmt.Errorf("put back %d deliveries of channel %s: %w", len(ds), ds[0].Channel, err)
	}
	return nil
}

// oneOfEach gives one delivery for each device and urgency.
func oneOfEach(ds []Delivery) map[string]Delivery {
	one := make(map[string]Delivery)
	for _, d := range ds {
		one[fmt.Sprintf("%d %t %s", d.Device, d.Urgent, d.Reader)] = d
	}
	return one
}

// Release puts back all that this instance has taken on a channel and not
// claimed: behind a Take whose answer was lost, when nothing is at work.
func (s *Store) Release(ctx context.Context, channel string) error {
	_, err := s.pool.Exec(ctx, `UPDATE newswire_compensate.deliveries SET state = 'waiting', owner = NULL
		WHERE owner = $1 AND channel = $2 AND state = 'taken'`, s.me, channel)
	if err != nil {
		return fmt.Errorf("release deliveries of channel %s: %w", channel, err)
	}
	return nil
}

func keys(ds []Delivery) (ids []string, devices, takings []int64) {
	for _, d := range ds {
		ids, devices, takings = append(ids, d.CeID), append(devices, d.Device), append(takings, d.taking)
	}
	return ids, devices, takings
}
