package cdc

import (
	"errors"
	"strings"
	"testing"

	"newswire/fanout/journal"
)

func TestHistoryFileIsRead(t *testing.T) {
	t.Parallel()
	left, err := parseHistory([]byte("1\t0/3000148\tno recovery target specified\n\n# a note\n2\t16/B374D848\tbefore 2026-11-23 09:41:07+00\n"))
	if err != nil || len(left) != 2 || left[0] != (branch{1, 0x3000148}) || left[1] != (branch{2, 0x16_B374D848}) {
		t.Errorf("parseHistory = %v, %v", left, err)
	}
	for _, wrong := range []string{"1", "one\t0/1\t", "1\tnowhere\t", "99999999999\t0/1\t"} {
		if _, err := parseHistory([]byte(wrong)); !errors.Is(err, ErrMalformed) {
			t.Errorf("parseHistory(%q) = %v, want %v", wrong, err, ErrMalformed)
		}
	}
}

func TestJournalGoesOnWhereTheServerHasAllOfIt(t *testing.T) {
	t.Parallel()
	first := journal.Source{SystemID: "7", Timeline: 1, Slot: "s", Epoch: 1}
	second := journal.Source{SystemID: "7", Timeline: 2, Slot: "s", Epoch: 2, Past: []journal.Past{{Timeline: 1, Until: 0x100, Epoch: 1}}}
	filled := first
	filled.Filled = 0x150
	third := server{system: "7", timeline: 3, left: []branch{{1, 0x100}, {2, 0x200}}}
	for name, c := range map[string]struct {
		known    journal.Source
		who      server
		accepted journal.LSN
		gap      string // part of the sentence; "" when it goes on
		epochs   []uint16
	}{
		"the same timeline":                     {first, server{system: "7", timeline: 1}, 0x90, "", []uint16{1, 1, 1}},
		"exactly up to the switch":              {first, third, 0x100, "", []uint16{1, 2, 3}},
		"one step behind":                       {second, third, 0x200, "", []uint16{1, 2, 3}},
		"read beyond the first switch":          {first, third, 0x101, "read up to 0/101 on timeline 1, which the server has left at 0/100", nil},
		"read beyond the second switch":         {second, third, 0x201, "read up to 0/201 on timeline 2", nil},
		"rows filled from beyond the switch":    {filled, third, 0x90, "read up to 0/150", nil},
		"another system":                        {first, server{system: "8", timeline: 1}, 0x90, "system 8", nil},
		"a former primary":                      {second, server{system: "7", timeline: 1}, 0x90, "former primary", nil},
		"the same number of another history":    {second, server{system: "7", timeline: 2, left: []branch{{1, 0x180}}}, 0x120, "another history", nil},
		"from a timeline that was never ours":   {journal.Source{SystemID: "7", Timeline: 2, Epoch: 1}, server{system: "7", timeline: 3, left: []branch{{1, 0x100}}}, 0x90, "does not come from timeline 2", nil},
		"a history file that is missing":        {first, server{system: "7", timeline: 2, unknown: true}, 0x90, "does not come from timeline 1", nil},
		"known already, history file missing":   {second, server{system: "7", timeline: 2, unknown: true}, 0x90, "", []uint16{1, 2, 2}},
		"begun before timelines were followed":  {journal.Source{SystemID: "7", Timeline: 3, Slot: "s", Epoch: 5}, third, 0x300, "", []uint16{5, 5, 5}},
		"a server that is further on by itself": {second, third, 0x180, "", []uint16{1, 2, 3}},
	} {
		now, err := c.who.succeed(c.known, c.accepted)
		if c.gap != "" {
			if !errors.Is(err, ErrGap) || !strings.Contains(err.Error(), c.gap) || !strings.Contains(err.Error(), "newswire resync") {
				t.Errorf("%s: %v, want a gap that says %q", name, err, c.gap)
			}
			continue
		}
		if err != nil || now.Timeline != c.who.timeline {
			t.Errorf("%s: %+v, %v", name, now, err)
			continue
		}
		for i, lsn := range []journal.LSN{0xFF, 0x1FF, 0x200} {
			if got := now.EpochAt(lsn); got != c.epochs[i] {
				t.Errorf("%s: a commit at %s has epoch %d, want %d", name, lsn, got, c.epochs[i])
			}
		}
	}
}
