package torture

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"newswire/cmd/newswire/internal/checker"
)

// live is a device's time on one connection.
func (s *session) live(ctx context.Context, random *rand.Rand, first bool) {
	leave := time.After(time.Duration(200+random.IntN(8000)) * time.Millisecond)
	if random.IntN(4) == 0 {
		leave = nil // stays until the engine goes
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for n := 1; ; n++ {
		select {
		case <-look.C:
		case <-leave:
			return
		case <-s.finished:
			return
		case <-ctx.Done():
			s.acknowledge(random, true)
			return
		}
		if s.acknowledge(random, false) != nil {
			return
		}
		if n%20 == 0 && s.ping() != nil {
			return
		}
		if first && random.IntN(100) == 0 && s.change(random) != nil {
			return
		}
	}
}

// ask makes the ref of a question.
func (s *session) ask(kind string) (ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	ref = kind + strconv.Itoa(s.asked)
	if kind == "ping" {
		s.unheard[ref] = len(s.acks)
	}
	return ref
}

// ping asks for a pong, which tells what the engine has heard.
func (s *session) ping() error {
	return s.send(map[string]string{"type": "ping", "ref": s.ask("ping")})
}

// acknowledge says what the device's manner asks for of what has come. At the
// end of the run it acknowledges what it would have acknowledged later.
func (s *session) acknowledge(random *rand.Rand, end bool) error {
	ids := s.due(random, end)
	switch {
	case len(ids) == 0:
		return nil
	case s.manner == upto:
		last := slices.Max(ids)
		return s.ack(map[string]any{"type": "ack", "upto": last}, nil, last)
	case s.manner == prompt:
		for _, id := range ids {
			if err := s.ack(map[string]any{"type": "ack", "id": id}, []string{id}, ""); err != nil {
				return err
			}
		}
		return nil
	}
	for batch := range slices.Chunk(ids, 200) {
		if err := s.ack(map[string]any{"type": "ack", "ids": batch}, batch, ""); err != nil {
			return err
		}
	}
	return nil
}

// behindHandOver is how old a message is when a late device acknowledges it.
const behindHandOver = 4 * time.Second

// due takes off the list what is to be acknowledged now.
func (s *session) due(random *rand.Rand, end bool) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gathers := s.manner == batching || s.manner == upto; gathers && !end && len(s.held) < 20 && random.IntN(10) > 0 {
		return nil
	}
	n := 0
	for ; n < len(s.held); n++ {
		if s.manner == late && !end && time.Since(s.held[n].at) < behindHandOver {
			break
		}
		if s.manner == silent || s.manner == forgetful && random.IntN(3) == 0 {
			continue
		}
		ids = append(ids, s.held[n].id)
	}
	s.held = s.held[n:]
	return ids
}

// ack sends an acknowledgement and notes what it covers.
func (s *session) ack(frame any, ids []string, upto string) error {
	now := time.Now()
	s.mu.Lock()
	from := len(s.acks)
	s.upto = max(s.upto, upto)
	for _, f := range s.frames {
		if f.ID <= upto && !s.covered[f.ID] {
			ids = append(ids, f.ID)
		}
	}
	for _, id := range ids {
		s.acks = append(s.acks, checker.Ack{ID: id, At: now})
		s.covered[id] = true
	}
	s.mu.Unlock()
	err := s.send(frame)
	if err != nil { // it never got there
		s.mu.Lock()
		s.acks = s.acks[:from]
		s.mu.Unlock()
	}
	return err
}

// change asks for a change of the reader's sets and waits for the answer.
func (s *session) change(random *rand.Rand) error {
	r := s.r
	verb := []string{"follow", "unfollow", "mute", "unmute"}[random.IntN(4)]
	tags := someTags(random, 2)
	if verb == "follow" {
		tags = r.someTags(random, 2)
	}
	if len(tags) == 0 {
		return nil
	}
	r.mu.Lock()
	c := checker.SetChange{Follow: slices.Clone(r.follow), Mute: slices.Clone(r.mute)}
	set := &c.Follow
	if verb == "mute" || verb == "unmute" {
		set = &c.Mute
	}
	without := slices.DeleteFunc(*set, func(tag string) bool { return slices.Contains(tags, tag) })
	*set = without
	if verb == "follow" || verb == "mute" {
		*set = append(without, tags...)
	}
	r.intendLocked(c)
	session := slices.Index(r.sessions, s)
	r.mu.Unlock()

	ref := s.ask("change")
	answered := s.expect(ref)
	if err := s.send(map[string]any{"type": verb, "tags": tags, "ref": ref}); err != nil {
		return err
	}
	a, err := s.await(answered)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !same(a.Follow, c.Follow) || !same(a.Mute, c.Mute) {
		r.broken("reader %s: asked for %q and %q, the answer is %q and %q", r.name, c.Follow, c.Mute, a.Follow, a.Mute)
	}
	r.settleLocked(a, session)
	return nil
}
