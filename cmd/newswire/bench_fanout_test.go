//go:build linux

package main

import (
	"strings"
	"testing"

	"newswire/cmd/newswire/internal/harness"
)

// The benchmark runs from one end to the other, with every reader of each of
// the three servers getting every message in order, and judges by every gate.
func TestFanoutIsMeasuredBesideItsYardsticks(t *testing.T) {
	t.Parallel()
	ran := harness.Run(t, t.TempDir(), nil, "bench", "fanout", "--readers", "20", "--rate", "50", "--for", "1s", "--burst", "20", "--burst-readers", "10", "--runs", "1")
	if ran.Code != 0 {
		t.Fatalf("code %d: %s%s", ran.Code, ran.Stdout, ran.Stderr)
	}
	for _, want := range []string{"bare ", "gorilla ", "newswire ", "a delivery : bare", "a delivery : gorilla", "99 % of the readers : bare", "in a burst : bare", "acknowledgement : bare", "kB of an idle"} {
		if !strings.Contains(ran.Stdout, want) {
			t.Errorf("nothing is said of %q:\n%s", want, ran.Stdout)
		}
	}
	back := harness.Run(t, t.TempDir(), nil, "bench", "fanout", "--readers", "20", "--reconnect", "--rate", "50")
	if back.Code != 0 || !strings.Contains(back.Stdout, "20 of them resumed without a gap") || !strings.Contains(back.Stdout, "missing 0, repeated 0") {
		t.Errorf("code %d: %s%s", back.Code, back.Stdout, back.Stderr)
	}
	slow := harness.Run(t, t.TempDir(), nil, "bench", "fanout", "--readers", "20", "--stalled", "5", "--rate", "50", "--for", "1s")
	if slow.Code != 0 || !strings.Contains(slow.Stdout, "their sessions have ended      15 readers") {
		t.Errorf("code %d: %s%s", slow.Code, slow.Stdout, slow.Stderr)
	}
	many := harness.Run(t, t.TempDir(), nil, "bench", "fanout", "--readers", "100000000")
	if many.Code != 1 || !strings.Contains(many.Stderr, "raise the limit") {
		t.Errorf("too many readers: code %d, %s", many.Code, many.Stderr)
	}
}
