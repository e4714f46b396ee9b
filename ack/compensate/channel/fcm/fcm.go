// Package fcm sends notifications through Firebase Cloud Messaging: HTTP v1,
// authorised by a service account's key (OAuth 2.0, JWT bearer grant).
//
// A repeat carries the same tag (Android), collapse id (iOS) and Topic (web): the
// device shows it in the place of the first, so what is in doubt may be sent
// again. Only where Google says that the access token is none is a request made
// a second time within one attempt, because Google has not taken the first.
package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// Config is the sender's.
type Config struct {
	CredentialsFile string      `yaml:"credentials_file"` // the service account's JSON, as the Firebase console gives it; required
	Project         string      `yaml:"project"`          // id of the project; empty: the service account's
	URL             string      `yaml:"url"`              // another address than Google's; empty: Google's
	HTTP            wire.Config `yaml:"http"`
}

const (
	google      = "https://fcm.googleapis.com"
	mostTitle   = 120
	mostBody    = 600
	mostPayload = 4000 // bytes; FCM takes 4096 of what the device gets
	mostToken   = 4096
	mostURL     = 2048
	longestTTL  = 28 * 24 * time.Hour // FCM's limit
	usualTTL    = 24 * time.Hour      // of a notification that does not say when it is stale
)

var projectID = regexp.MustCompile(`^[a-z0-9.:-]{4,64}$`)

// Validate says all that is wrong with c, without reading a file.
func (c Config) Validate() error {
	var faults []error
	if c.CredentialsFile == "" {
		faults = append(faults, errors.New("credentials_file is empty: name the JSON file of the service account"))
	}
	if c.Project != "" && !projectID.MatchString(c.Project) {
		faults = append(faults, fmt.Errorf("project %q is no project id: the Firebase console shows it in the project's settings", c.Project))
	}
	if c.URL != "" && !httpsHost(c.URL) {
		faults = append(faults, errors.New("url is not https://host[:port]"))
	}
	return errors.Join(append(faults, c.HTTP.Validate())...)
}

func httpsHost(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == ""
}

// Channel sends through FCM.
type Channel struct {
	url    string // fixed; where messages go
	client *wire.Client
	access *access
}

// New checks c and reads the credentials.
func New(c Config) (*Channel, error) { return newAt(c, time.Now) }

// newAt is New with a clock.
func newAt(c Config, now func() time.Time) (*Channel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	account, err := readAccount(c.CredentialsFile)
	if err != nil {
		return nil, err
	}
	project := c.Project
	if project == "" {
		project = account.project
	}
	if !projectID.MatchString(project) {
		return nil, fmt.Errorf("credentials_file %s names no project: set project", c.CredentialsFile)
	}
	client, err := wire.New(c.HTTP, wire.Needs{})
	if err != nil {
		return nil, err
	}
	base := google
	if c.URL != "" {
		base = strings.TrimRight(c.URL, "/")
	}
	return &Channel{
		url:    base + "/v1/projects/" + project + "/messages:send",
		client: client,
		access: newAccess(account, client, now),
	}, nil
}

// Close ends idle connections.
func (c *Channel) Close() error { c.client.Close(); return nil }

// Properties are what the service must know.
func (c *Channel) Properties() channel.Properties {
	return channel.Properties{Dedupes: true, WithDevices: true, Title: mostTitle, Body: mostBody, Timeout: c.client.Timeout()}
}

var registrationToken = regexp.MustCompile(`^[A-Za-z0-9_:.-]+$`)

// Check says what is wrong with a device.
func (c *Channel) Check(d channel.Device) error {
	if len(d.Address) < 32 || len(d.Address) > mostToken || !registrationToken.MatchString(d.Address) {
		return errors.New("the address is not a registration token, as the app got it from Firebase")
	}
	return nil
}

// Send makes one attempt.
func (c *Channel) Send(ctx context.Context, d channel.Device, n channel.Notification) channel.Result {
	if err := c.Check(d); err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "bad_token", Detail: err.Error()}
	}
	body, err := encode(d, n)
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "too_large", Detail: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, c.client.Timeout())
	defer cancel()
	for again := false; ; again = true {
		token, refused := c.access.token(ctx)
		if refused != nil {
			return *refused
		}
		a, lost := c.client.Do(ctx, wire.Request{
			Method: http.MethodPost, URL: c.url, Body: body,
			Header: http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}},
		})
		if lost != nil {
			return lost.Result()
		}
		r := result(a, d, token)
		if r.Reason != unauthenticated || again {
			return r
		}
		c.access.forget(token)
	}
}

// message is FCM's, in the parts that we use.
type message struct {
	Token        string            `json:"token"`
	Notification notification      `json:"notification"`
	Data         map[string]string `json:"data"`
	Android      struct {
		CollapseKey  string `json:"collapse_key,omitempty"`
		TTL          string `json:"ttl"`
		Priority     string `json:"priority"`
		Notification struct {
			Tag string `json:"tag,omitempty"`
		} `json:"notification"`
	} `json:"android"`
	APNS struct {
		Headers map[string]string `json:"headers"`
	} `json:"apns"`
	Webpush struct {
		Headers map[string]string `json:"headers"`
	} `json:"webpush"`
}

type notification struct {
	Title string `json:"title"`
	Body  string `json:"body"`
}

func encode(d channel.Device, n channel.Notification) ([]byte, error) {
	ttl := usualTTL
	if !n.Expires.IsZero() {
		ttl = min(max(time.Until(n.Expires), 0), longestTTL)
	}
	seconds := strconv.FormatInt(int64(ttl/time.Second), 10)
	m := message{Token: d.Address, Notification: notification{wire.Shorten(n.Title, mostTitle), wire.Shorten(n.Body, mostBody)}}
	m.Data = map[string]string{"id": n.MessageID, "count": strconv.Itoa(n.Count)}
	if n.URL != "" && len(n.URL) <= mostURL {
		m.Data["url"] = n.URL
	}
	priority, apple, urgency := "NORMAL", "5", "normal"
	if n.Urgent {
		priority, apple, urgency = "HIGH", "10", "high"
	}
	m.Android.CollapseKey, m.Android.TTL, m.Android.Priority, m.Android.Notification.Tag = n.Collapse, seconds+"s", priority, n.Collapse
	m.APNS.Headers = map[string]string{"apns-priority": apple, "apns-expiration": strconv.FormatInt(time.Now().Add(ttl).Unix(), 10)}
	m.Webpush.Headers = map[string]string{"TTL": seconds, "Urgency": urgency}
	if n.Collapse != "" {
		m.APNS.Headers["apns-collapse-id"], m.Webpush.Headers["Topic"] = n.Collapse, n.Collapse
	}
	for length := mostBody; ; length /= 2 {
		text, err := json.Marshal(map[string]message{"message": m})
		if err != nil {
			return nil, fmt.Errorf("encode the message: %w", err)
		}
		if len(text)-len(d.Address) <= mostPayload {
			return text, nil
		}
		if length == 0 {
			return nil, fmt.Errorf("the message has %d bytes, more than the %d that FCM takes", len(text)-len(d.Address), mostPayload)
		}
		m.Notification.Body = wire.Shorten(m.Notification.Body, length)
	}
}
