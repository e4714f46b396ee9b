package gateway

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"newswire/fanout/journal"
	"newswire/fanout/journal/fault"
)

// flush writes what is queued, reads more from the journal while the session
// is not live, and returns when there is nothing to do.
func (s *session) flush() {
	for {
		batch, more := s.nextBatch()
		if !more {
			return
		}
		if len(batch) == 0 {
			if err := s.catchUp(); err != nil {
				s.fail(fmt.Errorf("catch up: %w", err))
			}
			continue
		}
		if !s.write(batch) {
			return
		}
	}
}

// nextBatch takes frames off the queue. more is false when the session has
// nothing to write and nothing to catch up with; writing is over then.
func (s *session) nextBatch() (batch []frame, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		if s.ending.code == 0 && s.begun && !s.live {
			return nil, true
		}
		s.writing = false
		return nil, false
	}
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n].wire) <= maxBatch) {
		size += len(s.queue[n].wire)
		n++
	}
	batch = slices.Clone(s.queue[:n])
	if s.queued -= size; n == len(s.queue) {
		s.queue = nil // an idle session keeps no buffer
	} else {
		s.queue = s.queue[n:]
	}
	for _, f := range batch {
		if f.message != nil {
			s.unacked = append(s.unacked, f.message.ID)
		}
	}
	if surplus := len(s.unacked) - maxUnacked; surplus > 0 { // a reader who never acknowledges
		s.unacked = slices.Delete(s.unacked, 0, surplus)
	}
	return batch, true
}

// write sends a batch in one system call; false when the session is over.
func (s *session) write(batch []frame) bool {
	attempts := make([]journal.Attempt, 0, len(batch))
	for _, f := range batch {
		if f.message != nil {
			attempts = append(attempts, f.attempt)
		}
	}
	if len(attempts) > 0 {
		if err := s.deps.ledger.Sent(s.reader, attempts); err != nil {
			s.log.Error("session cannot record what it sends", "session", s.id, "err", err)
			s.drop(endFault)
			return false
		}
	}
	fault.Point(fault.Writing)
	wire, give := join(batch)
	n, err := 0, s.net.SetWriteDeadline(time.Now().Add(s.deps.writeTimeout))
	if err == nil {
		n, err = s.net.Write(wire)
	}
	give()
	fault.Point(fault.Written)
	s.written(batch, n)
	if err != nil {
		s.failed(batch, n, err)
		return false
	}
	if batch[len(batch)-1].last {
		_ = s.conn.SetReadDeadline(time.Now().Add(closeTimeout)) // the read loop waits so long for the client's close
	}
	return true
}

// written counts the frames that the first n bytes of a batch hold whole.
func (s *session) written(batch []frame, n int) {
	now := time.Now()
	for _, f := range batch {
		if n -= len(f.wire); n < 0 {
			return
		}
		if f.message == nil {
			continue
		}
		s.deps.m.deliveries.Inc()
		if f.attempt.N == 1 && !f.attempt.Replay {
			s.deps.m.commitToWrite.Observe(now.Sub(f.message.Time).Seconds())
		}
	}
}

// failed ends a session whose write failed behind n bytes; what was not written
// whole was not sent.
func (s *session) failed(batch []frame, n int, err error) {
	var unsent []journal.Attempt
	for _, f := range batch {
		if n -= len(f.wire); n < 0 && f.message != nil {
			unsent = append(unsent, f.attempt)
		}
	}
	if err := s.deps.ledger.Unsent(s.reader, unsent); err != nil {
		s.log.Error("session cannot record what it did not send", "session", s.id, "err", err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.drop(endSlowReader)
	} else {
		s.drop(endLost)
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, maxBatch); return &b }}

// join lays a batch out for one write; give returns its buffer.
func join(batch []frame) (wire []byte, give func()) {
	if len(batch) == 1 {
		return batch[0].wire, func() {}
	}
	b := buffers.Get().(*[]byte)
	wire = (*b)[:0]
	for _, f := range batch {
		wire = append(wire, f.wire...)
	}
	return wire, func() { buffers.Put(b) }
}
