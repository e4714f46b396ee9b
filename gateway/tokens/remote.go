package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// How often a JWKS address is asked.
const (
	refreshEvery = 5 * time.Minute
	failedEvery  = 15 * time.Second // after an attempt that failed
	unknownEvery = 10 * time.Second // because of tokens whose key is not known: anybody can send those
	askTimeout   = 5 * time.Second
)

// remote is a JWKS address.
type remote struct {
	url    string
	client *http.Client

	mu     sync.Mutex    // guards the rest
	asking chan struct{} // closed when the attempt that runs ends; nil: none runs
	asked  time.Time     // the last attempt began
	err    error         // of the last attempt
}

func newRemote(address string) (*remote, error) {
	if err := CheckJWKSURL(address); err != nil {
		return nil, fmt.Errorf("gateway.auth.jwks_url %w", err)
	}
	return &remote{
		url: address, err: errors.New("gateway.auth.jwks_url was not asked yet"),
		client: &http.Client{
			Timeout: askTimeout,
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if len(via) > 3 {
					return errors.New("it redirects too often")
				}
				return CheckJWKSURL(r.URL.String())
			},
		},
	}, nil
}

// CheckJWKSURL refuses addresses whose answer anybody on the way could replace.
func CheckJWKSURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("is %.200q: write https://host/path", address)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("is %.200q: write https://, so that nobody on the way can put keys of its own there; http:// is taken on loopback alone", address)
}

// why tells why the address gave no keys; nil when it did.
func (r *remote) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// pause is how long to wait between two attempts.
func (r *remote) pause() time.Duration {
	if r.why() != nil {
		return failedEvery
	}
	return refreshEvery
}

// refresh asks the address unless it was asked within pause, and returns when
// there is an answer: its own, or that of an attempt that runs already.
func (v *Verifier) refresh(ctx context.Context, pause time.Duration) {
	r := v.remote
	r.mu.Lock()
	if running := r.asking; running != nil {
		r.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
		}
		return
	}
	if !r.asked.IsZero() && time.Since(r.asked) < pause {
		r.mu.Unlock()
		return
	}
	done := make(chan struct{})
	r.asked, r.asking = time.Now(), done
	r.mu.Unlock()
	err := v.ask(ctx)
	r.mu.Lock()
	news := err != nil && (r.err == nil || r.err.Error() != err.Error())
	r.err, r.asking = err, nil
	r.mu.Unlock()
	close(done)
	if news && ctx.Err() == nil {
		v.log.Error("the keys of tokens cannot be had", "err", err, "known", v.keys.Load() != nil)
	}
}

// ask takes the keys that the address gives. An answer that cannot be used
// leaves those from before in force.
func (v *Verifier) ask(ctx context.Context) error {
	ring, text, err := v.remote.get(ctx)
	if err != nil {
		return fmt.Errorf("gateway.auth.jwks_url: %w", err)
	}
	before := v.keys.Swap(ring)
	v.keep(ctx, before, ring, text)
	return nil
}

// get asks once.
func (r *remote) get(ctx context.Context) (*keyring, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answers %s", r.url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxJWKS {
		return nil, nil, fmt.Errorf("%s answers with more than %d bytes", r.url, maxJWKS)
	}
	ring, err := parseJWKS(text)
	if err != nil {
		return nil, nil, fmt.Errorf("what %s answers %w", r.url, err)
	}
	return ring, text, nil
}

// kept is what the cache holds: a set counts only for the address that gave it.
type kept struct {
	URL  string          `json:"url"`
	JWKS json.RawMessage `json:"jwks"`
}

// keep saves a set for the next start, when the address may be away.
func (v *Verifier) keep(ctx context.Context, before, now *keyring, text []byte) {
	if before.equal(now) {
		return
	}
	v.log.Info("keys of tokens taken from gateway.auth.jwks_url", "keys", len(now.keys))
	if v.cfg.Cache == nil {
		return
	}
	record, err := json.Marshal(kept{v.cfg.JWKSURL, text})
	if err == nil {
		err = v.cfg.Cache.Save(ctx, record)
	}
	if err != nil {
		v.log.Warn("keys of tokens are not kept for the next start", "err", err)
	}
}

// cached gives what was kept; nil where there is nothing of use.
func (v *Verifier) cached() *keyring {
	if v.cfg.Cache == nil {
		return nil
	}
	text, err := v.cfg.Cache.Load()
	var k kept
	if err != nil || json.Unmarshal(text, &k) != nil || k.URL != v.cfg.JWKSURL {
		return nil
	}
	ring, err := parseJWKS(k.JWKS)
	if err != nil {
		return nil
	}
	return ring
}
