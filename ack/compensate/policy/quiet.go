package policy

import (
	"fmt"
	"time"
	_ "time/tzdata" // where the machine has no zones, as in small images
)

// CheckQuiet says what is wrong with a device's zone and quiet hours.
func CheckQuiet(zone, from, to string) error {
	if zone == "Local" {
		return fmt.Errorf("time_zone %q is not known: write a name of the IANA list, such as Europe/Vienna", zone)
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return fmt.Errorf("time_zone %q is not known: write a name of the IANA list, such as Europe/Vienna", zone)
	}
	if (from == "") != (to == "") {
		return fmt.Errorf("quiet_hours need both from and to, such as {\"from\":\"22:00\",\"to\":\"07:00\"}")
	}
	for _, text := range []string{from, to} {
		if _, err := time.Parse(clock, text); text != "" && err != nil {
			return fmt.Errorf("quiet_hours: %q is not a time of day, such as 22:00", text)
		}
	}
	return nil
}

// clock is the form of a time of day.
const clock = "15:04"

// Quiet tells whether a reader in this zone wants to be left alone now, and
// until when. Hours that end before they begin go over midnight; those that
// cannot be read are none.
func Quiet(now time.Time, zone, from, to string) (until time.Time, quiet bool) {
	begin, err := time.Parse(clock, from)
	end, err2 := time.Parse(clock, to)
	if err != nil || err2 != nil || begin.Equal(end) {
		return time.Time{}, false
	}
	place, err := time.LoadLocation(zone)
	if err != nil {
		return time.Time{}, false
	}
	now = now.In(place)
	// Yesterday's night may reach into today. Dates, not hours, are added: on
	// two days of the year a day does not have 24.
	for day := -1; day <= 0; day++ {
		starts := at(now, day, begin)
		ends := at(now, day, end)
		if !end.After(begin) {
			ends = at(now, day+1, end)
		}
		if !now.Before(starts) && now.Before(ends) {
			return ends, true
		}
	}
	return time.Time{}, false
}

func at(now time.Time, days int, t time.Time) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d+days, t.Hour(), t.Minute(), 0, 0, now.Location())
}
