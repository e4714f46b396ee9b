// Package apns sends notifications to Apple's devices: HTTP/2, authorised by a
// provider token (ES256) that is renewed between 20 and 60 minutes, as Apple
// wants it.
//
// A repeat carries the same apns-id and apns-collapse-id: the device shows it
// in the place of the first, so what is in doubt may be sent again. Only where
// Apple says that the provider token has expired is a request made a second
// time within one attempt, because Apple has not taken the first.
package apns

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// Config is the provider's.
type Config struct {
	KeyFile string      `yaml:"key_file"` // the .p8 file of the token signing key; required
	KeyID   string      `yaml:"key_id"`   // ten characters; required
	TeamID  string      `yaml:"team_id"`  // ten characters; required
	Topic   string      `yaml:"topic"`    // the app's bundle id; required
	Sandbox bool        `yaml:"sandbox"`  // for apps in development
	URL     string      `yaml:"url"`      // another address than Apple's; empty: Apple's
	Sound   string      `yaml:"sound"`    // of an urgent notification; empty: "default"
	HTTP    wire.Config `yaml:"http"`
}

const (
	production   = "https://api.push.apple.com"
	sandbox      = "https://api.sandbox.push.apple.com"
	mostTitle    = 120
	mostBody     = 600
	mostPayload  = 4096 // bytes, Apple's limit
	mostCollapse = 64   // bytes, Apple's limit
	mostURL      = 2048
	usualLife    = 24 * time.Hour // of a notification that does not say when it is stale
)

var tenCharacters = regexp.MustCompile(`^[A-Z0-9]{10}$`)

// Validate says all that is wrong with c, without reading a file.
func (c Config) Validate() error {
	var faults []error
	if c.KeyFile == "" {
		faults = append(faults, errors.New("key_file is empty: name the .p8 file of the signing key"))
	}
	if !tenCharacters.MatchString(c.KeyID) {
		faults = append(faults, fmt.Errorf("key_id %q is not ten capital letters and digits: Apple shows it beside the key", c.KeyID))
	}
	if !tenCharacters.MatchString(c.TeamID) {
		faults = append(faults, fmt.Errorf("team_id %q is not ten capital letters and digits: Apple shows it under Membership", c.TeamID))
	}
	if c.Topic == "" || strings.ContainsAny(c.Topic, " \t\r\n/") {
		faults = append(faults, fmt.Errorf("topic %q is no bundle id: write it as com.example.news", c.Topic))
	}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			faults = append(faults, errors.New("url is not https://host[:port]"))
		}
	}
	return errors.Join(append(faults, c.HTTP.Validate())...)
}

// Channel sends to Apple's devices.
type Channel struct {
	base   string // fixed
	topic  string // fixed
	sound  string // fixed
	client *wire.Client
	tokens *tokens
	proven atomic.Bool // Apple has taken a notification: environment and topic are the devices'
}

// New checks c and reads the key.
func New(c Config) (*Channel, error) { return newAt(c, time.Now) }

// newAt is New with a clock.
func newAt(c Config, now func() time.Time) (*Channel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	text, err := wire.ReadSecret("key_file", c.KeyFile)
	if err != nil {
		return nil, err
	}
	key, err := wire.ParseP256(text)
	if err != nil {
		return nil, fmt.Errorf("read key_file %s: %w", c.KeyFile, err)
	}
	client, err := wire.New(c.HTTP, wire.Needs{HTTP2: true})
	if err != nil {
		return nil, err
	}
	base := production
	if c.Sandbox {
		base = sandbox
	}
	if c.URL != "" {
		base = strings.TrimRight(c.URL, "/")
	}
	sound := c.Sound
	if sound == "" {
		sound = "default"
	}
	return &Channel{
		base: base, topic: c.Topic, sound: sound, client: client,
		tokens: &tokens{key: key, keyID: c.KeyID, teamID: c.TeamID, now: now},
	}, nil
}

// Close ends idle connections.
func (c *Channel) Close() error { c.client.Close(); return nil }

// Properties are what the service must know.
func (c *Channel) Properties() channel.Properties {
	return channel.Properties{Dedupes: true, WithDevices: true, Title: mostTitle, Body: mostBody, Timeout: c.client.Timeout()}
}

