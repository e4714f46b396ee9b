//go:build linux

package bench

import (
	"fmt"
	"io"
	"time"

	"newswire/cmd/newswire/internal/bench/yard"
)

// Gates: what the engine may take, as a part of what a yardstick takes, and in
// bytes of an idle connection.
const (
	gateBare    = 1.4
	gateGorilla = 0.65
	gateSlowest = 1.3
	gateBurst   = 0.3
	gateAcked   = 2.7
	aimIdle     = 4000
	gateIdle    = 6000
)

// judge prints the medians' ratios beside the gates.
func judge(w io.Writer, all map[string]*figures) {
	ours, bare, gorilla := all[yard.Newswire], all[yard.Bare], all[yard.Gorilla]
	fmt.Fprintf(w, "\nnewswire against the yardsticks, medians of %d\n", len(ours.delivery))
	ratio(w, "a delivery : bare", ours.delivery, bare.delivery, gateBare)
	ratio(w, "a delivery : gorilla", ours.delivery, gorilla.delivery, gateGorilla)
	ratio(w, "99 % of the readers : bare", ours.slowest, bare.slowest, gateSlowest)
	if len(ours.burst) > 0 {
		ratio(w, "a delivery in a burst : bare", ours.burst, bare.burst, gateBurst)
	}
	ratio(w, "delivery and acknowledgement : bare delivery", ours.acked, bare.delivery, gateAcked)
	idle := float64(median(ours.idle))
	fmt.Fprintf(w, "%-46s %5.1f   at most %.1f, aim %.1f: %s\n", "kB of an idle connection", idle/1000, gateIdle/1000., aimIdle/1000., verdict(idle <= gateIdle))
}

func ratio(w io.Writer, what string, ours, theirs []time.Duration, gate float64) {
	r := float64(median(ours)) / float64(median(theirs))
	fmt.Fprintf(w, "%-46s %5.2f   at most %.2f: %s\n", what, r, gate, verdict(r <= gate))
}

func verdict(holds bool) string {
	if holds {
		return "holds"
	}
	return "missed"
}
