package slot

import (
	"fmt"
	"time"
)

// Level is how bad an alarm is.
type Level int

// The levels of alarms, as operators page on them.
const (
	Warn     Level = iota + 1 // look at it today
	Critical                  // the slot will be lost unless somebody acts
	Fatal                     // the slot is lost
)

func (l Level) String() string {
	return [...]string{"OK", "WARN", "CRITICAL", "FATAL"}[l]
}

// MarshalText writes the level in lower case for programs.
func (l Level) MarshalText() ([]byte, error) {
	return []byte([...]string{"ok", "warn", "critical", "fatal"}[l]), nil
}

// Alarm is something about a slot that needs somebody.
type Alarm struct {
	Check  string `json:"check"` // the finding of `newswire doctor` that tells the same
	Level  Level  `json:"level"`
	Text   string `json:"message"`
	Remedy string `json:"remedy"`
}

// Thresholds, chosen so that a DBA hears of a reader that is away before the
// server does something about it.
const (
	muchUnread     = 256 << 20
	longLag        = time.Minute
	idleWarn       = 5 * time.Minute
	idleCritical   = 15 * time.Minute
	safeWarn       = 0.5 // of the limit
	safeCritical   = 0.2 // of the limit
	muchSpilled    = 1 << 30
	oldCatalogRows = 100_000_000 // transactions: half of autovacuum_freeze_max_age's default
)

// Alarms lists what is wrong with the slot, worst first for what it keeps.
func (s Status) Alarms() (alarms []Alarm) {
	add := func(check string, l Level, text, remedy string) {
		alarms = append(alarms, Alarm{check, l, text, remedy})
	}
	if s.Lost() {
		add("slot-wal", Fatal, fmt.Sprintf("replication slot %q is lost: %s", s.Name, s.lossReason()), s.lossRemedy())
		return alarms
	}
	switch {
	case s.WALStatus == "unreserved":
		add("slot-wal", Critical, fmt.Sprintf("wal_status of slot %q is unreserved: the next checkpoint removes log that it still needs", s.Name),
			"start the engine at once, or raise max_slot_wal_keep_size and run SELECT pg_reload_conf()")
	case s.safeShare() < safeCritical:
		add("slot-wal", Critical, fmt.Sprintf("slot %q is lost after %s more of log", s.Name, Bytes(*s.SafeWAL)), raiseLimit)
	case s.safeShare() < safeWarn:
		add("slot-wal", Warn, fmt.Sprintf("slot %q is lost after %s more of log, less than half of what it may keep", s.Name, Bytes(*s.SafeWAL)), raiseLimit)
	case s.WALStatus == "extended":
		add("slot-wal", Warn, fmt.Sprintf("wal_status of slot %q is extended: it keeps %s of log, more than max_wal_size", s.Name, Bytes(s.Retained)),
			"see why the engine does not keep up, with its /readyz and log")
	}
	if s.Unread > muchUnread {
		add("slot-unread", Warn, fmt.Sprintf("%s of log behind slot %q is not read yet", Bytes(s.Unread), s.Name),
			"start the engine, or see why it does not keep up, with its /readyz and log")
	} else if s.Reader != nil && s.Reader.Lag != nil && *s.Reader.Lag > longLag {
		add("slot-unread", Warn, fmt.Sprintf("the reader of slot %q confirms %s late", s.Name, Duration(*s.Reader.Lag)),
			"see why the engine does not keep up, with its /readyz and log")
	}
	s.idleAlarm(add)
	if s.CatalogXminAge > oldCatalogRows {
		add("slot-catalog", Warn, fmt.Sprintf("slot %q holds back vacuum of the system catalogs for %d transactions", s.Name, s.CatalogXminAge),
			"let the engine read on, or drop the slot if it is not needed any more")
	}
	if s.Spill != nil && s.Spill.Bytes > muchSpilled {
		add("slot-spill", Warn, fmt.Sprintf("decoding for slot %q has put %s of %s on the server's disk", s.Name, Bytes(s.Spill.Bytes), plural(s.Spill.Transactions, "large transaction")),
			"raise logical_decoding_work_mem for the engine's role, or make bulk transactions smaller")
	}
	return alarms
}

const raiseLimit = "start the engine, or raise max_slot_wal_keep_size and run SELECT pg_reload_conf()"

// idleAlarm tells of a slot that nobody reads. Only version 17 says since when.
func (s Status) idleAlarm(add func(check string, l Level, text, remedy string)) {
	idle := time.Duration(s.IdleFor) * time.Second
	if s.Reader != nil || s.InactiveSince == nil || idle < idleWarn || s.Synced != nil && *s.Synced {
		return
	}
	level := Warn
	if idle >= idleCritical {
		level = Critical
	}
	add("slot-idle", level, fmt.Sprintf("nobody has read slot %q for %s, and the server keeps all log since", s.Name, Duration(idle)),
		fmt.Sprintf("start the engine, or run `newswire slot drop --confirm %s` if it is gone for good", s.Name))
}

// safeShare is how much of the limit is left; 1 without one.
func (s Status) safeShare() float64 {
	if s.SafeWAL == nil || s.Limit <= 0 {
		return 1
	}
	return float64(*s.SafeWAL) / float64(s.Limit)
}

// lossReason explains invalidation_reason; before version 17 there is only one
// that a primary gives.
func (s Status) lossReason() string {
	reason := "wal_removed"
	if s.Invalidation != nil {
		reason = *s.Invalidation
	}
	switch reason {
	case "wal_removed":
		return "PostgreSQL has removed log that it needed (max_slot_wal_keep_size)"
	case "rows_removed":
		return "rows of the system catalogs that it needed were removed (rows_removed)"
	case "wal_level_insufficient":
		return "wal_level was lowered below logical (wal_level_insufficient)"
	case "idle_timeout":
		return "nobody read it for longer than idle_replication_slot_timeout (idle_timeout)"
	}
	return "PostgreSQL has invalidated it (" + reason + ")"
}

func (s Status) lossRemedy() string {
	const then = ", then run `newswire resync`"
	if s.Invalidation != nil {
		switch *s.Invalidation {
		case "rows_removed":
			return "set hot_standby_feedback = on at this standby" + then
		case "wal_level_insufficient":
			return "run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL" + then
		case "idle_timeout":
			return "raise idle_replication_slot_timeout above the longest time that the engine may be away, or set it to 0" + then
		}
	}
	return "raise max_slot_wal_keep_size, so that the engine may be away for as long as it was" + then
}
