package cdc

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// instant is a moment as PostgreSQL counts: microseconds since 1970, UTC.
type instant int64

const (
	always instant = math.MinInt64 // before every moment
	never  instant = math.MaxInt64 // no moment comes to it
)

// lastYear is one that PostgreSQL knows and microseconds still reach.
const lastYear = 290_000

func instantOf(t time.Time) instant { return instant(t.UnixMicro()) }

// time is for an instant between always and never.
func (i instant) time() time.Time { return time.UnixMicro(int64(i)).UTC() }

// parseInstant reads a timestamptz, timestamp or date as PostgreSQL prints it
// with TimeZone UTC and DateStyle ISO. A timestamp counts as UTC, a date as its
// midnight there.
func parseInstant(text []byte) (i instant, ok bool) {
	switch string(text) {
	case "infinity":
		return never, true
	case "-infinity":
		return always, true
	}
	if bytes.HasSuffix(text, []byte(" BC")) {
		return always, true // no clock that we compare with stood there
	}
	digits, rest, _ := bytes.Cut(text, []byte("-"))
	year, err := strconv.Atoi(string(digits))
	if err != nil || len(digits) < 4 {
		return 0, false
	}
	for _, layout := range []string{"01-02 15:04:05-07", "01-02 15:04:05", "01-02"} {
		// The year is put in afterwards: Go's layouts have four digits for it.
		t, err := time.Parse("2006-"+layout, "2000-"+string(rest)) // a leap year has every day
		if err != nil {
			continue
		}
		if year > lastYear {
			return never, true
		}
		return instantOf(t.UTC().AddDate(year-2000, 0, 0)), true
	}
	return 0, false
}
