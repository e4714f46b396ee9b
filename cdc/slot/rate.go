package slot

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rate is how fast the server writes log.
type Rate struct {
	BytesPerSecond float64  `json:"bytes_per_second"`
	SecondsLeft    *float64 `json:"seconds_left"` // until the slot is lost if reading stops now, at the earliest, or without a limit the disk full; nil: never, not known, or lost already
}

// Sample is the end of the log at one moment of the server's clock.
type Sample struct {
	position int64
	seconds  float64
}

// Take reads where the log ends now.
func Take(ctx context.Context, conn *pgx.Conn) (s Sample, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce("+position+" - '0/0'::pg_lsn, 0)::bigint, extract(epoch FROM pg_catalog.clock_timestamp())::float8").
		Scan(&s.position, &s.seconds)
	if err != nil {
		return s, fmt.Errorf("read end of log: %w", err)
	}
	return s, nil
}

// Until waits until at least over has passed since s and gives the bytes
// written per second in between.
func (s Sample) Until(ctx context.Context, conn *pgx.Conn, over time.Duration) (bytesPerSecond float64, err error) {
	for {
		now, err := Take(ctx, conn)
		if err != nil {
			return 0, err
		}
		passed := now.seconds - s.seconds
		if passed >= over.Seconds() && passed > 0 {
			return max(float64(now.position-s.position)/passed, 0), nil
		}
		// A clock that was set back must not make us wait for more than over.
		wait := time.NewTimer(min(over, time.Duration((over.Seconds()-passed)*float64(time.Second))+time.Millisecond))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return 0, ctx.Err()
		}
	}
}

// Measure sets the rate from two looks at the end of the log.
func (s *Status) Measure(ctx context.Context, conn *pgx.Conn, over time.Duration) error {
	first, err := Take(ctx, conn)
	if err != nil {
		return err
	}
	rate, err := first.Until(ctx, conn, over)
	if err != nil {
		return err
	}
	s.SetRate(rate)
	return nil
}

// SetRate takes a rate that was measured elsewhere.
func (s *Status) SetRate(bytesPerSecond float64) {
	s.Rate = &Rate{BytesPerSecond: bytesPerSecond}
	if s.Lost() || bytesPerSecond <= 0 {
		return
	}
	room := int64(-1)
	if s.SafeWAL != nil {
		room = max(*s.SafeWAL, 0)
	} else if s.Disk != nil {
		room = s.Disk.Free
	}
	if room >= 0 {
		left := float64(room) / bytesPerSecond
		s.Rate.SecondsLeft = &left
	}
}
