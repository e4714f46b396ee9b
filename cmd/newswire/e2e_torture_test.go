package main

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"newswire/cmd/newswire/internal/torture"
	faultpoint "newswire/fanout/journal/fault"
)

// tortured is a run of some seconds, or a long one where that was asked for.
func tortured(t *testing.T, faults []torture.Fault, steps, long int) torture.Plan {
	t.Helper()
	p := torture.Plan{
		Seed: uint64(time.Now().UnixNano()), Readers: 5, Pollers: 2, Editors: 2, Most: 200,
		Pace: 100 * time.Millisecond, Steps: steps, Faults: faults, Quiet: 500 * time.Millisecond,
	}
	if torture.Long() {
		p.Readers, p.Pollers, p.Editors, p.Pace, p.Most, p.Steps, p.Quiet = 12, 4, 3, 40*time.Millisecond, 5000, long, 3*time.Second
	}
	number := func(variable string, otherwise uint64) uint64 {
		text := os.Getenv(variable)
		if text == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return n
	}
	p.Seed = number(torture.SeedVariable, p.Seed)
	p.Steps = int(number(torture.StepsVariable, uint64(p.Steps)))
	return p
}

// TestKillsAtRandomMomentsLoseNothing: nothing is lost, nothing is foreign, and
// nothing comes twice after deduplication.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	t.Parallel()
	p := tortured(t, []torture.Fault{torture.Kill}, 5, 50)
	p.Quiet = 2 * time.Second
	torture.Run(t, p)
}

// TestKillsAtEveryPointLoseNothing ends the engine at each of its fault points.
func TestKillsAtEveryPointLoseNothing(t *testing.T) {
	t.Parallel()
	var points []torture.Fault
	for _, name := range faultpoint.Points {
		points = append(points, torture.Point(name))
	}
	p := tortured(t, points, len(points), 5*len(points))
	p.Quiet = 0
	torture.Run(t, p)
}

// TestRandomFaultsHealAndDrain: whatever strikes, one after the other, once it
// has healed everything comes to an end.
func TestRandomFaultsHealAndDrain(t *testing.T) {
	t.Parallel()
	torture.Run(t, tortured(t, torture.Every, 4, 60))
}

// TestKillsWhileOldEntriesLeaveLoseNothing: the retention is so short that what
// is settled leaves the journal all the time.
func TestKillsWhileOldEntriesLeaveLoseNothing(t *testing.T) {
	t.Parallel()
	if !torture.Long() {
		t.Skipf("it takes as long as a retention: %s=1", torture.LongVariable)
	}
	p := tortured(t, []torture.Fault{torture.Point(faultpoint.Dropping), torture.Point(faultpoint.Dropped), torture.Kill, torture.Stop, torture.Points}, 0, 25)
	p.Retention = 20 * time.Second
	torture.Run(t, p)
}

// TestPowerCutsLoseNothing cuts the power of the engine's machine; the server's
// goes on.
func TestPowerCutsLoseNothing(t *testing.T) {
	t.Parallel()
	p := tortured(t, []torture.Fault{torture.PowerCut}, 2, 20)
	p.Disk, p.Quiet = true, 2*time.Second
	torture.Run(t, p)
}

// TestPowerCutsAreSeenWhereTheJournalDoesNotSync: the test above is worth
// nothing unless it would notice.
func TestPowerCutsAreSeenWhereTheJournalDoesNotSync(t *testing.T) {
	t.Parallel()
	p := tortured(t, nil, 0, 0)
	p.Armed, p.Quiet = faultpoint.Unsynced+"=on", 3*time.Second
	if !torture.PowerCutLoses(t, p, 5) {
		t.Error("a journal that does not sync lost nothing: the cut does not cut, and the test of the synced one proves nothing")
	}
}

// TestSlowDiskKeepsTheSlot: a fifth of a second for each sync holds up nobody's
// replication, whose timeout is short, and everything ends as it should.
func TestSlowDiskKeepsTheSlot(t *testing.T) {
	t.Parallel()
	p := tortured(t, []torture.Fault{torture.Calm}, 1, 10)
	p.Armed = faultpoint.Committing + "=sleep@200ms"
	p.Server = map[string]string{"wal_sender_timeout": "3s"}
	p.Unsaid = []string{"replication interrupted"}
	torture.Run(t, p)
}

// TestDiskThatFailsEndsTheEngine: loudly, and nothing was confirmed that is not
// on it.
func TestDiskThatFailsEndsTheEngine(t *testing.T) {
	t.Parallel()
	torture.Run(t, tortured(t, []torture.Fault{torture.DiskFails}, 1, 10))
}

// TestSavedHistory judges the history of a failed run once more.
func TestSavedHistory(t *testing.T) {
	path := os.Getenv(torture.HistoryVariable)
	if path == "" {
		t.Skipf("no history is named: %s=FILE", torture.HistoryVariable)
	}
	h, err := torture.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range h.Check() {
		t.Error(v)
	}
}

// TestEveryFaultPointIsPassed: one that nobody passes any more ends no process.
func TestEveryFaultPointIsPassed(t *testing.T) {
	var declared []string
	passed := make(map[string]bool)
	for _, s := range sources(t) {
		if s.path == "fanout/journal/fault/fault.go" {
			for _, m := range regexp.MustCompile(`(?m)^\t([A-Z]\w+) += "[a-z]+\.[a-z_]+"`).FindAllSubmatch(s.text, -1) {
				declared = append(declared, string(m[1]))
			}
		}
		if s.test() {
			continue
		}
		for _, m := range regexp.MustCompile(`fault\.Point\(fault\.(\w+)\)`).FindAllSubmatch(s.text, -1) {
			passed[string(m[1])] = true
		}
	}
	if len(declared) < len(faultpoint.Points) {
		t.Fatalf("found %q, want all of %q", declared, faultpoint.Points)
	}
	for _, name := range declared {
		if !passed[name] {
			t.Errorf("nobody passes fault.%s", name)
		}
	}
}
