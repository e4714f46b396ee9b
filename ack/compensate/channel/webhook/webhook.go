// Package webhook tells a site's own backend what a reader has missed: one
// signed request for each notification, as the Standard Webhooks specification
// describes it. The receiver may word and send it as it likes.
//
// The header webhook-id is the same at every repeat; a receiver that has had it
// answers with success and does nothing. That is a receiver's part of the
// contract, and so what is in doubt may be sent again.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// Config is where to, and signed with what.
type Config struct {
	URL         string      `yaml:"url"`          // of the receiver; required
	AllowHTTP   bool        `yaml:"allow_http"`   // url may be http: for a receiver in the same network
	SecretFiles []string    `yaml:"secret_files"` // each with one secret, whsec_… or at least 24 characters: signed with all of them, so that one can be replaced; required
	HTTP        wire.Config `yaml:"http"`
}

const (
	eventType   = "newswire.offline.v1"
	leastSecret = 24 // bytes, as the specification asks
	mostSecrets = 4
)

// Validate says all that is wrong with c, without reading a file.
func (c Config) Validate() error {
	var faults []error
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && c.AllowHTTP) || u.User != nil || u.Fragment != "" {
		faults = append(faults, errors.New("url is no https address without a password in it: write https://cms.example.com/hook (http needs allow_http)"))
	}
	if n := len(c.SecretFiles); n < 1 || n > mostSecrets {
		faults = append(faults, fmt.Errorf("secret_files names %d files: name one, and a second while a secret is replaced", n))
	}
	return errors.Join(append(faults, c.HTTP.Validate())...)
}

// Channel calls a webhook.
type Channel struct {
	url     string   // fixed
	keys    [][]byte // fixed
	secrets []string // fixed; never to be repeated
	client  *wire.Client
	now     func() time.Time // fixed
}

// New checks c and reads the secrets.
func New(c Config) (*Channel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	ch := &Channel{url: c.URL, now: time.Now}
	for _, file := range c.SecretFiles {
		text, err := wire.ReadSecret("secret_files", file)
		if err != nil {
			return nil, err
		}
		key, err := parseSecret(string(text))
		if err != nil {
			return nil, fmt.Errorf("secret_files %s: %w", file, err)
		}
		ch.keys, ch.secrets = append(ch.keys, key), append(ch.secrets, string(text))
	}
	var err error
	ch.client, err = wire.New(c.HTTP, wire.Needs{})
	return ch, err
}

// parseSecret reads whsec_ and base64, or takes the text as it is.
func parseSecret(text string) ([]byte, error) {
	key := []byte(text)
	if encoded, ok := strings.CutPrefix(text, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("what follows whsec_ is no base64")
		}
	}
	if len(key) < leastSecret {
		return nil, fmt.Errorf("the secret has %d bytes: take at least %d", len(key), leastSecret)
	}
	return key, nil
}

// Close ends idle connections.
func (c *Channel) Close() error { c.client.Close(); return nil }

// Properties are what the service must know.
func (c *Channel) Properties() channel.Properties {
	return channel.Properties{Dedupes: true, Timeout: c.client.Timeout(), AtOnce: c.client.Connections()}
}

// Check has nothing to say: the receiver is the operator's.
func (c *Channel) Check(channel.Device) error { return nil }

// event is the body.
type event struct {
	Type      string       `json:"type"`
	Timestamp string       `json:"timestamp"`
	Data      notification `json:"data"`
}

type notification struct {
	CeID      string          `json:"ce_id"`
	Reader    string          `json:"reader"`
	MessageID string          `json:"message_id"`
	Action    string          `json:"action"`
	Tags      []string        `json:"tags"`
	Title     string          `json:"title,omitempty"`
	Body      string          `json:"body,omitempty"`
	URL       string          `json:"url,omitempty"`
	Collapse  string          `json:"collapse,omitempty"`
	Expires   *time.Time      `json:"expires,omitempty"`
	Urgent    bool            `json:"urgent"`
	Count     int             `json:"count"`
	Message   json.RawMessage `json:"message"`
}

// Send makes one attempt.
func (c *Channel) Send(ctx context.Context, _ channel.Device, n channel.Notification) channel.Result {
	now := c.now()
	body, err := encode(n, now)
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "bad_data", Detail: "the message's data is no JSON"}
	}
	id := webhookID(n)
	h := http.Header{"Content-Type": {"application/json"}}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", c.signatures(id, now, body))
	a, lost := c.client.Do(ctx, wire.Request{Method: http.MethodPost, URL: c.url, Header: h, Body: body})
	if lost != nil {
		return lost.Result()
	}
	r := result(a, c.secrets)
	r.ProviderID = id
	return r
}

func encode(n channel.Notification, now time.Time) ([]byte, error) {
	d := notification{
		CeID: n.CeID, Reader: n.Reader, MessageID: n.MessageID, Action: n.Action, Tags: n.Tags, Title: n.Title, Body: n.Body,
		URL: n.URL, Collapse: n.Collapse, Urgent: n.Urgent, Count: n.Count, Message: n.Data,
	}
	if d.Tags == nil {
		d.Tags = []string{}
	}
	if !n.Expires.IsZero() {
		expires := n.Expires.UTC()
		d.Expires = &expires
	}
	if len(n.Data) == 0 {
		d.Message = json.RawMessage("null")
	}
	return json.Marshal(event{Type: eventType, Timestamp: now.UTC().Format(time.RFC3339Nano), Data: d})
}

// webhookID is the same at every repeat; a ce_id may hold what no header may.
func webhookID(n channel.Notification) string {
	sum := sha256.Sum256([]byte(n.CeID))
	return "msg_" + base64.RawURLEncoding.EncodeToString(sum[:24])
}

// signatures has one for each secret, so that a receiver that knows either of
// two is satisfied.
func (c *Channel) signatures(id string, now time.Time, body []byte) string {
	all := make([]string, len(c.keys))
	for i, key := range c.keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", id, now.Unix(), body)
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(all, " ")
}

// result understands a receiver's answer. 410 says that this reader is none of
// its any more.
func result(a wire.Answer, secrets []string) channel.Result {
	of := func(o channel.Outcome, everybody bool) channel.Result {
		r := a.Result(o, a.StatusReason(), string(a.Body), secrets...)
		r.Everybody = everybody
		return r
	}
	switch {
	case a.Status >= 200 && a.Status < 300:
		return channel.Result{Outcome: channel.Sent}
	case a.Status == http.StatusGone:
		return of(channel.Gone, false)
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusServiceUnavailable:
		return of(channel.Throttled, true)
	case a.Status >= 300 && a.Status < 400,
		a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden, a.Status == http.StatusNotFound, a.Status == http.StatusMethodNotAllowed:
		return of(channel.Temporary, true) // url or secret are to be mended
	case a.Status == http.StatusRequestTimeout, a.Status >= 500:
		return of(channel.Doubtful, true)
	default:
		return of(channel.Permanent, false)
	}
}
