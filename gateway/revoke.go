package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"newswire/fanout/journal"
	"newswire/gateway/tokens"
)

// Revocation refuses tokens before their time: one by its id, or those of a
// reader that were issued before a moment.
type Revocation struct {
	TokenID      string    `json:"token_id,omitempty"`
	Reader       string    `json:"reader,omitempty"`
	IssuedBefore time.Time `json:"issued_before,omitzero"` // with Reader; a token without iat counts as issued before
	Expires      time.Time `json:"expires,omitzero"`       // the tokens' own end, behind which nothing need be kept; zero: kept until it is taken back
}

// Longest token id that can be revoked.
const maxTokenID = 1024

// ErrRevocation reports one that says nothing.
type ErrRevocation struct{ why string }

func (e *ErrRevocation) Error() string { return e.why }

func (r Revocation) check() error {
	switch {
	case (r.TokenID == "") == (r.Reader == ""):
		return &ErrRevocation{"name either a token_id or a reader"}
	case len(r.TokenID) > maxTokenID:
		return &ErrRevocation{fmt.Sprintf("a token_id has at most %d bytes", maxTokenID)}
	case r.Reader != "" && tokens.CheckReader(r.Reader) != nil:
		return &ErrRevocation{"a reader has 1 to 256 bytes and no control characters"}
	case r.TokenID != "" && !r.IssuedBefore.IsZero():
		return &ErrRevocation{"issued_before belongs to a reader; a token_id is refused whenever it was issued"}
	}
	return nil
}

// attrs are what it says, for the log.
func (r Revocation) attrs() (attrs []any) {
	if r.TokenID != "" {
		attrs = append(attrs, "token_id", r.TokenID)
	} else {
		attrs = append(attrs, "reader", r.Reader, "issued_before", r.IssuedBefore)
	}
	if !r.Expires.IsZero() {
		attrs = append(attrs, "expires", r.Expires)
	}
	return attrs
}

// key is where the record is kept.
func (r Revocation) key() []byte {
	if r.TokenID != "" {
		return journal.SpaceGateway.Key([]byte("t" + r.TokenID)...)
	}
	return journal.SpaceGateway.Key([]byte("r" + r.Reader)...)
}

// over tells whether the tokens have expired by themselves.
func (r Revocation) over(now time.Time) bool { return !r.Expires.IsZero() && !now.Before(r.Expires) }

// joined is what two of the same object mean together.
func (r Revocation) joined(before Revocation) Revocation {
	if before.IssuedBefore.After(r.IssuedBefore) {
		r.IssuedBefore = before.IssuedBefore
	}
	if before.Expires.IsZero() || !r.Expires.IsZero() && before.Expires.After(r.Expires) {
		r.Expires = before.Expires
	}
	return r
}

// revocations are those in force, in memory and in the journal's database.
type revocations struct {
	j Journal

	writing sync.Mutex // held while a record and its copy in memory change together

	mu      sync.RWMutex // guards the rest
	byToken map[string]Revocation
	byName  map[string]Revocation
}

func loadRevocations(j Journal) (*revocations, error) {
	rs := &revocations{j: j, byToken: make(map[string]Revocation), byName: make(map[string]Revocation)}
	err := j.View(func(v journal.View) error {
		return v.Scan(journal.SpaceGateway, nil, func(key, value []byte) (bool, error) {
			if kind := key[1]; kind != 't' && kind != 'r' {
				return true, nil
			}
			var r Revocation
			if err := json.Unmarshal(value, &r); err != nil {
				return false, fmt.Errorf("revocation of %.40q: %w", key[2:], err)
			}
			rs.put(r)
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load revocations: %w", err)
	}
	return rs, nil
}

func (rs *revocations) put(r Revocation) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.TokenID != "" {
		rs.byToken[r.TokenID] = r
	} else {
		rs.byName[r.Reader] = r
	}
}

func (rs *revocations) get(like Revocation) (r Revocation, ok bool) {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if like.TokenID != "" {
		r, ok = rs.byToken[like.TokenID]
	} else {
		r, ok = rs.byName[like.Reader]
	}
	return r, ok
}

func (rs *revocations) remove(r Revocation) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.TokenID != "" {
		delete(rs.byToken, r.TokenID)
	} else {
		delete(rs.byName, r.Reader)
	}
}

// covers tells whether a token is refused.
func (rs *revocations) covers(who identity) bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	now := time.Now()
	if r, ok := rs.byToken[who.ID]; ok && who.ID != "" && !r.over(now) {
		return true
	}
	r, ok := rs.byName[who.Reader]
	return ok && !r.over(now) && who.Issued.Before(r.IssuedBefore)
}

// add makes a revocation durable; it is in force before that.
func (rs *revocations) add(ctx context.Context, r Revocation) (Revocation, error) {
	rs.writing.Lock()
	defer rs.writing.Unlock()
	if before, ok := rs.get(r); ok && !before.over(time.Now()) {
		r = r.joined(before)
	}
	rs.put(r)
	value, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	var u journal.Update
	u.Set(r.key(), value)
	return r, rs.j.ApplySync(ctx, u)
}

