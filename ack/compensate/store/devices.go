package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/ack/compensate/channel"
)

// Device is a registered device: how it is reached, and when it wants to be.
type Device struct {
	channel.Device
	Channel    string
	TimeZone   string // as IANA names it; empty: UTC
	QuietFrom  string // 22:00; empty: never quiet
	QuietTo    string
	Registered time.Time
	LastSeen   time.Time // when it was registered last, or something reached it, within a day
}

// MaxDevices is how many one reader may have; the one not seen for longest goes.
const MaxDevices = 20

const deviceColumns = `id, reader, channel, address, keys, language, time_zone, quiet_from, quiet_to, registered_at, last_seen`

// Register declares a device whole: what was known of its address is replaced,
// also when it was another reader's.
func (s *Store) Register(ctx context.Context, d Device) (Device, error) {
	if d.Keys == nil {
		d.Keys = map[string]string{}
	}
	var kept Device
	err := s.transaction(ctx, func(tx *transaction) error {
		rows, err := tx.Query(ctx, `INSERT INTO newswire_compensate.devices AS d
				(reader, channel, address, keys, language, time_zone, quiet_from, quiet_to)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (channel, address) DO UPDATE SET
				reader = excluded.reader, keys = excluded.keys, language = excluded.language, time_zone = excluded.time_zone,
				quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to, last_seen = now(),
				registered_at = CASE WHEN d.reader = excluded.reader THEN d.registered_at ELSE now() END
			RETURNING `+deviceColumns,
			d.Reader, d.Channel, d.Address, d.Keys, d.Language, d.TimeZone, d.QuietFrom, d.QuietTo)
		if err != nil {
			return err
		}
		if kept, err = pgx.CollectExactlyOneRow(rows, scanDevice); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM newswire_compensate.devices WHERE id IN (
			SELECT id FROM newswire_compensate.devices WHERE reader = $1 ORDER BY last_seen DESC, id DESC OFFSET $2)`, d.Reader, MaxDevices)
		return err
	})
	if err != nil {
		return Device{}, fmt.Errorf("register device: %w", err)
	}
	return kept, nil
}

// Devices gives a reader's devices, the one seen last first.
func (s *Store) Devices(ctx context.Context, reader string) ([]Device, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+deviceColumns+` FROM newswire_compensate.devices WHERE reader = $1 ORDER BY last_seen DESC, id DESC`, reader)
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	devices, err := pgx.CollectRows(rows, scanDevice)
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	return devices, nil
}

// DevicesOf gives the devices of many readers.
func (s *Store) DevicesOf(ctx context.Context, readers []string) (map[string][]Device, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+deviceColumns+` FROM newswire_compensate.devices WHERE reader = ANY($1) ORDER BY id`, readers)
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	devices, err := pgx.CollectRows(rows, scanDevice)
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	of := make(map[string][]Device)
	for _, d := range devices {
		of[d.Reader] = append(of[d.Reader], d)
	}
	return of, nil
}

// Selection names devices of one reader; empty fields choose all.
type Selection struct {
	Reader  string
	ID      int64
	Channel string
	Address string
}

// RemoveDevices deletes what the selection names and says how many there were.
func (s *Store) RemoveDevices(ctx context.Context, which Selection) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM newswire_compensate.devices WHERE reader = $1
		AND ($2 = 0 OR id = $2) AND ($3 = '' OR channel = $3) AND ($4 = '' OR address = $4)`,
		which.Reader, which.ID, which.Channel, which.Address)
	if err != nil {
		return 0, fmt.Errorf("delete devices: %w", err)
	}
	return tag.RowsAffected(), nil
}

// ForgetDevices deletes the devices that were last registered, or reached, before
// then, and counts them.
func (s *Store) ForgetDevices(ctx context.Context, before time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM newswire_compensate.devices WHERE last_seen < $1`, before)
	if err != nil {
		return 0, fmt.Errorf("delete devices that nothing has reached: %w", err)
	}
	return tag.RowsAffected(), nil
}

func scanDevice(row pgx.CollectableRow) (d Device, err error) {
	var id int64
	err = row.Scan(&id, &d.Reader, &d.Channel, &d.Address, &d.Keys, &d.Language, &d.TimeZone, &d.QuietFrom, &d.QuietTo, &d.Registered, &d.LastSeen)
	d.ID = strconv.FormatInt(id, 10)
	return d, err
}

// Number is a device's number; 0 for the device of a channel without devices.
func (d Device) Number() int64 {
	n, _ := strconv.ParseInt(d.ID, 10, 64) // our own numbers, or none
	return n
}
