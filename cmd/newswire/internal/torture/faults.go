package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/cmd/newswire/internal/checker"
	"newswire/cmd/newswire/internal/harness"
	"newswire/fanout/journal/fault"
)

// Fault is one kind of misfortune; it strikes, and has healed when strike
// returns, but that the engine may be dead.
type Fault struct {
	Name   string
	strike func(r *run)
}

// moment is a random time up to most.
func (r *run) moment(most time.Duration) time.Duration {
	return time.Duration(r.random.Int64N(int64(most)))
}

// back starts the engine again where it has come to its violent end. Now and then it is looked
// whether the slot is ahead of the journal; not always, for that opens the
// journal, and mends what the engine is to mend.
func (r *run) back() {
	r.t.Helper()
	if r.engine.Running() {
		return
	}
	if r.random.IntN(4) == 0 {
		slot, held := r.engine.AtRest(r.db)
		r.positions = append(r.positions, checker.Position{Slot: slot, Held: held})
	}
	r.launch()
	r.engine.AwaitReady()
}

// Kill ends the engine at a random moment, now and then before it is ready.
var Kill = Fault{"kill", func(r *run) {
	r.engine.Kill()
	r.ended(true)
	for r.random.IntN(5) == 0 {
		r.launch()
		harness.Pause(r.t, r.moment(time.Second))
		r.engine.Kill()
		r.ended(true)
	}
}}

// Point ends the engine at a named place, at a random pass.
func Point(name string) Fault {
	return Fault{"at " + name, func(r *run) {
		if r.engine.Running() {
			r.engine.Kill()
			r.ended(true)
		}
		passes := 40
		switch {
		case strings.HasPrefix(name, "offline."): // a pass is a whole batch
			passes = 4
		case name == fault.Dropping || name == fault.Dropped: // once in a life
			passes = 1
		}
		r.armed = fmt.Sprintf("%s=kill@%d", name, 1+r.random.IntN(passes))
		r.launch()
		if !r.engine.Died(10 * time.Second) {
			r.engine.Kill() // that place was not passed so often
		}
		r.ended(true)
	}}
}

// Points ends the engine at any of its named places.
var Points = Fault{"point", func(r *run) {
	name := fault.Points[r.random.IntN(len(fault.Points))]
	r.struck[len(r.struck)-1] = "at " + name
	Point(name).strike(r)
}}

// Stop ends the engine as an operator does and starts it again.
var Stop = Fault{"stop", func(r *run) {
	r.engine.Stop()
	r.ended(false)
	r.launch()
	r.engine.AwaitReady()
}}

// Rolling starts a second engine, which stands by, and ends the first, in good
// order or not.
var Rolling = Fault{"rolling restart", func(r *run) {
	second := r.engine.Sibling()
	second.Launch()
	harness.Eventually(r.t, "the second engine to stand by", func() (bool, any) {
		return strings.Contains(second.Logs(), "standing by"), second.Logs()
	})
	killed := r.random.IntN(2) == 0
	if killed {
		r.engine.Kill()
	} else {
		r.engine.Stop()
	}
	r.ended(killed)
	r.lives = append(r.lives, checker.Life{Start: r.lives[len(r.lives)-1].End})
	r.engine = second
	r.engine.AwaitReady()
}}

// Pause stops the engine where it is, as a machine that is paused.
var Pause = Fault{"pause", func(r *run) {
	r.engine.Suspend()
	harness.Pause(r.t, r.moment(5*time.Second))
	r.engine.Resume()
}}

// Cut breaks every connection of the engine to the database.
var Cut = Fault{"cut", func(r *run) {
	r.db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + r.db.Role + "'")
}}

// CrashDatabase ends the server without a checkpoint, or in good order, and
// starts it again after a while. The engine must say that it is not ready.
var CrashDatabase = Fault{"database restart", func(r *run) {
	server := r.db.Server()
	var err error
	if r.random.IntN(2) == 0 {
		err = server.Crash()
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err = server.Stop(ctx)
		cancel()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.told("the database was away", func(s harness.Status) string { return strings.Join(s.Reasons, "; ") })
	if err := server.Restart(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.engine.AwaitReady()
}}

// told waits until the engine says what is wrong, and notes what it said.
func (r *run) told(what string, look func(harness.Status) string) {
	o := checker.Outage{What: what}
	for deadline := time.Now().Add(patience); o.Said == "" && time.Now().Before(deadline); {
		if s, err := r.engine.TryStatus(); err == nil {
			o.Said = look(s)
		}
		harness.Pause(r.t, 20*time.Millisecond)
	}
	r.outages = append(r.outages, o)
}

// kafkaSays is what the engine says about Kafka; "" while it is content.
func kafkaSays(s harness.Status) string { return strings.TrimPrefix(s.Kafka, "ok") }

// KafkaAway lets the broker hang up on everybody for a while. The engine must
// say so.
var KafkaAway = Fault{"Kafka away", func(r *run) {
	var back atomic.Bool
	r.kafka.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		if back.Load() {
			r.kafka.DropControl()
			return nil, nil, false
		}
		r.kafka.KeepControl()
		return nil, errors.New("away"), true
	})
	r.told("Kafka was away", kafkaSays)
	harness.Pause(r.t, r.moment(3*time.Second))
	back.Store(true)
}}

// KafkaForgetful lets the broker take records for a while and lose its answers.
var KafkaForgetful = Fault{"Kafka forgetful", func(r *run) {
	f := r.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: -1})
	r.told("Kafka lost its answers", kafkaSays)
	harness.Pause(r.t, r.moment(2*time.Second))
	f.Remove()
}}

// Calm is none.
var Calm = Fault{"calm", func(r *run) { harness.Pause(r.t, r.moment(5*time.Second)) }}

// DiskFails lets the disk fail: from some moment on, nothing that is to be
// synced can be. The engine must end by itself.
var DiskFails = Fault{"disk fails", func(r *run) {
	strace := exec.Command("strace", "-f", "-q", "-o", os.DevNull, "-e", "trace=fsync,fdatasync,msync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync,msync:error=EIO:when=%d+", 1+r.random.IntN(30)), "-p", strconv.Itoa(r.engine.PID()))
	if err := strace.Start(); err != nil {
		r.t.Skipf("SKIPPED, a disk that fails is NOT tested: %v", err)
	}
	if !r.engine.Failed(patience) {
		r.t.Errorf("the disk has failed, and the engine goes on")
		r.engine.Kill()
	}
	_ = strace.Wait() // it ends with the engine
	r.ended(true)
}}

// Every kind of fault.
var Every = []Fault{Kill, Points, Points, Stop, Rolling, Pause, Cut, CrashDatabase, KafkaAway, KafkaForgetful}