// drop takes one back; false when there is none.
func (rs *revocations) drop(ctx context.Context, like Revocation) (bool, error) {
	rs.writing.Lock()
	defer rs.writing.Unlock()
	r, ok := rs.get(like)
	if !ok {
		return false, nil
	}
	var u journal.Update
	u.Delete(r.key())
	if err := rs.j.ApplySync(ctx, u); err != nil {
		return true, err
	}
	rs.remove(r)
	return true, nil
}

// list gives those in force, by their objects' names.
func (rs *revocations) list() (all []Revocation) {
	rs.mu.RLock()
	for _, of := range []map[string]Revocation{rs.byToken, rs.byName} {
		for _, r := range of {
			if !r.over(time.Now()) {
				all = append(all, r)
			}
		}
	}
	rs.mu.RUnlock()
	slices.SortFunc(all, func(a, b Revocation) int {
		return strings.Compare(string(a.key()), string(b.key()))
	})
	return all
}

// forgetEvery is how often revocations are looked for whose tokens have expired.
const forgetEvery = time.Minute

// run removes what is over, until ctx ends.
func (rs *revocations) run(ctx context.Context) error {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if err := rs.forget(ctx, now); err != nil && ctx.Err() == nil {
				return fmt.Errorf("remove revocations: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (rs *revocations) forget(ctx context.Context, now time.Time) error {
	rs.mu.RLock()
	var over []Revocation
	for _, of := range []map[string]Revocation{rs.byToken, rs.byName} {
		for _, r := range of {
			if r.over(now) {
				over = append(over, r)
			}
		}
	}
	rs.mu.RUnlock()
	for _, r := range over {
		if err := rs.forgetOne(ctx, r, now); err != nil {
			return err
		}
	}
	return nil
}

// forgetOne removes one that is still over: it may have been made anew.
func (rs *revocations) forgetOne(ctx context.Context, like Revocation, now time.Time) error {
	rs.writing.Lock()
	defer rs.writing.Unlock()
	r, ok := rs.get(like)
	if !ok || !r.over(now) {
		return nil
	}
	var u journal.Update
	u.Delete(r.key())
	if err := rs.j.Apply(ctx, u, nil); err != nil {
		return err
	}
	rs.remove(r)
	return nil
}

// Revoke refuses tokens from now on, durably, and ends the sessions that were
// opened with them; ended is how many. A reader's tokens without a moment are
// those issued until now. The error is an *ErrRevocation, or the journal's: then
// the revocation holds until the next start only.
func (g *Gateway) Revoke(ctx context.Context, r Revocation) (made Revocation, ended int, err error) {
	if err := r.check(); err != nil {
		return Revocation{}, 0, err
	}
	now := time.Now().UTC()
	if r.Reader != "" && r.IssuedBefore.IsZero() {
		r.IssuedBefore = now
	}
	if most := g.cfg.Auth.MaxTTL; r.Expires.IsZero() && most > 0 {
		if r.Expires = now.Add(most); r.Reader != "" {
			r.Expires = r.IssuedBefore.Add(most)
		}
	}
	if r.over(now) {
		return Revocation{}, 0, &ErrRevocation{"expires lies in the past: such tokens are refused already"}
	}
	made, err = g.revoked.add(ctx, r)
	for _, s := range g.pools.sessions() { // also after an error
		if g.endRevoked(s) {
			ended++
		}
	}
	g.pools.wakePolls()
	log := g.log.With(made.attrs()...).With("sessions_ended", ended)
	if err != nil {
		log.Error("tokens revoked until the next start only", "err", err)
		return made, ended, fmt.Errorf("keep a revocation: %w", err)
	}
	log.Info("tokens revoked")
	return made, ended, nil
}

// endRevoked ends a session whose token is refused by now. Who attaches a
// session, or gives it another token, calls it afterwards: so either that finds
// the revocation, or the revocation finds the session.
func (g *Gateway) endRevoked(s *session) bool {
	who := s.shown.Load()
	if who == nil || !g.revoked.covers(*who) {
		return false
	}
	s.end(endForbidden, 0)
	return true
}

// Unrevoke takes a revocation back; false when there is none.
func (g *Gateway) Unrevoke(ctx context.Context, r Revocation) (bool, error) {
	if err := r.check(); err != nil {
		return false, err
	}
	found, err := g.revoked.drop(ctx, r)
	if err != nil {
		return found, fmt.Errorf("take a revocation back: %w", err)
	}
	if found {
		g.log.Info("revocation taken back", "token_id", r.TokenID, "reader", r.Reader)
	}
	return found, nil
}

// Revocations gives those in force.
func (g *Gateway) Revocations() []Revocation { return g.revoked.list() }
