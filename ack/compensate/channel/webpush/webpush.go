// Package webpush sends notifications through the push services of browsers:
// RFC 8030, with the message encrypted for the one browser that it is for (RFC
// 8291) and the sender known to the push service by its key (RFC 8292).
//
// The service worker gets JSON: title, body, url, tag, id and count. It shows
// the notification under its tag, so that a repeat, or an article's correction,
// replaces what is shown; the push service replaces what still waits there by
// the same name (Topic). So what is in doubt may be sent again.
//
// Readers say where to: an endpoint is https on port 443 of a public address,
// or of a host that the configuration names. What a host that nobody has named
// answers counts for its own device only, never for the channel.
package webpush

import (
	"context"
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

// Config is the sender's.
type Config struct {
	KeyFile      string      `yaml:"key_file"`      // the VAPID key: PEM, or the 32 bytes in base64url; required
	Subject      string      `yaml:"subject"`       // whom a push service may turn to: mailto:… or https://…; required
	Hosts        []string    `yaml:"hosts"`         // only these push services, host or host:port; *.example.com for all below it; empty: all on the public internet
	AllowPrivate bool        `yaml:"allow_private"` // endpoints may lie in the private network and on any port: for a push service of one's own
	HTTP         wire.Config `yaml:"http"`
}

const (
	mostTitle    = 120
	mostBody     = 400
	mostEndpoint = 2048
	longestTTL   = 28 * 24 * time.Hour // what push services keep at most
	usualTTL     = 24 * time.Hour      // of a notification that does not say when it is stale
)

// browsers are the push services that browsers come with: what these say about
// us is taken for true.
var browsers = []string{
	"fcm.googleapis.com", "*.push.services.mozilla.com", "*.push.apple.com", "*.notify.windows.com",
}

// Validate says all that is wrong with c, without reading a file.
func (c Config) Validate() error {
	var faults []error
	if c.KeyFile == "" {
		faults = append(faults, errors.New("key_file is empty: name the file with the VAPID key"))
	}
	u, err := url.Parse(c.Subject)
	if err != nil || !(u.Scheme == "mailto" && strings.Contains(u.Opaque, "@") || u.Scheme == "https" && u.Host != "") {
		faults = append(faults, fmt.Errorf("subject %q is no contact: write mailto:… or https://…", c.Subject))
	}
	for _, h := range c.Hosts {
		if h == "" || strings.ContainsAny(h, "/@ ") || strings.Contains(strings.TrimPrefix(h, "*."), "*") {
			faults = append(faults, fmt.Errorf("hosts: %q is no host: write push.example.com or *.example.com", h))
		}
	}
	return errors.Join(append(faults, c.HTTP.Validate())...)
}

// Channel sends Web Push messages.
type Channel struct {
	hosts        []string // fixed
	allowPrivate bool     // fixed
	client       *wire.Client
	key          *vapid
}

// New checks c and reads the key.
func New(c Config) (*Channel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	key, err := readKey(c.KeyFile)
	if err != nil {
		return nil, err
	}
	client, err := wire.New(c.HTTP, wire.Needs{PublicOnly: !c.AllowPrivate, AnyPort: len(c.Hosts) > 0})
	if err != nil {
		return nil, err
	}
	return &Channel{c.Hosts, c.AllowPrivate, client, newVAPID(key, c.Subject, time.Now)}, nil
}

// Close ends idle connections.
func (c *Channel) Close() error { c.client.Close(); return nil }

// Properties are what the service must know.
func (c *Channel) Properties() channel.Properties {
	return channel.Properties{
		Dedupes: true, WithDevices: true, Title: mostTitle, Body: mostBody,
		Timeout: c.client.Timeout(), PublicKey: c.key.public,
	}
}

// Check says what is wrong with a browser's subscription.
func (c *Channel) Check(d channel.Device) error {
	if _, err := c.endpoint(d.Address); err != nil {
		return err
	}
	_, err := parseSubscriber(d.Keys)
	return err
}

// endpoint is a reader's word for where to send: taken only where it leads
// into no network of ours.
func (c *Channel) endpoint(address string) (*url.URL, error) {
	if len(address) > mostEndpoint {
		return nil, fmt.Errorf("the endpoint has %d bytes, more than %d", len(address), mostEndpoint)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("the endpoint is not an https address as a browser's subscription has it")
	}
	if len(c.hosts) > 0 {
		if !listed(c.hosts, u) {
			return nil, errors.New("the endpoint is of a push service that is not allowed here (webpush.hosts)")
		}
		return u, nil
	}
	if c.allowPrivate {
		return u, nil
	}
	if p := u.Port(); p != "" && p != "443" {
		return nil, errors.New("the endpoint has a port of its own: push services are on 443 (webpush.hosts allows others)")
	}
	if !wire.MayBePublic(u.Hostname()) {
		return nil, errors.New("the endpoint does not lead into the public internet")
	}
	return u, nil
}

// listed tells whether a list names u's host.
func listed(hosts []string, u *url.URL) bool {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	for _, h := range hosts {
		h = strings.ToLower(h)
		name, port, withPort := strings.Cut(h, ":")
		if withPort && port != u.Port() || !withPort && u.Port() != "" && u.Port() != "443" {
			continue
		}
		if below, ok := strings.CutPrefix(name, "*"); ok && strings.HasSuffix(host, below) || host == name {
			return true
		}
	}
	return false
}

// Send makes one attempt.
func (c *Channel) Send(ctx context.Context, d channel.Device, n channel.Notification) channel.Result {
	u, err := c.endpoint(d.Address)
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "bad_endpoint", Detail: err.Error()}
	}
	to, err := parseSubscriber(d.Keys)
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "bad_keys", Detail: err.Error()}
	}
	body, err := to.encrypt(payload(n))
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "too_large", Detail: err.Error()}
	}
	authorization, err := c.key.authorization(u)
	if err != nil {
		return channel.Result{Outcome: channel.Temporary, Reason: "vapid", Detail: err.Error(), Everybody: true}
	}
	a, lost := c.client.Do(ctx, wire.Request{Method: http.MethodPost, URL: d.Address, Header: header(n, authorization), Body: body})
	var r channel.Result
	if lost != nil {
		r = lost.Result()
	} else {
		r = result(a, d)
	}
	known := len(c.hosts) > 0 || listed(browsers, u)
	r.Everybody = r.Everybody && known
	return r
}

