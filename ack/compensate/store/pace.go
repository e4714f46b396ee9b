package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Turn is when a channel with a rate may make a call.
type Turn struct {
	In      time.Duration // from now
	Granted bool          // false: ask again then
}

// paceAsk wants a turn on a channel whose calls are gap apart.
type paceAsk struct {
	channel string
	gap     time.Duration
}

// farthest is how far ahead turns are given out: what is not used, because an
// instance ended, is lost to all for so long.
const farthest = time.Second

// Turn gives the next turn of a channel that makes so many calls in a second,
// over all instances and by the database's clock.
func (s *Store) Turn(channel string, perSecond float64) (Turn, error) {
	turn, err := s.paces.ask(paceAsk{channel, time.Duration(float64(time.Second) / perSecond)})
	if err != nil {
		return Turn{}, fmt.Errorf("ask for a turn on channel %s: %w", channel, err)
	}
	return turn, nil
}

func (s *Store) paceAll(ctx context.Context, asks []paceAsk) ([]Turn, error) {
	turns := make([]Turn, len(asks))
	same := make(map[paceAsk][]int)
	for i, a := range asks {
		same[a] = append(same[a], i)
	}
	for a, askers := range same {
		first, granted, err := s.pace(ctx, a, len(askers))
		if err != nil {
			return nil, err
		}
		for i, asker := range askers {
			if i < granted {
				turns[asker] = Turn{In: max(0, first) + time.Duration(i)*a.gap, Granted: true}
			} else {
				turns[asker] = Turn{In: farthest}
			}
		}
	}
	return turns, nil
}

// pace gives out up to n turns, of which the first is so far ahead.
func (s *Store) pace(ctx context.Context, a paceAsk, n int) (first time.Duration, granted int, err error) {
	var seconds float64
	err = s.pool.QueryRow(ctx, `
		WITH free AS (
			SELECT GREATEST(next, clock_timestamp()) AS at FROM newswire_compensate.paces WHERE channel = $1 FOR UPDATE
		), given AS MATERIALIZED (
			SELECT at, GREATEST(0, LEAST($2::int, ceil(($4::float8 - extract(epoch FROM at - clock_timestamp())) / $3::float8)::int)) AS n FROM free
		)
		UPDATE newswire_compensate.paces p SET next = given.at + make_interval(secs => given.n * $3::float8)
		FROM given WHERE p.channel = $1
		RETURNING extract(epoch FROM given.at - clock_timestamp())::float8, given.n`,
		a.channel, n, a.gap.Seconds(), farthest.Seconds()).Scan(&seconds, &granted)
	if !errors.Is(err, pgx.ErrNoRows) {
		return time.Duration(seconds * float64(time.Second)), granted, err
	}
	// Nobody has called on this channel before.
	if _, err = s.pool.Exec(ctx, `INSERT INTO newswire_compensate.paces (channel, next) VALUES ($1, clock_timestamp()) ON CONFLICT DO NOTHING`, a.channel); err != nil {
		return 0, 0, err
	}
	return s.pace(ctx, a, n)
}
