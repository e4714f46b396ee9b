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

// errWait is a link's answer that no more can be read or written now.
var errWait = errors.New("would wait")

// claimLocked makes the caller the one who writes, if there is something to
// write and nobody does.
func (s *session) claimLocked() bool {
	if s.writing || len(s.queue) == 0 && !s.behindLocked() || !s.use() {
		return false
	}
	s.writing = true
	return true
}

// startWriting lets who has claimed a session write, on its own goroutine
// unless that could wait for the socket.
func (s *session) startWriting() {
	if s.link.waits() {
		go s.write()
	} else {
		s.write()
	}
}

// write sends what is queued until there is nothing to do, or the socket takes
// no more: the poller goes on then. Where messages are to be read from the
// journal, those do who may wait for it.
func (s *session) write() {
	defer s.done()
	for s.next() {
		if err := s.note(); err != nil {
			s.unnoted(err)
			return
		}
		wire, give := join(s.batch)
		goOn := s.send(wire)
		give()
		if !goOn {
			return
		}
	}
}

// next makes the batch that is to be written; false when there is none, and
// somebody else writes the next one.
func (s *session) next() bool {
	if s.due != 0 {
		return true // the rest of one that was begun
	}
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			s.takeLocked()
			s.mu.Unlock()
			return true
		}
		behind := s.behindLocked()
		s.writing = behind
		s.mu.Unlock()
		switch {
		case !behind:
			return false
		case !s.link.waits():
			if s.use() {
				s.deps.behind.add(s)
			}
			return false
		}
		s.step()
	}
}

// step reads more from the journal.
func (s *session) step() {
	if err := s.catchUp(); err != nil {
		s.fail(fmt.Errorf("catch up: %w", err))
	}
}

// takeLocked moves frames from the queue to the batch.
func (s *session) takeLocked() {
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n].wire) <= maxBatch) {
		size += len(s.queue[n].wire)
		n++
	}
	if s.queued -= size; n == len(s.queue) {
		s.queue, s.batch = s.batch[:0], s.queue
	} else {
		s.batch = append(s.batch[:0], s.queue[:n]...)
		s.queue = s.queue[n:]
	}
	for _, f := range s.batch {
		if f.message != nil && !isGuest(s.reader) {
			s.unacked = append(s.unacked, f.message.ID)
		}
	}
	if surplus := len(s.unacked) - maxUnacked; surplus > maxUnacked { // a reader who never acknowledges
		s.faded.widen(s.unacked[:surplus])
		s.unacked = slices.Delete(s.unacked, 0, surplus)
	}
}

// note records the batch before its first byte is written.
func (s *session) note() error {
	if s.due != 0 {
		return nil
	}
	var attempts []journal.Attempt
	for _, f := range s.batch {
		if f.message != nil {
			attempts = append(attempts, f.attempt)
		}
	}
	if len(attempts) == 0 {
		return nil
	}
	return s.deps.ledger.Sent(s.reader, attempts)
}

// unnoted ends a session whose batch could not be recorded.
func (s *session) unnoted(err error) {
	s.log.Error("session cannot record what it sends", "session", s.id, "err", err)
	s.batch = nil
	s.drop(endFault)
}

// send writes the batch, whose bytes are wire, in one system call; false when
// the socket takes no more for now, or the session is over.
func (s *session) send(wire []byte) bool {
	for {
		s.room.Store(false)
		fault.Point(fault.Writing)
		n, err := s.link.write(wire[s.sent:])
		fault.Point(fault.Written)
		s.wrote(n)
		switch {
		case err == nil:
			s.cleared()
			return true
		case err != errWait:
			s.takeBack()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.drop(endSlowReader)
			} else {
				s.lose()
			}
			return false
		case s.blocks():
			return false
		}
	}
}

// blocks hands the writing to the poller; false when there has been room again
// already, and the caller goes on.
func (s *session) blocks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due == 0 {
		s.due = uptime() + s.deps.writeTimeout
	}
	s.blocked.Store(true)
	if s.room.Load() {
		s.blocked.Store(false)
		return false
	}
	return true
}

// late takes a session away whose batch has missed its deadline.
func (s *session) late(now time.Duration) {
	s.mu.Lock()
	mine := s.blocked.Load() && now > s.due && s.use()
	if mine {
		s.blocked.Store(false)
	}
	s.mu.Unlock()
	if mine {
		s.takeBack()
		s.drop(endSlowReader)
		s.done()
	}
}

// drained goes on writing what had no room in the socket.
func (s *session) drained() {
	s.room.Store(true)
	if !s.blocked.Load() {
		return
	}
	s.mu.Lock()
	mine := s.blocked.Load() && s.use()
	if mine {
		s.blocked.Store(false)
	}
	s.mu.Unlock()
	if mine {
		s.write()
	}
}

// wrote counts the frames that n more bytes of the batch complete.
func (s *session) wrote(n int) {
	whole, from, upto, now := 0, s.sent, s.sent+n, time.Now()
	s.sent = upto
	end := 0
	for _, f := range s.batch {
		end += len(f.wire)
		if end > upto {
			break
		}
		if end <= from || f.message == nil {
			continue
		}
		whole++
		if f.attempt.N == 1 && !f.attempt.Replay {
			s.deps.m.commitToWrite.Observe(now.Sub(f.message.Time).Seconds())
		}
	}
	s.deps.m.deliveries.Add(float64(whole))
}

// cleared ends a batch that is out.
func (s *session) cleared() {
	last := s.batch[len(s.batch)-1].last
	clear(s.batch)
	s.batch, s.sent, s.due = s.batch[:0], 0, 0
	if cap(s.batch) > keptFrames { // an idle session keeps no buffer
		s.batch = nil
	}
	if !last {
		return
	}
	s.mu.Lock()
	s.lingers = uptime() + closeTimeout
	parted := s.parted
	s.mu.Unlock()
	if parted {
		s.hangUp()
	}
}

// keptFrames is how many frames' places an idle session keeps, so that a
// delivery allocates none.
const keptFrames = 4

// takeBack records that what of the batch is not out whole was not sent.
func (s *session) takeBack() {
	end := 0
	for _, f := range s.batch {
		if end += len(f.wire); end > s.sent && f.message != nil {
			if err := s.deps.ledger.Unsent(s.reader, []journal.Attempt{f.attempt}); err != nil {
				s.log.Error("session cannot record what it did not send", "session", s.id, "err", err)
			}
		}
	}
	s.batch, s.sent, s.due = nil, 0, 0
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, maxBatch); return &b }}

// join lays a batch out for one write; give returns its buffer.
func join(batch []*frame) (wire []byte, give func()) {
	if len(batch) == 1 {
		return batch[0].wire, func() {}
	}
	b := buffers.Get().(*[]byte)
	wire = appendWire((*b)[:0], batch)
	return wire, func() { buffers.Put(b) }
}

func appendWire(wire []byte, batch []*frame) []byte {
	for _, f := range batch {
		wire = append(wire, f.wire...)
	}
	return wire
}