// deviceToken is hexadecimal, of a length that Apple does not promise.
var deviceToken = regexp.MustCompile(`^([0-9a-fA-F]{2}){16,100}$`)

// Check says what is wrong with a device.
func (c *Channel) Check(d channel.Device) error {
	if len(d.Address) > 256 || !deviceToken.MatchString(d.Address) {
		return errors.New("the address is not a device token in hexadecimal, as the app got it from Apple")
	}
	return nil
}

// Send makes one attempt.
func (c *Channel) Send(ctx context.Context, d channel.Device, n channel.Notification) channel.Result {
	if err := c.Check(d); err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "bad_token", Detail: err.Error()}
	}
	body, err := c.payload(n)
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "payload_too_large", Detail: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, c.client.Timeout())
	defer cancel()
	for again := false; ; again = true {
		token, err := c.tokens.current()
		if err != nil {
			return channel.Result{Outcome: channel.Temporary, Reason: "provider_token", Detail: err.Error(), Everybody: true}
		}
		a, lost := c.client.Do(ctx, wire.Request{
			Method: http.MethodPost, URL: c.base + "/3/device/" + d.Address, Header: c.header(d, n, token), Body: body,
		})
		if lost != nil {
			return lost.Result()
		}
		r := c.judge(result(a, d))
		if r.Reason != expiredProviderToken || again || !c.tokens.renew(token) {
			return r
		}
	}
}

// judge keeps devices until it is known that the configuration is not at fault: in the
// wrong environment, or under another app's topic, Apple calls every token a bad one.
func (c *Channel) judge(r channel.Result) channel.Result {
	if r.Outcome == channel.Sent {
		c.proven.Store(true)
	}
	if (r.Reason == badDeviceToken || r.Reason == tokenNotForTopic) && !c.proven.Load() {
		r.Outcome = channel.Permanent
	}
	return r
}

func (c *Channel) header(d channel.Device, n channel.Notification, token string) http.Header {
	expires := n.Expires
	if expires.IsZero() {
		expires = time.Now().Add(usualLife)
	}
	priority := "5"
	if n.Urgent {
		priority = "10"
	}
	h := http.Header{
		"Authorization":   {"bearer " + token},
		"Content-Type":    {"application/json"},
		"Apns-Topic":      {c.topic},
		"Apns-Push-Type":  {"alert"},
		"Apns-Priority":   {priority},
		"Apns-Expiration": {strconv.FormatInt(max(expires.Unix(), 0), 10)},
		"Apns-Id":         {notificationID(n, d)},
	}
	if n.Collapse != "" && len(n.Collapse) <= mostCollapse {
		h.Set("Apns-Collapse-Id", n.Collapse)
	}
	return h
}

// notificationID is a UUID that is the same at every repeat, and no other
// notification's or device's.
func notificationID(n channel.Notification, d channel.Device) string {
	sum := sha256.Sum256([]byte(n.CeID + "\n" + d.Address))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: of our own making
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// alert is the payload: Apple's part, and what the app needs to open the
// article.
type alert struct {
	APS aps    `json:"aps"`
	URL string `json:"url,omitempty"`
	ID  string `json:"id"`
}

type aps struct {
	Alert struct {
		Title string `json:"title"`
		Body  string `json:"body"`
	} `json:"alert"`
	Sound    string `json:"sound,omitempty"`
	ThreadID string `json:"thread-id,omitempty"`
}

// payload is what Apple takes: where it is too long, the text is shortened.
func (c *Channel) payload(n channel.Notification) ([]byte, error) {
	a := alert{URL: n.URL, ID: n.MessageID}
	if len(a.URL) > mostURL {
		a.URL = ""
	}
	a.APS.Alert.Title, a.APS.Alert.Body = wire.Shorten(n.Title, mostTitle), wire.Shorten(n.Body, mostBody)
	a.APS.ThreadID = n.Collapse
	if n.Urgent {
		a.APS.Sound = c.sound
	}
	for length := mostBody; ; length /= 2 {
		text, err := json.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("encode the payload: %w", err)
		}
		if len(text) <= mostPayload {
			return text, nil
		}
		if length == 0 {
			return nil, fmt.Errorf("the payload has %d bytes, more than the %d that Apple takes", len(text), mostPayload)
		}
		a.APS.Alert.Body = wire.Shorten(a.APS.Alert.Body, length)
	}
}
