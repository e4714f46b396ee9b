package cdc

import (
	"testing"
	"time"
)

func TestInstantsAreReadAsPostgreSQLPrintsThem(t *testing.T) {
	t.Parallel()
	at := func(text string) instant {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return instantOf(when)
	}
	for text, want := range map[string]instant{
		"2026-11-23 09:41:07.123456+00":   at("2026-11-23T09:41:07.123456Z"),
		"2026-11-23 09:41:07+00":          at("2026-11-23T09:41:07Z"),
		"2026-11-23 09:41:07.1":           at("2026-11-23T09:41:07.1Z"),
		"2026-11-23":                      at("2026-11-23T00:00:00Z"),
		"2024-02-29":                      at("2024-02-29T00:00:00Z"),
		"1969-12-31 23:59:59.999999+00":   -1,
		"infinity":                        never,
		"-infinity":                       always,
		"0044-03-15 12:00:00+00 BC":       always,
		"294276-12-31 23:59:59.999999+00": never,
		"10000-01-01 00:00:00+00":         253402300800000000,
	} {
		if got, ok := parseInstant([]byte(text)); !ok || got != want {
			t.Errorf("%s is read as %d, %v; want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "soon", "2026", "2026-13-01", "2026-11-23T09:41:07Z", "Mon Nov 23 09:41:07 2026"} {
		if got, ok := parseInstant([]byte(text)); ok {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}
