//go:build linux

package bench

import (
	"errors"
	"fmt"
	"time"

	"newswire/cmd/newswire/internal/bench/yard"
)

// figures of one kind of server, a value for each run.
type figures struct {
	delivery []time.Duration // processor time of one
	slowest  []time.Duration // until 99 % of the readers had a message, the median message
	idle     []time.Duration // bytes of a connection; a duration so that all are alike
	burst    []time.Duration // processor time of a delivery
	acked    []time.Duration // processor time of a delivery and its acknowledgement
}

// warmUp is how many messages go before those that are measured.
const warmUp = 10

// compare measures the three servers in turn.
func (g *fanoutGround) compare() error {
	all := map[string]*figures{yard.Bare: {}, yard.Gorilla: {}, yard.Newswire: {}}
	for run := range g.Runs {
		for _, kind := range []string{yard.Bare, yard.Gorilla, yard.Newswire} {
			if err := g.stream(kind, all[kind]); err != nil {
				return err
			}
			if err := g.burst(kind, all[kind]); err != nil {
				return err
			}
			all[kind].print(g, run, kind)
		}
		if err := g.acked(all[yard.Newswire]); err != nil {
			return err
		}
		acked := all[yard.Newswire].acked
		fmt.Fprintf(g.Stdout, "run %d  %-8s  every delivery acknowledged: %s for both\n", run+1, yard.Newswire, micros(acked[run]))
	}
	judge(g.Stdout, all)
	return nil
}

func (fs *figures) print(g *fanoutGround, run int, kind string) {
	fmt.Fprintf(g.Stdout, "run %d  %-8s  %s a delivery, 99 %% of the readers within %.0f ms, %.1f kB an idle connection", run+1, kind,
		micros(fs.delivery[run]), fs.slowest[run].Seconds()*1000, float64(fs.idle[run])/1000)
	if g.Burst > 0 {
		fmt.Fprintf(g.Stdout, "; in a burst %s a delivery", micros(fs.burst[run]))
	}
	fmt.Fprintln(g.Stdout)
}

func micros(d time.Duration) string { return fmt.Sprintf("%.2f µs", d.Seconds()*1e6) }

// stream measures memory, and then delivery at an even pace.
func (g *fanoutGround) stream(kind string, fs *figures) (err error) {
	s, err := g.open(kind, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	idle, err := s.connect(g.Readers)
	if err != nil {
		return err
	}
	fs.idle = append(fs.idle, time.Duration(idle))
	cost, err := s.atPace("stream", int(g.For.Seconds()*float64(g.Rate)))
	fs.delivery = append(fs.delivery, cost)
	fs.slowest = append(fs.slowest, s.slowest())
	return err
}

// connect brings readers and gives the memory of each.
func (s *scene) connect(readers int) (each int64, err error) {
	before, err := s.child.used(true)
	if err != nil {
		return 0, err
	}
	if err := s.crowd.Connect(readers, s.next); err != nil {
		return 0, err
	}
	if err := s.crowd.For(time.Second); err != nil { // what connecting has left to do
		return 0, err
	}
	after, err := s.child.used(true)
	return (after.Resident - before.Resident) / int64(readers), err
}

// atPace measures count messages at the benchmark's rate.
func (s *scene) atPace(what string, count int) (time.Duration, error) {
	every := time.Second / time.Duration(s.g.Rate)
	if err := s.publish(warmUp, every); err != nil {
		return 0, err
	}
	return s.cost(what, count, every)
}

// slowest is the time within which 99 % of the readers had a message, the
// median message of those last measured.
func (s *scene) slowest() time.Duration {
	times := s.crowd.Slowest(0.01)
	if len(times) == 0 {
		return 0
	}
	return times[len(times)/2]
}

// burst measures many messages at once.
func (g *fanoutGround) burst(kind string, fs *figures) (err error) {
	if g.Burst == 0 {
		return nil
	}
	s, err := g.open(kind, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := s.connect(g.BurstReaders); err != nil {
		return err
	}
	if err := s.publish(warmUp, time.Second/time.Duration(g.Rate)); err != nil {
		return err
	}
	cost, err := s.cost("burst", g.Burst, 0)
	fs.burst = append(fs.burst, cost)
	return err
}

// acked measures the engine with readers who acknowledge everything.
func (g *fanoutGround) acked(fs *figures) (err error) {
	s, err := g.open(yard.Newswire, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := s.connect(g.Readers); err != nil {
		return err
	}
	cost, err := s.atPace("acked", int(g.For.Seconds()*float64(g.Rate)))
	fs.acked = append(fs.acked, cost)
	return err
}
