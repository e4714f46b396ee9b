// Package fault has the places where tests end the program, or slow it down:
// each is named, costs one atomic load, and does nothing unless switched on. It
// lies at the head of the flow, so that every hop may have such places.
package fault

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Points of the engine, in flow order. Those of the compensation service stand
// in its own package.
const (
	Decoded      = "cdc.decoded"       // a change was read from the slot and decoded, and nobody else knows of it
	Confirming   = "cdc.confirming"    // the journal has synced further than the server knows; it is told next
	Committing   = "journal.commit"    // a batch is about to be given to Badger
	Committed    = "journal.committed" // Badger has synced it, and nobody was told
	Dropping     = "journal.drop"      // segments that have expired are about to be dropped
	Dropped      = "journal.dropped"   // they are, and that is not noted
	HandedOn     = "fanout.handed_on"  // a message has its audience and is with the pools; how far everything is routed is not recorded
	Writing      = "gateway.write"     // frames are noted as sent, and about to be written to a socket
	Written      = "gateway.written"   // they are written
	SavingAcks   = "ack.save"          // changed accounts are about to be queued for the disk
	SavedAcks    = "ack.saved"         // they are durable
	Producing    = "offline.produce"   // a batch is about to be sent to Kafka
	Produced     = "offline.produced"  // Kafka has acknowledged it, and the ledger does not know
	SettledKafka = "offline.settled"   // the ledger knows
)

// Points are those of the engine that an article passes on its way. Segments
// are dropped now and then, when there are any.
var Points = []string{
	Decoded, Confirming, Committing, Committed, HandedOn, Writing, Written,
	SavingAcks, SavedAcks, Producing, Produced, SettledKafka,
}

// Unsynced is no place but a way of working, for the test that cuts the power:
// the journal leaves syncing to the operating system.
const Unsynced = "journal.unsynced"

// hook is what every point calls; nil while faults are off.
var hook atomic.Pointer[func(point string)]

// active are the ways of working that Switch has turned on; nil: none.
var active atomic.Pointer[[]string]

// Point is a place where a fault may happen.
func Point(name string) {
	if f := hook.Load(); f != nil {
		(*f)(name)
	}
}

// On tells whether a way of working was switched on.
func On(name string) bool {
	names := active.Load()
	return names != nil && slices.Contains(*names, name)
}

// Hook lets f see every point that is passed, from any goroutine, until undo is
// called.
func Hook(f func(point string)) (undo func()) {
	before := hook.Swap(&f)
	return func() { hook.Store(before) }
}

// action is what happens at one point.
type action struct {
	left  atomic.Int64  // passes until the process ends; not above 0: it does not
	sleep time.Duration // at every pass
}

// Switch turns on the faults that spec names, for the process's life. Several
// are separated by commas; none means off.
//
//	journal.commit=kill@17    ends it, as kill -9 would, when that point is passed for the 17th time
//	journal.commit=sleep@200ms  takes so long at every pass
//	journal.unsynced=on       a way of working
func Switch(spec string) error {
	if spec == "" {
		return nil
	}
	actions, names := make(map[string]*action), []string(nil)
	for one := range strings.SplitSeq(spec, ",") {
		point, what, _ := strings.Cut(one, "=")
		a := actions[point]
		if a == nil {
			a = new(action)
		}
		if point == "" || !a.parse(what) && what != "on" {
			return fmt.Errorf("fault %q is none of point=kill@N, N from 1, point=sleep@DURATION and name=on", one)
		}
		if what == "on" {
			names = append(names, point)
			continue
		}
		actions[point] = a
	}
	if len(names) > 0 {
		active.Store(&names)
	}
	Hook(func(point string) {
		a := actions[point]
		if a == nil {
			return
		}
		if a.sleep > 0 {
			time.Sleep(a.sleep)
		}
		if a.left.Add(-1) == 0 {
			kill()
		}
	})
	return nil
}

// parse reads what is to happen; false where that is nothing known.
func (a *action) parse(text string) bool {
	verb, value, _ := strings.Cut(text, "@")
	switch verb {
	case "kill":
		n, err := strconv.ParseInt(value, 10, 64)
		a.left.Store(n)
		return err == nil && n > 0
	case "sleep":
		d, err := time.ParseDuration(value)
		a.sleep = d
		return err == nil && d > 0
	}
	return false
}

// kill ends the process without a chance to tidy up, and does not return.
func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		os.Exit(137)
	}
	select {}
}
