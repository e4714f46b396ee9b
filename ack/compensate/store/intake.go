package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Record is one record of the topic with the plan that was made for it.
type Record struct {
	CeID    string
	Reader  string
	Article string // source and key: what ties a publish to its corrects
	Action  string // publish, correct, retract
	Value   []byte // as it stood in Kafka
	Expires time.Time
	Urgent  bool
	Step    int      // how many steps of its route have been tried, this one included
	Targets []Target // where it goes; none: Outcome says why
	Outcome string   // of a record that goes nowhere
	Reason  string   // why
	Origin
}

// Origin is where a record lay in Kafka.
type Origin struct {
	Partition int
	Position  int64  // its offset; negative: not known
	Headers   []byte // those worth keeping, as the caller encodes them; nil: none
}

// Target is where one delivery goes.
type Target struct {
	Channel string
	Device  int64 // 0 for a channel without devices
}

// Intake counts what became of a batch of records.
type Intake struct {
	New       int // not seen before
	Repeated  int // seen before: nothing was changed
	Cancelled int // new, and taken back already
}

// Add takes in records, each once however often it comes, in order. Those that
// were cancelled before they came are settled at once, and what they replace (a
// publish by its correct, everything by its retract) is not sent any more.
func (s *Store) Add(ctx context.Context, records []Record) (done Intake, err error) {
	err = s.transaction(ctx, func(tx *transaction) error {
		fresh, err := insertRecords(ctx, tx, records)
		if err != nil {
			return err
		}
		done = Intake{New: len(fresh), Repeated: len(records) - len(fresh)}
		for _, r := range fresh {
			if len(r.Targets) == 0 {
				tx.ended[Ended{Channel: "none", State: r.Outcome}]++
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		// In this order: what is replaced hands its wait on, and may be of this batch.
		if err := insertDeliveries(ctx, tx, fresh); err != nil {
			return err
		}
		if err := supersede(ctx, tx, fresh); err != nil {
			return err
		}
		done.Cancelled, err = cancelOpen(ctx, tx, ceIDs(fresh))
		return err
	})
	if err != nil {
		return Intake{}, fmt.Errorf("take in %d records: %w", len(records), err)
	}
	return done, nil
}

// placed is a record with its place in the order of arrival.
type placed struct {
	Record
	seq int64
}

func ceIDs(records []placed) []string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.CeID
	}
	return ids
}

// insertRecords gives those that were not there, in order.
func insertRecords(ctx context.Context, tx pgx.Tx, records []Record) ([]placed, error) {
	n := len(records)
	ids, readers, articles, actions := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	values, headers, outcomes := make([][]byte, n), make([][]byte, n), make([]*string, n)
	expires, steps, partitions, positions := make([]time.Time, n), make([]int, n), make([]int, n), make([]int64, n)
	for i, r := range records {
		ids[i], readers[i], articles[i], actions[i] = r.CeID, r.Reader, r.Article, r.Action
		expires[i], steps[i], partitions[i], positions[i] = r.Expires, r.Step, r.Partition, r.Position
		if len(r.Targets) > 0 {
			values[i], headers[i] = r.Value, r.Headers
		} else {
			outcomes[i] = &records[i].Outcome
		}
	}
	rows, err := tx.Query(ctx, `INSERT INTO newswire_compensate.records
			(ce_id, reader, article, action, value, headers, outcome, expires_at, step, partition, position, settled_at)
		SELECT ce_id, reader, article, action, value, headers, outcome, expires_at, step, partition, position, CASE WHEN outcome IS NOT NULL THEN now() END
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::text[], $8::timestamptz[], $9::int[], $10::int[], $11::bigint[])
			WITH ORDINALITY AS n (ce_id, reader, article, action, value, headers, outcome, expires_at, step, partition, position, place)
		ORDER BY place
		ON CONFLICT (ce_id) DO NOTHING RETURNING ce_id, seq`,
		ids, readers, articles, actions, values, headers, outcomes, expires, steps, partitions, positions)
	if err != nil {
		return nil, err
	}
	seqs := make(map[string]int64, n)
	var id string
	var seq int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &seq}, func() error { seqs[id] = seq; return nil }); err != nil {
		return nil, err
	}
	var fresh []placed
	for _, r := range records {
		if seq, there := seqs[r.CeID]; there {
			fresh = append(fresh, placed{r, seq})
			delete(seqs, r.CeID) // the same once more in this batch is a repeat
		}
	}
	return fresh, nil
}

// supersede settles what is not claimed yet and is out of date by a newer record of
// the same reader and article.
func supersede(ctx context.Context, tx *transaction, fresh []placed) error {
	var readers, articles, states []string
	var seqs []int64
	for _, r := range fresh {
		state := "collapsed"
		switch r.Action {
		case "retract":
			state = "retracted"
		case "correct":
		default:
			continue
		}
		readers, articles, states, seqs = append(readers, r.Reader), append(articles, r.Article), append(states, state), append(seqs, r.seq)
	}
	if len(readers) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `UPDATE newswire_compensate.deliveries d SET state = n.state, reason = '', settled_at = now(), owner = NULL
		FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS n (reader, article, state, seq)
		WHERE d.reader = n.reader AND d.article = n.article AND d.seq < n.seq
		AND d.state IN ('waiting', 'taken', 'claimed') AND d.state <> 'claimed'
		RETURNING d.ce_id, d.channel, d.state, d.reason`, readers, articles, states, seqs)
	_, err = closeReturned(ctx, tx, rows, err)
	return err
}

