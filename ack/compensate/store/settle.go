package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// claimAsk wants some deliveries of one channel claimed, all or none.
type claimAsk struct {
	deliveries []Delivery
	bundle     string
}

// Claim writes down that this instance is about to send the deliveries, as one
// notification under the id bundle. False means that it must not: some of them
// were cancelled or have lost their device, or were taken anew by now.
func (s *Store) Claim(ds []Delivery, bundle string) (bool, error) {
	ok, err := s.claims.ask(claimAsk{ds, bundle})
	if err != nil {
		return false, fmt.Errorf("claim %s: %w", bundle, err)
	}
	return ok, nil
}

func (s *Store) claimAll(ctx context.Context, asks []claimAsk) ([]bool, error) {
	var numbers, sizes []int
	var ids, channels, bundles []string
	var devices, takings []int64
	for i, a := range asks {
		for _, d := range a.deliveries {
			numbers, sizes, bundles = append(numbers, i), append(sizes, len(a.deliveries)), append(bundles, a.bundle)
			ids, channels, devices, takings = append(ids, d.CeID), append(channels, d.Channel), append(devices, d.Device), append(takings, d.taking)
		}
	}
	var claimed []int
	err := s.transaction(ctx, func(tx *transaction) error {
		rows, err := tx.Query(ctx, claimSQL, numbers, sizes, ids, channels, devices, bundles, s.me, takings)
		if err == nil {
			claimed, err = pgx.CollectRows(rows, pgx.RowTo[int])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	count := make([]int, len(asks))
	for _, ask := range claimed {
		count[ask]++
	}
	ok := make([]bool, len(asks))
	for i, a := range asks {
		ok[i] = count[i] == len(a.deliveries)
	}
	return ok, nil
}

const claimSQL = `
WITH n AS (
	SELECT * FROM unnest($1::int[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::text[], $8::bigint[])
		AS n (ask, size, ce_id, channel, device, bundle, taking)
), whole AS (
	SELECT n.ask FROM n JOIN newswire_compensate.deliveries d USING (ce_id, channel, device, taking)
	WHERE d.owner IS NOT DISTINCT FROM $7 AND d.state || '' = 'taken'
	AND NOT EXISTS (SELECT FROM newswire_compensate.cancelled c WHERE c.ce_id = n.ce_id)
	AND (n.device = 0 OR EXISTS (SELECT FROM newswire_compensate.devices v WHERE v.id = n.device AND v.reader = d.reader))
	GROUP BY n.ask HAVING count(*) = max(n.size)
)
UPDATE newswire_compensate.deliveries d
SET state = 'claimed', bundle = n.bundle, attempts = d.attempts + 1, claimed_at = now()
FROM n JOIN whole USING (ask)
WHERE d.ce_id = n.ce_id AND d.channel = n.channel AND d.device = n.device AND d.taking = n.taking AND d.owner IS NOT DISTINCT FROM $7 AND d.state || '' = 'taken'
RETURNING n.ask`

// Settled is the outcome of a delivery that this instance took.
type Settled struct {
	Delivery
	State      string // sent, doubtful, gone, permanent, expired, skipped, collapsed
	Reason     string
	Detail     string
	ProviderID string
}

// Settle writes outcomes down, all or none: those of a digest are one. It waits for
// the database; an error means that they are not known to be written, and may be
// asked for again.
func (s *Store) Settle(outcomes []Settled) error {
	if len(outcomes) == 0 {
		return nil
	}
	if _, err := s.settles.ask(outcomes); err != nil {
		return fmt.Errorf("settle %s on channel %s: %w", outcomes[0].CeID, outcomes[0].Channel, err)
	}
	return nil
}

func (s *Store) settleAll(ctx context.Context, asks [][]Settled) ([]bool, error) {
	all := slices.Concat(asks...)
	var ids, channels, states, reasons, details, provided []string
	var devices, takings []int64
	for _, o := range all {
		takings = append(takings, o.taking)
		ids, channels, devices = append(ids, o.CeID), append(channels, o.Channel), append(devices, o.Device)
		states, reasons, details, provided = append(states, o.State), append(reasons, o.Reason), append(details, o.Detail), append(provided, o.ProviderID)
	}
	written := make([]bool, len(asks)) // nobody asks for more than the error
	err := s.transaction(ctx, func(tx *transaction) error {
		// What others held for doubtful, because this instance was slow, has its outcome now.
		rows, err := tx.Query(ctx, `UPDATE newswire_compensate.deliveries d
			SET state = n.state, reason = n.reason, detail = n.detail, provider_id = n.provider_id, settled_at = now()
			FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $9::bigint[])
				AS n (ce_id, channel, device, state, reason, detail, provider_id, taking)
			WHERE d.ce_id = n.ce_id AND d.channel = n.channel AND d.device = n.device AND d.taking = n.taking
			AND d.owner IS NOT DISTINCT FROM $8 AND d.state || '' IN ('taken', 'claimed', 'doubtful')
			RETURNING d.ce_id, d.channel, d.state, d.reason`, ids, channels, devices, states, reasons, details, provided, s.me, takings)
		if _, err = closeReturned(ctx, tx, rows, err); err != nil {
			return err
		}
		return reached(ctx, tx, all)
	})
	return written, err
}

// reached notes, at most once a day for each, the devices that something came to.
func reached(ctx context.Context, tx *transaction, all []Settled) error {
	var devices []int64
	for _, o := range all {
		if o.State == "sent" && o.Device != 0 {
			devices = append(devices, o.Device)
		}
	}
	if len(devices) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE newswire_compensate.devices SET last_seen = now() WHERE id = ANY($1) AND last_seen < now() - interval '1 day'`, devices)
	return err
}

// closeReturned closes the records whose deliveries a statement has settled and
// returned, and counts these.
func closeReturned(ctx context.Context, tx *transaction, rows pgx.Rows, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	var ids []string
	var id string
	var what Ended
	_, err = pgx.ForEachRow(rows, []any{&id, &what.Channel, &what.State, &what.Reason}, func() error {
		ids = append(ids, id)
		tx.ended[what]++
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	// In order, and locked before their deliveries are looked at: two statements
	// that settle the last two deliveries of a record must not both see the other's open.
	if _, err := tx.Exec(ctx, `SELECT FROM newswire_compensate.records WHERE ce_id = ANY($1) ORDER BY ce_id FOR NO KEY UPDATE`, ids); err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, closeSQL, ids)
	return len(ids), err
}

// What has ended is worked out once, whatever the planner believes of the records.
const closeSQL = `
WITH o AS (
	SELECT ce_id, bool_or(state = 'sent') AS sent, bool_or(state = 'doubtful') AS doubtful,
		bool_or(state IN ('cancelled', 'collapsed', 'retracted')) AS stopped, bool_or(state = 'expired') AS expired,
		bool_or(state = 'skipped') AS skipped, bool_or(state = 'permanent' AND told_at IS NULL) AS dead,
		bool_or(state IN ('waiting', 'taken', 'claimed')) AS open
	FROM newswire_compensate.deliveries WHERE ce_id = ANY($1) GROUP BY ce_id
), ended AS MATERIALIZED (
	SELECT ce_id, dead, CASE WHEN sent THEN 'sent' WHEN doubtful THEN 'doubtful' WHEN stopped THEN 'cancelled'
		WHEN expired THEN 'expired' WHEN skipped THEN 'skipped' ELSE 'next' END AS outcome
	FROM o WHERE NOT open
)
UPDATE newswire_compensate.records r SET outcome = e.outcome,
	settled_at = CASE WHEN e.outcome = 'next' THEN NULL ELSE now() END,
	value = CASE WHEN e.outcome = 'next' OR e.dead THEN r.value END,
	headers = CASE WHEN e.outcome = 'next' OR e.dead THEN r.headers END
FROM ended e WHERE r.ce_id = e.ce_id`
