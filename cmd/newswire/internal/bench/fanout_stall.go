//go:build linux

package bench

import (
	"errors"
	"fmt"
	"time"

	"newswire/cmd/newswire/internal/bench/yard"
)

// stallBurst is how many messages fill the socket of a reader who does not read,
// and then some.
const stallBurst = 1000

// writeDeadline is when the engine ends a session whose socket stays full.
const writeDeadline = 10 * time.Second

// stall measures delivery while all readers read, while some do not, and behind
// the end of their sessions.
func (g *fanoutGround) stall() (err error) {
	s, err := g.open(yard.Newswire, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := s.connect(g.Readers); err != nil {
		return err
	}
	if err := s.stalls("all read"); err != nil {
		return err
	}
	if err := s.publish(stallBurst, 0); err != nil {
		return err
	}
	if err := s.stalls("behind a burst"); err != nil {
		return err
	}
	if err := s.crowd.Stall(g.Stalled); err != nil {
		return err
	}
	if err := s.publish(stallBurst, 0); err != nil {
		return err
	}
	if err := s.stalls(fmt.Sprintf("%d have stopped", g.Stalled)); err != nil {
		return err
	}
	if err := s.crowd.For(writeDeadline); err != nil {
		return err
	}
	return s.stalls("their sessions have ended")
}

// stalls prints what a delivery to those who read takes now.
func (s *scene) stalls(when string) error {
	cost, err := s.atPace("stall", int(s.g.For.Seconds()*float64(s.g.Rate)))
	if err != nil {
		return err
	}
	used, err := s.child.used(true)
	fmt.Fprintf(s.g.Stdout, "%-26s %6d readers  %s a delivery, 99 %% of them within %.0f ms; %d MB resident\n", when, s.crowd.Up,
		micros(cost), s.slowest().Seconds()*1000, used.Resident>>20)
	return err
}