// insertDeliveries makes one for each target. What waits already for the same
// device goes first: the new one is due no earlier, unless it is urgent.
func insertDeliveries(ctx context.Context, tx pgx.Tx, records []placed) error {
	var ids, readers, channels, articles []string
	var devices, seqs []int64
	var urgent []bool
	var expires []time.Time
	for _, r := range records {
		for _, t := range r.Targets {
			ids, readers, channels, articles = append(ids, r.CeID), append(readers, r.Reader), append(channels, t.Channel), append(articles, r.Article)
			devices, seqs, urgent, expires = append(devices, t.Device), append(seqs, r.seq), append(urgent, r.Urgent), append(expires, r.Expires)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO newswire_compensate.deliveries
			(ce_id, reader, channel, article, device, seq, urgent, expires_at, state, due)
		SELECT n.ce_id, n.reader, n.channel, n.article, n.device, n.seq, n.urgent, n.expires_at, 'waiting',
			GREATEST(now(), (SELECT max(w.due) FROM newswire_compensate.deliveries w
				WHERE w.reader = n.reader AND w.channel = n.channel AND w.device = n.device AND w.urgent = n.urgent
				AND w.state IN ('waiting', 'taken', 'claimed') AND w.state = 'waiting'))
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[], $8::timestamptz[])
			AS n (ce_id, reader, channel, article, device, seq, urgent, expires_at)
		ON CONFLICT DO NOTHING`, ids, readers, channels, articles, devices, seqs, urgent, expires)
	return err
}

// reopenable are the outcomes that a replay may change: certainly nobody was told.
var reopenable = []string{"permanent", "gone"}

// Reopen takes records in again, as a replay wants: what was never sent by a
// channel, is not stale and not overtaken by a correction waits again there, what is
// new is added, and the rest stays as it is. It says how many were opened.
func (s *Store) Reopen(ctx context.Context, records []Record) (opened int, err error) {
	err = s.transaction(ctx, func(tx *transaction) error {
		opened = 0
		for _, r := range records {
			if len(r.Targets) == 0 {
				continue
			}
			var seq int64
			err := tx.QueryRow(ctx, `SELECT seq FROM newswire_compensate.records WHERE ce_id = $1 AND outcome IS NOT NULL FOR NO KEY UPDATE`, r.CeID).Scan(&seq)
			if err == pgx.ErrNoRows {
				continue // new, or at work: a dead letter of a record at work is for a later replay
			}
			if err != nil {
				return err
			}
			old, err := overtaken(ctx, tx, placed{r, seq})
			if err != nil {
				return err
			}
			if r.Targets, err = unsent(ctx, tx, r); err != nil {
				return err
			}
			if old || len(r.Targets) == 0 {
				continue
			}
			if _, err := tx.Exec(ctx, `UPDATE newswire_compensate.records
				SET outcome = NULL, settled_at = NULL, value = $2, headers = $3, expires_at = $4, step = $5, partition = $6, position = $7
				WHERE ce_id = $1`, r.CeID, r.Value, r.Headers, r.Expires, r.Step, r.Partition, r.Position); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DELETE FROM newswire_compensate.deliveries WHERE ce_id = $1 AND state = ANY($2)`, r.CeID, reopenable); err != nil {
				return err
			}
			if err := insertDeliveries(ctx, tx, []placed{{r, seq}}); err != nil {
				return err
			}
			if _, err := cancelOpen(ctx, tx, []string{r.CeID}); err != nil {
				return err
			}
			opened++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("reopen records: %w", err)
	}
	fresh, err := s.Add(ctx, slices.Clone(records))
	return opened + fresh.New, err
}

// overtaken tells whether a newer record of the same article was sent to the reader, or
// waits: the old words must not come behind the new ones.
func overtaken(ctx context.Context, tx pgx.Tx, r placed) (yes bool, err error) {
	err = tx.QueryRow(ctx, `SELECT
		EXISTS (SELECT FROM newswire_compensate.deliveries WHERE reader = $1 AND article = $2 AND seq > $3 AND state IN ('sent', 'doubtful')) OR
		EXISTS (SELECT FROM newswire_compensate.deliveries WHERE reader = $1 AND article = $2 AND seq > $3 AND state IN ('waiting', 'taken', 'claimed'))`,
		r.Reader, r.Article, r.seq).Scan(&yes)
	return yes, err
}

// unsent gives those targets of r whose channel has certainly told nobody of it:
// what another channel of the same step has sent is no reason to leave them out.
// What another step has sent is: it stands in for them.
func unsent(ctx context.Context, tx pgx.Tx, r Record) ([]Target, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT channel FROM newswire_compensate.deliveries WHERE ce_id = $1 AND NOT state = ANY($2)`, r.CeID, reopenable)
	if err != nil {
		return nil, err
	}
	told, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, channel := range told {
		if !slices.ContainsFunc(r.Targets, func(t Target) bool { return t.Channel == channel }) {
			return nil, nil
		}
	}
	return slices.DeleteFunc(slices.Clone(r.Targets), func(t Target) bool { return slices.Contains(told, t.Channel) }), nil
}
