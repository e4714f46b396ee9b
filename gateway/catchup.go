package gateway

import "slices"

// catchUp queues the next messages that the reader has not read, or makes the
// session live when there are none that it missed.
func (s *session) catchUp() error {
	s.mu.Lock()
	cursor := s.cursor
	s.mu.Unlock()
	unread, through, err := s.deps.ledger.Unread(s.reader, cursor, catchUpStep)
	if err != nil {
		return err
	}
	var frames []*frame
	full, size := len(unread) == catchUpStep, 0
	for i, a := range unread {
		if size >= maxQueue {
			full, through = true, unread[i-1].Seq
			break
		}
		a.Replay = a.Seq <= s.replayed
		f, err := s.deps.replay(a)
		if err != nil {
			return err
		}
		if f != nil && s.mayGet(f.message) { // else it is no longer kept, or not for this token
			frames, size = append(frames, f), size+len(f.wire)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.code != 0 {
		return nil
	}
	for _, f := range frames {
		s.queueLocked(f)
	}
	s.cursor = max(s.cursor, through)
	s.parked = slices.DeleteFunc(s.parked, func(a answer) bool {
		if a.seq > s.cursor {
			return false
		}
		s.queueLocked(a.frame)
		return true
	})
	if s.missed <= s.cursor && !full {
		s.live, s.missed = true, 0
		s.keepsUpLocked()
		for _, a := range s.parked {
			s.queueLocked(a.frame)
		}
		s.parked = nil
	}
	return nil
}
