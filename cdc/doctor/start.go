package doctor

import (
	"context"
	"fmt"
	"strings"

	"newswire/cdc/slot"
)

const resyncRemedy = "run `newswire resync`"

// readJournal tells where the journal ends as we begin: whether the engine's
// next start is its first.
func (e *examination) readJournal(ctx context.Context) error {
	if e.cfg.Journal == nil {
		return nil
	}
	at, ok := e.cfg.Journal(ctx)
	e.journal, e.firstStart = at, ok && at == 0
	return nil
}

// journalPosition compares the slot with the engine's journal, as the engine
// does at each start.
func (e *examination) journalPosition(ctx context.Context) error {
	const check = "journal-position"
	if e.cfg.Journal == nil || e.slot == nil || e.slot.Lost() {
		return nil
	}
	at, ok := e.cfg.Journal(ctx) // once more: the slot was read behind the first time
	switch {
	case !ok:
		e.ok(check, e.cfg.JournalDir, "the journal cannot be read from here")
	case at == 0:
		return e.emptyJournal(ctx, check)
	case e.slot.Confirmed.LSN > at && e.slot.Reader == nil:
		e.fatal(check, e.cfg.JournalDir, resyncRemedy,
			"slot %q stands at %s, the journal ends at %s: what lies between was confirmed by another reader, or the slot was made anew", e.cfg.Slot, e.slot.Confirmed, at)
	case e.slot.Current.LSN < at && e.slot.Reader == nil:
		e.fatal(check, e.cfg.JournalDir, resyncRemedy,
			"the server's log ends at %s, before %s where the journal ends: the server was set back", e.slot.Current, at)
	default:
		e.ok(check, e.cfg.JournalDir, "the journal goes on where the slot stands")
	}
	return nil
}

// emptyJournal tells a first start from a journal that was lost. An engine that
// reads the slot has a journal: it is not the one that we see.
func (e *examination) emptyJournal(ctx context.Context, check string) error {
	if e.slot.Reader != nil {
		e.ok(check, e.cfg.JournalDir, "the slot is being read into a journal that cannot be read from here")
		return nil
	}
	why, err := slot.Past(ctx, e.conn, e.cfg.Slot, e.cfg.Publication, e.slot.Confirmed.LSN)
	switch {
	case err != nil:
		return err
	case why != "":
		e.fatal(check, e.cfg.JournalDir, "give journal.dir the directory of that journal, or "+resyncRemedy, "%s", why)
	default:
		e.ok(check, e.cfg.JournalDir, "the journal is empty, and nobody has read the slot")
	}
	return nil
}

// running asks the engine itself: it may have stopped at what it found in the
// log, of which nothing is to be seen in the tables any more.
func (e *examination) running(ctx context.Context) {
	if e.cfg.Engine == nil {
		return
	}
	const check, object = "engine", "newswire serve"
	reasons, answers := e.cfg.Engine(ctx)
	for _, r := range reasons {
		message, remedy := splitRemedy(strings.Join(strings.Fields(r), " "))
		e.fatal(check, object, remedy, "the engine runs, but is not ready: %s", message)
	}
	if answers && len(reasons) == 0 {
		e.ok(check, object, "the engine runs, and is ready")
	}
}

// room examines a setting of which the engine needs one place, and a second one
// for a moment when it starts for the first time or replaces its slot. own
// tells that it has its place; lacking is what goes wrong at a first start
// without the second one, fatally or not.
func (e *examination) room(check, setting, what string, most, used int, own bool, lacking string, fatally bool) {
	remedy := fmt.Sprintf("run ALTER SYSTEM SET %s = %d and restart PostgreSQL", setting, max(10, used+2))
	free, needed := most-used, 2
	if own {
		needed = 1
	}
	short := fmt.Sprintf("%d of %d %s are free, and the first start needs %d: %s", max(free, 0), most, what, needed, lacking)
	switch {
	case most == 0:
		e.fatal(check, setting, remedy, "%s is 0", setting)
	case free <= 0 && !own:
		e.fatal(check, setting, remedy, "all %d %s are taken, and newswire has none of them", most, what)
	case free < needed && e.firstStart && fatally:
		e.fatal(check, setting, remedy, "%s", short)
	case free < needed && e.firstStart:
		e.warn(check, setting, remedy, "%s", short)
	case free <= 0:
		e.warn(check, setting, remedy, "all %d %s are taken; `newswire resync` needs one more for a moment", most, what)
	default:
		e.ok(check, setting, "%d of %d %s are free", free, most, what)
	}
}
