package gateway

import (
	"sync"

	"newswire/fanout/journal"
)

// replays keeps frames of messages that were read from the journal: when
// thousands come back at once they have missed the same ones.
type replays struct {
	mu     sync.Mutex // guards the rest
	frames map[journal.Attempt]*frame
	size   int // bytes in frames
}

// mostReplays is how many bytes of frames are kept before all are let go.
const mostReplays = 4 << 20

// replay gives the frame of an attempt at a message from the journal; nil when
// the message is no longer kept.
func (d *deps) replay(a journal.Attempt) (*frame, error) {
	if f := d.replays.get(a); f != nil {
		return f, nil
	}
	m, kept, err := d.journal.Message(a.Seq)
	if err != nil || !kept {
		return nil, err
	}
	f := messageFrame(m, a)
	d.replays.put(f)
	return f, nil
}

func (r *replays) get(a journal.Attempt) *frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.frames[a]
}

func (r *replays) put(f *frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frames == nil || r.size > mostReplays {
		r.frames, r.size = make(map[journal.Attempt]*frame), 0
	}
	r.frames[f.attempt] = f
	r.size += len(f.wire)
}
