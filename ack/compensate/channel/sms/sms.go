// Package sms sends text messages through any gateway that takes one per HTTP
// request. What the request looks like and how its answer is understood is
// configured; what is not, is understood carefully: an answer that proves
// neither acceptance nor refusal leaves the message in doubt.
//
// A text message cannot be taken back or replaced. So nothing is sent a second
// time here, not even by net/http, and only a gateway that promises to ignore a
// repeat (idempotency_header) may get one from the service.
package sms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// Config is how a gateway is spoken to. Templates are Go's text/template with
// .To, .From, .Text and .ID (the same at every repeat), and the functions json
// (a JSON string) and digits (a number without its plus).
type Config struct {
	URL       string `yaml:"url"`        // of the gateway; required
	Method    string `yaml:"method"`     // POST, PUT, PATCH, or GET with form in the query; empty: POST
	AllowHTTP bool   `yaml:"allow_http"` // url may be http: for a gateway in the same network

	Headers       map[string]string `yaml:"headers"`        // sent as they are
	SecretHeaders map[string]string `yaml:"secret_headers"` // header: file with its value, such as "Bearer …"
	Username      string            `yaml:"username"`       // of Basic authentication; empty: none
	PasswordFile  string            `yaml:"password_file"`  // of Basic authentication

	From     string            `yaml:"from"`     // sender, for the templates
	Body     string            `yaml:"body"`     // template of a JSON body, {"to":{{json .To}},"text":{{json .Text}}}
	Form     map[string]string `yaml:"form"`     // instead of body: a template for each field
	Text     string            `yaml:"text"`     // template of the text, of .Title, .Body and .URL; empty: title, body and address
	Segments int               `yaml:"segments"` // most segments of one message, each of which is paid for; 0 means 3
	Prefixes []string          `yaml:"prefixes"` // only numbers that begin so, +49; empty: all

	SigningSecretFile string `yaml:"signing_secret_file"` // HMAC-SHA256 over "<timestamp>.<body>"; empty: unsigned
	SignatureHeader   string `yaml:"signature_header"`    // holds "sha256=<hex>"; empty: X-Signature
	TimestampHeader   string `yaml:"timestamp_header"`    // holds Unix seconds; empty: X-Timestamp

	IdempotencyHeader string `yaml:"idempotency_header"` // in which the gateway takes an id and ignores a repeat; empty: it does not
	IDField           string `yaml:"id_field"`           // where the answer's JSON has the gateway's id: messages.0.id
	Answers           []Rule `yaml:"answers"`            // what answers mean; the first that fits counts, then what HTTP says

	HTTP wire.Config `yaml:"http"`
}

// Channel sends text messages.
type Channel struct {
	config   Config      // fixed
	header   http.Header // fixed; with the secrets
	secret   []byte      // fixed; of the signature; nil: unsigned
	secrets  []string    // fixed; never to be repeated
	requests *requests   // fixed
	rules    []rule      // fixed
	client   *wire.Client
	now      func() time.Time // fixed
}

// New checks c and reads the secrets.
func New(c Config) (*Channel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	ch := &Channel{config: c, now: time.Now}
	var errs [5]error
	ch.requests, errs[0] = parseTemplates(c)
	ch.rules, errs[1] = parseRules(c.Answers)
	errs[2] = ch.readSecrets(c)
	// HTTP/1, and a connection for each request, tell its fate most surely: Go's
	// transport repeats nothing there, and no gateway closes an idle connection
	// just as it is used again, which would leave a text in doubt. Where a repeat
	// is harmless, so is a connection in use again.
	ch.client, errs[3] = wire.New(c.HTTP, wire.Needs{HTTP1: true, FreshOnly: c.IdempotencyHeader == ""})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return ch, nil
}

