package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"newswire/cmd/newswire/internal/checker"
)

// poller is a reader without a connection.
type poller struct {
	door
	name   string
	token  string
	manual bool // acknowledges by itself, or not
	leaves bool // at some time, for good

	record checker.Reader // owned by run
}

// client keeps no connection: the engine behind the address changes.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// ask makes one request; it gives no status when nobody answered whole.
func (p *poller) ask(method, path string, body any) (status int, answer []byte) {
	content, err := json.Marshal(body)
	if err != nil {
		p.broken("poller %s: %v", p.name, err)
		return 0, nil
	}
	req, err := http.NewRequest(method, "http://"+p.address+path, bytes.NewReader(content))
	if err != nil {
		p.broken("poller %s: %v", p.name, err)
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	if s := resp.StatusCode; s >= 400 && s != http.StatusServiceUnavailable && s != http.StatusTooManyRequests {
		p.broken("poller %s: %s %s: %s %s", p.name, method, path, resp.Status, answer)
	}
	return resp.StatusCode, answer
}

// run polls until ctx ends. Its sets are given once, before anything else.
func (p *poller) run(ctx context.Context, random *rand.Rand) {
	p.subscribe(ctx, random)
	for ctx.Err() == nil {
		if p.leaves && len(p.record.Sessions) > 3 && random.IntN(10) == 0 {
			p.leave(ctx)
			return
		}
		p.poll(random)
		wait(ctx, time.Duration(random.IntN(1500))*time.Millisecond)
	}
}

// leave has the reader deleted, and asks until that is answered.
func (p *poller) leave(ctx context.Context) {
	for asked := time.Now(); ctx.Err() == nil; wait(ctx, 50*time.Millisecond) {
		if status, _ := p.ask("DELETE", "/v1/subscriptions", nil); status == http.StatusNoContent {
			p.record.Left = true
			p.record.Sets = append(p.record.Sets, checker.SetChange{Asked: asked, Answered: time.Now(), Session: -1})
			return
		}
	}
}

// subscribe replaces the poller's sets until that is answered. Asked more than
// once, it may have taken effect with any of the questions.
func (p *poller) subscribe(ctx context.Context, random *rand.Rand) {
	follow, asked := append(someTags(random, 3), "tech"), time.Now()
	for ctx.Err() == nil {
		if status, _ := p.ask("PUT", "/v1/subscriptions", map[string][]string{"follow": follow, "mute": {}}); status == http.StatusOK {
			p.record.Sets = append(p.record.Sets, checker.SetChange{Follow: follow, Asked: asked, Answered: time.Now(), Session: -1})
			return
		}
		wait(ctx, 50*time.Millisecond)
	}
}

// poll asks once for what is not read, and acknowledges it, or most of it, or
// forgets to.
func (p *poller) poll(random *rand.Rand) {
	began := time.Now()
	path := fmt.Sprintf("/v1/poll?limit=%d&wait=%d", 1+random.IntN(300), random.IntN(2))
	if p.manual {
		path += "&ack=manual"
	}
	status, answer := p.ask("GET", path, nil)
	if status != http.StatusOK {
		return
	}
	now := time.Now()
	var news struct {
		Messages []told `json:"messages"`
		Next     string `json:"next"`
	}
	if err := json.Unmarshal(answer, &news); err != nil {
		p.broken("poller %s: %v in %.200s", p.name, err, answer)
		return
	}
	s := checker.Session{Began: began}
	var ids []string
	for _, m := range news.Messages {
		f, err := p.book.frame(now, m)
		if err != nil {
			p.broken("poller %s: %v", p.name, err)
			return
		}
		s.Frames = append(s.Frames, f)
		ids = append(ids, f.ID)
	}
	p.record.Sessions = append(p.record.Sessions, s)
	switch {
	case !p.manual:
		p.acknowledged(ids, now, now)
	case random.IntN(4) == 0: // forgotten
	case random.IntN(2) == 0:
		p.acknowledge(ids, map[string]any{"upto": news.Next})
	case len(ids) <= 50 && random.IntN(2) == 0:
		p.acknowledge(ids, nil)
	default:
		p.acknowledge(ids, map[string]any{"ids": ids})
	}
}

// acknowledge posts an acknowledgement: a body, or nil for the query.
func (p *poller) acknowledge(ids []string, body map[string]any) {
	sent, path := time.Now(), "/v1/ack"
	if body == nil {
		path += "?msg_id=" + strings.Join(ids, "&msg_id=")
	}
	if upto, ok := body["upto"].(string); ok { // it covers what earlier polls brought, too
		for _, s := range p.record.Sessions {
			for _, f := range s.Frames {
				if f.ID <= upto && !slices.Contains(ids, f.ID) {
					ids = append(ids, f.ID)
				}
			}
		}
	}
	status, _ := p.ask("POST", path, body)
	heard := time.Now()
	if status != http.StatusNoContent {
		heard = time.Time{} // it may have got there
	}
	p.acknowledged(ids, sent, heard)
}

// acknowledged notes acknowledgements in the session that is open.
func (p *poller) acknowledged(ids []string, at, heard time.Time) {
	s := &p.record.Sessions[len(p.record.Sessions)-1]
	for _, id := range ids {
		s.Acks = append(s.Acks, checker.Ack{ID: id, At: at, Heard: heard})
	}
}

// history gives the poller's part of it. It has ended.
func (p *poller) history(lives []checker.Life) checker.Reader {
	r := p.record
	r.Name = p.name
	for n := range r.Sets {
		r.Sets[n].Life = lifeAt(lives, r.Sets[n].Asked)
	}
	for n := range r.Sessions {
		r.Sessions[n].Life = lifeAt(lives, r.Sessions[n].Began)
	}
	return r
}
