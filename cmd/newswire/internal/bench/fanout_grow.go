//go:build linux

package bench

import (
	"errors"
	"fmt"
	"time"

	"newswire/cmd/newswire/internal/bench/yard"
)

// curve is the numbers of readers at which the engine's growth is looked at.
var curve = []int{1_000, 2_500, 5_000, 10_000, 15_000}

// grow lets readers come to one engine, and measures at each step of the curve.
func (g *fanoutGround) grow() (err error) {
	s, err := g.open(yard.Newswire, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	begun, err := s.child.used(true)
	if err != nil {
		return err
	}
	for _, readers := range curve {
		if _, err := s.connect(readers); err != nil {
			return err
		}
		idle, err := s.child.used(true)
		if err != nil {
			return err
		}
		cost, err := s.atPace(fmt.Sprint(readers), int(g.For.Seconds()*float64(g.Rate)))
		if err != nil {
			return err
		}
		fmt.Fprintf(g.Stdout, "%6d readers  %s a delivery, 99 %% of them within %.0f ms, %.1f kB each\n", readers,
			micros(cost), s.slowest().Seconds()*1000, float64(idle.Resident-begun.Resident)/float64(readers)/1000)
	}
	return nil
}

// Messages before and behind the restart.
const (
	beforeRestart = 20
	behindRestart = 10
)

// reconnect kills the engine under its readers, starts it again, and tells when
// all are back and have what was published meanwhile.
func (g *fanoutGround) reconnect() (err error) {
	s, err := g.open(yard.Newswire, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := s.connect(g.Readers); err != nil {
		return err
	}
	if err := s.publish(beforeRestart, time.Second/time.Duration(g.Rate)); err != nil {
		return err
	}
	if _, err := s.rest(); err != nil {
		return err
	}
	if err := s.child.kill(); err != nil {
		return err
	}
	began := time.Now()
	s.crowd.Return()
	if err := s.restart(); err != nil {
		return err
	}
	served := time.Since(began)
	want := s.crowd.Delivered + behindRestart*g.Readers
	if err := s.child.tell(yard.Order{Publish: &yard.Publish{First: s.next, Count: behindRestart, Every: time.Second / time.Duration(g.Rate)}}); err != nil {
		return err
	}
	if err := s.crowd.Until(func() bool { return s.crowd.Lost >= g.Readers && s.crowd.Up == g.Readers }); err != nil {
		return err
	}
	back := time.Since(began)
	if err := s.crowd.Until(func() bool { return s.crowd.Delivered >= want }); err != nil {
		return err
	}
	got := time.Since(began)
	if _, err := s.child.answer(); err != nil {
		return err
	}
	used, err := s.rest()
	fmt.Fprintf(g.Stdout, "killed with %d readers; served again after %.2f s, all back after %.2f s, %d of them resumed without a gap\n", g.Readers,
		served.Seconds(), back.Seconds(), s.crowd.Resumed)
	fmt.Fprintf(g.Stdout, "%d messages published meanwhile were with everybody after %.2f s; missing %d, repeated %d; CPU %.2f s\n", behindRestart,
		got.Seconds(), s.crowd.Missing, s.crowd.Repeated, used.CPU.Seconds())
	return err
}

// restart starts the server again where it was, while the readers try to
// connect.
func (s *scene) restart() error {
	type started struct {
		child *child
		err   error
	}
	listens := make(chan started, 1)
	go func() {
		c, err := startChild(s.kind, s.dir, s.child.address.String())
		listens <- started{c, err}
	}()
	var got *started
	err := s.crowd.Until(func() bool {
		select {
		case one := <-listens:
			got = &one
		default:
		}
		return got != nil
	})
	if got != nil && got.child != nil {
		s.child = got.child
	}
	if err != nil {
		return err
	}
	return got.err
}