// readSecrets makes the headers that all requests have.
func (ch *Channel) readSecrets(c Config) error {
	ch.header = http.Header{}
	for name, value := range c.Headers {
		ch.header.Set(name, value)
	}
	keep := func(setting, file string) ([]byte, error) {
		secret, err := wire.ReadSecret(setting, file)
		ch.secrets = append(ch.secrets, string(secret))
		return secret, err
	}
	for name, file := range c.SecretHeaders {
		value, err := keep("secret_headers."+name, file)
		if err != nil {
			return err
		}
		if strings.ContainsAny(string(value), "\r\n\x00") {
			return errors.New("secret_headers." + name + ": the file holds more than one line")
		}
		ch.header.Set(name, string(value))
	}
	if c.Username != "" {
		password, err := keep("password_file", c.PasswordFile)
		if err != nil {
			return err
		}
		basic := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + string(password)))
		ch.header.Set("Authorization", "Basic "+basic)
		ch.secrets = append(ch.secrets, basic)
	}
	var err error
	if c.SigningSecretFile != "" {
		ch.secret, err = keep("signing_secret_file", c.SigningSecretFile)
	}
	return err
}

// Close ends idle connections.
func (ch *Channel) Close() error { ch.client.Close(); return nil }

// Properties are what the service must know.
func (ch *Channel) Properties() channel.Properties {
	return channel.Properties{
		Dedupes: ch.config.IdempotencyHeader != "", WithDevices: true,
		Title: ch.config.Segments * longSeptets, Body: ch.config.Segments * longSeptets, Timeout: ch.client.Timeout(), AtOnce: ch.client.Connections(),
	}
}

// e164 is an international number: plus, country, at most 15 digits in all.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Check says what is wrong with a number.
func (ch *Channel) Check(d channel.Device) error {
	if len(d.Address) > 16 || !e164.MatchString(d.Address) {
		return errors.New("the address is not an international number: write it as +491701234567")
	}
	for _, p := range ch.config.Prefixes {
		if strings.HasPrefix(d.Address, p) {
			return nil
		}
	}
	if len(ch.config.Prefixes) > 0 {
		return errors.New("numbers of that country are not served here (sms.prefixes)")
	}
	return nil
}

// Send makes one attempt.
func (ch *Channel) Send(ctx context.Context, d channel.Device, n channel.Notification) channel.Result {
	if err := ch.Check(d); err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "bad_number", Detail: err.Error()}
	}
	text, err := ch.requests.wording(n, ch.config.Segments)
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "too_long", Detail: err.Error()}
	}
	r, err := ch.requests.build(fields{To: d.Address, From: ch.config.From, Text: text, ID: messageID(n, d)})
	if err != nil {
		return channel.Result{Outcome: channel.Permanent, Reason: "template", Detail: wire.Words(err.Error(), d.Address), Everybody: true}
	}
	for name, values := range ch.header {
		r.Header[name] = values
	}
	if ch.config.IdempotencyHeader != "" {
		r.Header.Set(ch.config.IdempotencyHeader, messageID(n, d))
	}
	ch.sign(&r)
	a, lost := ch.client.Do(ctx, r)
	if lost != nil {
		return lost.Result()
	}
	return ch.understand(a, append(ch.secrets, d.Address, strings.TrimPrefix(d.Address, "+"))...)
}

// sign proves to the gateway who sends, and when.
func (ch *Channel) sign(r *wire.Request) {
	if ch.secret == nil {
		return
	}
	signed := r.Body
	if _, query, ok := strings.Cut(r.URL, "?"); ok && len(r.Body) == 0 {
		signed = []byte(query)
	}
	timestamp := strconv.FormatInt(ch.now().Unix(), 10)
	mac := hmac.New(sha256.New, ch.secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(signed)
	r.Header.Set(ch.config.TimestampHeader, timestamp)
	r.Header.Set(ch.config.SignatureHeader, "sha256="+hex.EncodeToString(mac.Sum(nil)))
}

// messageID is the same at every repeat, and tells a gateway nothing about the
// reader.
func messageID(n channel.Notification, d channel.Device) string {
	sum := sha256.Sum256([]byte(n.CeID + "\n" + d.Address))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}