func header(n channel.Notification, authorization string) http.Header {
	ttl := usualTTL
	if !n.Expires.IsZero() {
		ttl = min(max(time.Until(n.Expires), 0), longestTTL)
	}
	urgency := "normal"
	if n.Urgent {
		urgency = "high"
	}
	h := http.Header{
		"Authorization":    {authorization},
		"Content-Type":     {"application/octet-stream"},
		"Content-Encoding": {"aes128gcm"},
		"Urgency":          {urgency},
	}
	h.Set("TTL", strconv.FormatInt(int64(ttl/time.Second), 10))
	if n.Collapse != "" {
		h.Set("Topic", n.Collapse)
	}
	return h
}

// payload is what the service worker gets. What is too long for one record
// loses the end of its body, and an address that would leave no room for it.
func payload(n channel.Notification) []byte {
	type message struct {
		Title string `json:"title"`
		Body  string `json:"body"`
		URL   string `json:"url,omitempty"`
		Tag   string `json:"tag,omitempty"`
		ID    string `json:"id"`
		Count int    `json:"count"`
	}
	m := message{wire.Shorten(n.Title, mostTitle), wire.Shorten(n.Body, mostBody), n.URL, n.Collapse, n.MessageID, n.Count}
	if len(m.URL) > mostEndpoint {
		m.URL = ""
	}
	for length := mostBody; ; length /= 2 {
		text, err := json.Marshal(m)
		if err == nil && len(text) <= mostPlain || length == 0 {
			return text // encrypt says so if even this is too long
		}
		m.Body = wire.Shorten(m.Body, length)
	}
}

// result understands what push services answer: RFC 8030, and the words of
// those that browsers use.
func result(a wire.Answer, d channel.Device) channel.Result {
	of := func(o channel.Outcome, reason string) channel.Result {
		return a.Result(o, reason, string(a.Body), d.Address)
	}
	everybody := func(o channel.Outcome, reason string) channel.Result {
		r := of(o, reason)
		r.Everybody = true
		return r
	}
	switch {
	case a.Status >= 200 && a.Status < 300:
		return channel.Result{Outcome: channel.Sent}
	case a.Status == http.StatusNotFound, a.Status == http.StatusGone:
		return of(channel.Gone, a.StatusReason())
	case a.Status == http.StatusTooManyRequests:
		return of(channel.Throttled, a.StatusReason())
	case a.Status == http.StatusServiceUnavailable:
		return everybody(channel.Throttled, a.StatusReason())
	case a.Status == http.StatusRequestEntityTooLarge:
		return of(channel.Permanent, "too_large")
	case otherSender(a.Body):
		return of(channel.Permanent, "vapid_mismatch") // subscribed under another key
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		return everybody(channel.Temporary, "unauthorized") // until the operator has mended key or clock
	case a.Status == http.StatusRequestTimeout, a.Status >= 500:
		return everybody(channel.Doubtful, a.StatusReason())
	default:
		return of(channel.Permanent, a.StatusReason())
	}
}

// otherSender recognises the ways in which push services say that a
// subscription belongs to another VAPID key.
func otherSender(body []byte) bool {
	return strings.Contains(string(body), "do not correspond") || strings.Contains(string(body), "VapidPkHashMismatch")
}
