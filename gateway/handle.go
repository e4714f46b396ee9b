package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
)

// refusal is why a request changed nothing. Over WebSocket it is an error
// frame, over HTTP a problem document.
type refusal struct{ code, text string }

func (r *refusal) frame(ref string) errorFrame { return errorFrame{"error", ref, r.code, r.text} }

// frameTypes are what a session's client may say.
var frameTypes = []string{"ack", "follow", "unfollow", "mute", "unmute", "token", "ping"}

// handle acts on one frame of a session. What may take a while it gives back:
// work is done before the next frame is looked at. raw is good until handle
// returns.
func (g *Gateway) handle(s *session, e *ears, raw []byte) (work func(context.Context)) {
	if !s.greeted {
		s.greeted = true
		s.hello.Stop()
		s.hello = nil
		hello := slices.Clone(raw)
		return func(ctx context.Context) { s.deaf = !g.greet(ctx, s, hello) }
	}
	ack, plain := parseAck(raw, e.ids[:0])
	if plain {
		e.ids = ack.ids
		return g.handleAck(s, e, ack)
	}
	frame := slices.Clone(raw)
	return func(ctx context.Context) { g.obey(ctx, s, frame) }
}

// obey acts on a frame that may be anything.
func (g *Gateway) obey(ctx context.Context, s *session, raw []byte) {
	var f clientFrame
	var mistyped *json.UnmarshalTypeError // what else stands in the frame is decoded
	err := decodeJSON(raw, &f)
	if err != nil && !errors.As(err, &mistyped) {
		s.end(endBadFrame, 0)
		return
	}
	if f.Type == "ack" && mistyped == nil {
		g.acknowledge(ctx, s, f)
		return
	}
	if !g.mayAsk(s) {
		s.end(endRateLimited, time.Second)
		return
	}
	if mistyped != nil && slices.Contains(frameTypes, f.Type) {
		s.say(errorFrame{"error", f.Ref, "bad_field", "the field " + mistyped.Field + " is of the wrong kind"})
		return
	}
	switch f.Type {
	case "follow":
		g.handleEdit(ctx, s, f.Ref, fanout.Edit{Follow: f.Tags})
	case "unfollow":
		g.handleEdit(ctx, s, f.Ref, fanout.Edit{Unfollow: f.Tags})
	case "mute":
		g.handleEdit(ctx, s, f.Ref, fanout.Edit{Mute: f.Tags})
	case "unmute":
		g.handleEdit(ctx, s, f.Ref, fanout.Edit{Unmute: f.Tags})
	case "token":
		g.handleToken(ctx, s, f)
	case "ping":
		s.say(pongFrame{"pong", f.Ref})
	default:
		s.say(errorFrame{"error", f.Ref, "unknown_type", "no frame of this type is known here"})
	}
}

// mayAsk counts a frame that is no acknowledgement; false when there are too many.
func (g *Gateway) mayAsk(s *session) bool {
	most := float64(g.cfg.Limits.FramesPerSecond)
	return most == 0 || s.frames.take(1, most, 2*most) <= 0
}

// handleEdit changes the reader's subscriptions and answers once the change is
// in effect and everything before it is on its way to this session.
func (g *Gateway) handleEdit(ctx context.Context, s *session, ref string, e fanout.Edit) {
	edited, refused, err := g.editOf(ctx, s, e)
	switch {
	case refused != nil:
		s.say(refused.frame(ref))
		return
	case err != nil:
		s.fail(err)
		return
	}
	reply := controlFrame(subscriptionsFrame{"subscriptions", ref, listed(edited.Sets.Follow), listed(edited.Sets.Mute)})
	err = g.pools.do(ctx, s.reader, func(*pool) { s.answer(edited.Seq, reply) })
	if err == nil && edited.Changed && !isGuest(s.reader) {
		g.tellOthers(s, edited)
	}
}

