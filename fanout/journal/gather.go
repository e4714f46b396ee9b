package journal

import (
	"context"
	"time"
)

// gatherMost is how long what comes in a flood may gather: as long as a disk
// takes for some syncs, and nothing beside how far behind its readers are.
const gatherMost = 25 * time.Millisecond

// flood tells a batch behind which more of its kind is likely: it was a
// backlog's, or had parts of a large commit.
func flood(batch []*item) bool {
	messages := 0
	for _, it := range batch {
		if messages += len(it.messages); messages >= bundleFrom || it.part != nil {
			return true
		}
	}
	return false
}

// gather returns when there is enough in the queue for a whole transaction, or
// something that somebody waits for, or when it has lasted gatherMost: so a
// flood is synced a few times for each megabyte, and not for each millisecond.
func (j *Journal) gather(ctx context.Context) {
	if !j.gatherMore(true) {
		return
	}
	defer j.gatherMore(false)
	timer := time.NewTimer(gatherMost)
	defer timer.Stop()
	select {
	case <-j.hasWork:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// gatherMore begins, unless there is enough already, or ends it.
func (j *Journal) gatherMore(on bool) (begun bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, it := range j.queue {
		on = on && it.patient
	}
	j.gathering = on && j.queued < maxTxnBytes
	if j.gathering {
		select {
		case <-j.hasWork: // given by what is patient
		default:
		}
	}
	return j.gathering
}
