package slot

import (
	"fmt"
	"strings"
	"time"

	"newswire/fanout/journal"
)

// String is the slot on one screen.
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "slot %s (%s, database %s)   %s   PostgreSQL %s%s\n", s.Name, s.Plugin, s.Database, s.activity(), firstWord(s.VersionTxt), s.role())
	fmt.Fprintf(&b, "  wal_status %s   safe_wal %s   invalidation %s%s\n", s.WALStatus, s.safe(), orDash(s.Invalidation), s.failover())
	fmt.Fprintf(&b, "  current %s   confirmed %s (%s)   restart %s (%s kept)\n", s.Current, s.Confirmed, s.behind(), s.restart(), Bytes(s.Retained))
	if s.Rate != nil {
		fmt.Fprintf(&b, "  write rate %s/s: %s\n", Bytes(int64(s.Rate.BytesPerSecond)), s.outlook())
	}
	fmt.Fprintf(&b, "  publication %s\n", s.publication())
	fmt.Fprintf(&b, "  costs the server %s of log and the catalog rows of %d transactions; `newswire slot drop --confirm %s` frees both\n",
		Bytes(s.Retained), s.CatalogXminAge, s.Name)
	if s.Spill != nil && s.Spill.Decoded > 0 {
		fmt.Fprintf(&b, "  decoded %s, of which %s in %s went by way of the server's disk\n", Bytes(s.Spill.Decoded), Bytes(s.Spill.Bytes), plural(s.Spill.Transactions, "large transaction"))
	}
	alarms := s.Alarms()
	for _, a := range alarms {
		fmt.Fprintf(&b, "  %s %s; %s\n", a.Level, a.Text, a.Remedy)
	}
	if len(alarms) == 0 {
		b.WriteString("  OK\n")
	}
	return b.String()
}

func (s Status) activity() string {
	switch {
	case s.Reader != nil && s.Reader.Application != "":
		return fmt.Sprintf("ACTIVE pid %d %s", s.Reader.PID, s.Reader.Application)
	case s.Reader != nil:
		return fmt.Sprintf("ACTIVE pid %d", s.Reader.PID)
	case s.InactiveSince != nil:
		return "INACTIVE since " + s.InactiveSince.UTC().Format(time.RFC3339)
	}
	return "INACTIVE"
}

func (s Status) role() string {
	if s.Recovery {
		return " standby"
	}
	return ""
}

func (s Status) safe() string {
	switch {
	case s.Lost():
		return "-"
	case s.SafeWAL == nil:
		return "unlimited"
	}
	return fmt.Sprintf("%s of %s", Bytes(*s.SafeWAL), Bytes(s.Limit))
}

func (s Status) failover() string {
	if s.Enabled == nil || s.Synced == nil {
		return ""
	}
	return fmt.Sprintf("   failover %s   synced %s", yesNo(*s.Enabled), yesNo(*s.Synced))
}

func (s Status) behind() string {
	text := Bytes(s.Unread) + " behind"
	if s.Reader != nil && s.Reader.Lag != nil {
		text += ", " + Duration(*s.Reader.Lag)
	}
	return text
}

// restart is a dash for a slot that keeps nothing any more.
func (s Status) restart() string {
	if s.Restart.LSN == 0 {
		return "-"
	}
	return s.Restart.String()
}

// outlook tells what the rate means for a slot that is not read on.
func (s Status) outlook() string {
	switch {
	case s.Lost():
		return "the slot is lost already"
	case s.SafeWAL == nil && s.Disk == nil:
		return fmt.Sprintf("never invalid, but an hour without reading keeps %s more", Bytes(int64(s.Rate.BytesPerSecond*3600)))
	case s.SafeWAL == nil && s.Rate.SecondsLeft == nil:
		return fmt.Sprintf("never invalid, but the disk of pg_wal is full after %s more", Bytes(s.Disk.Free))
	case s.SafeWAL == nil:
		return fmt.Sprintf("never invalid, but the disk of pg_wal is full in %s if reading stops now", s.Rate.left())
	case *s.SafeWAL <= 0:
		return "invalid at the next checkpoint unless it is read on"
	case s.Rate.SecondsLeft == nil:
		return fmt.Sprintf("invalid after %s more", Bytes(*s.SafeWAL))
	}
	return fmt.Sprintf("invalid in %s at the earliest if reading stops now", s.Rate.left())
}

// left prints SecondsLeft. A duration holds 292 years; what lasts longer is as
// good as never.
func (r Rate) left() string {
	return Duration(time.Duration(min(*r.SecondsLeft, 1e9) * float64(time.Second)))
}

// fewTables are listed one by one.
const fewTables = 3

func (s Status) publication() string {
	p := s.Publication
	switch {
	case p == nil:
		return "does not exist"
	case len(p.Tables) == 0:
		return p.Name + ": no table"
	case len(p.Tables) > fewTables:
		return fmt.Sprintf("%s: %d tables, %s", p.Name, len(p.Tables), strings.Join(p.Operations, " "))
	}
	var tables []string
	for _, t := range p.Tables {
		text := fmt.Sprintf("%s %d columns", t.Name, t.Columns)
		if t.Filter != nil {
			text += ", filter " + *t.Filter
		}
		tables = append(tables, text)
	}
	return fmt.Sprintf("%s: %s; %s", p.Name, strings.Join(tables, "; "), strings.Join(p.Operations, " "))
}

// Bytes prints a size as people read it.
func Bytes(n int64) string { return journal.Size(n).String() }

// Duration prints a time in its largest unit.
func Duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

// firstWord drops what packagers add to a version.
func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