// editOf is edit by a session.
func (g *Gateway) editOf(ctx context.Context, s *session, e fanout.Edit) (fanout.Edited, *refusal, error) {
	if !isGuest(s.reader) {
		return g.edit(ctx, s, *s.shown.Load(), e)
	}
	edited, refused := g.editGuest(s.reader, e)
	if refused != nil {
		return edited, refused, nil
	}
	return edited, nil, g.router.WaitRouted(ctx, edited.Seq)
}

// tellOthers sends the new sets to the reader's other sessions.
func (g *Gateway) tellOthers(but *session, edited fanout.Edited) {
	news := controlFrame(subscriptionsFrame{"subscriptions", "", listed(edited.Sets.Follow), listed(edited.Sets.Mute)})
	_ = g.pools.do(context.Background(), edited.Reader, func(p *pool) {
		for _, other := range p.sessionsOf(edited.Reader) {
			if other != but {
				other.answer(edited.Seq, news)
			}
		}
	})
}

// editTimeout is how long a change may take to become durable and routed.
const editTimeout = 15 * time.Second

// edit checks and makes a change that s asks for, or a request where s is nil.
// It returns when the change is durable and all that was journaled before it was
// handed to the pools.
//
// From then on a stored follow matches as far as this token covers it, or that
// of another session that goes on: a narrow token takes nothing from those.
func (g *Gateway) edit(ctx context.Context, s *session, who identity, e fanout.Edit) (fanout.Edited, *refusal, error) {
	if refused := permitted(who, e); refused != nil {
		return fanout.Edited{}, refused, nil
	}
	ctx, cancel := context.WithTimeout(ctx, editTimeout)
	defer cancel()
	e.Permit = &who.Permit
	e.Widen = func(r journal.Reader, permit fanout.Permit) fanout.Permit { return g.pools.widen(r, permit, s) }
	edited, err := g.readers.Edit(ctx, who.Reader, e, g.cfg.Limits.TagsPerReader)
	if refused := refusalOf(err); refused != nil {
		return fanout.Edited{}, refused, nil
	}
	if err != nil {
		return fanout.Edited{}, nil, err
	}
	return edited, nil, g.inEffect(ctx, edited.Seq)
}

// inEffect returns when the change at seq is durable and routed.
func (g *Gateway) inEffect(ctx context.Context, seq journal.Seq) error {
	if seq == 0 {
		return nil
	}
	if err := g.deps.journal.WaitSynced(ctx, seq); err != nil {
		return err
	}
	return g.router.WaitRouted(ctx, seq)
}

// permitted refuses to follow what the token does not cover.
func permitted(who identity, e fanout.Edit) *refusal {
	wanted := e.Follow
	if e.SetFollow != nil {
		wanted = append(append([]string{}, wanted...), *e.SetFollow...)
	}
	for _, tag := range wanted {
		if !who.Permit.Allows(tag) {
			return &refusal{"tag_forbidden", "the token does not permit to follow " + tag}
		}
	}
	return nil
}

// handleToken takes a fresh token of the same reader. What it permits is in
// effect behind the messages that stand before the answer.
func (g *Gateway) handleToken(ctx context.Context, s *session, f clientFrame) {
	who, err := g.identify(ctx, f.Token)
	if err == nil && who.Reader != s.name {
		err = errors.New("token is another reader's")
	}
	if err != nil {
		s.say(errorFrame{"error", f.Ref, codeFor(err), err.Error()})
		return
	}
	s.limit(who.Permit.Or(s.mayFollow())) // what the old one covers comes up to the answer
	edited, _, err := g.edit(ctx, s, who, fanout.Edit{})
	if err != nil {
		s.fail(err)
		return
	}
	s.show(who)
	if g.endRevoked(s) { // meanwhile
		return
	}
	reply := controlFrame(tokenFrame{"token", f.Ref, who.Expires.UTC().Format(time.RFC3339)})
	_ = g.pools.do(ctx, s.reader, func(*pool) { // else the session has ended
		s.limit(who.Permit)
		s.answer(edited.Seq, reply)
	})
}

// show notes what the session's present token says.
func (s *session) show(who identity) {
	s.shown.Store(&who)
	s.expires.Store(who.Expires.Unix())
}
