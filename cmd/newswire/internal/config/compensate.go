package config

import (
	"time"

	"newswire/ack/compensate/channel/apns"
	"newswire/ack/compensate/channel/fcm"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/webhook"
	"newswire/ack/compensate/channel/webpush"
	"newswire/ack/compensate/policy"
)

// Compensate is the service that reaches readers who were away.
type Compensate struct {
	Listen    string             `yaml:"listen"` // devices API; default :8090
	Admin     string             `yaml:"admin"`  // default 127.0.0.1:8091
	Group     string             `yaml:"group"`  // consumer group; default newswire-compensate
	Postgres  CompensatePostgres `yaml:"postgres"`
	Channels  *Channels          `yaml:"channels"`   // those that are used; the service needs at least one
	Routes    []Route            `yaml:"routes"`     // the first that fits a message counts; none: all channels at once, but never sms
	Texts     map[string]Text    `yaml:"texts"`      // by language, default for all others
	Expiry    time.Duration      `yaml:"expiry"`     // a message older than that is stale; default 24h
	Backlog   int                `yaml:"backlog"`    // deliveries without outcome beyond which Kafka keeps the rest; default 1000000
	Retention time.Duration      `yaml:"retention"`  // of receipts: longer than the topic's; default 168h
	DeviceTTL time.Duration      `yaml:"device_ttl"` // a device not registered again, and not reached, for so long is deleted; default 6480h, 0s: never
	Lease     time.Duration      `yaml:"lease"`      // an instance not seen for so long is taken for dead; default 15s
}

// CompensatePostgres is where devices and receipts are kept.
type CompensatePostgres struct {
	DSN     string `yaml:"dsn"`
	DSNFile string `yaml:"dsn_file,omitempty"` // instead of DSN: the file that holds it
}

// Channels are the ways to a reader.
type Channels struct {
	WebPush *WebPush `yaml:"webpush,omitempty"`
	APNs    *APNs    `yaml:"apns,omitempty"`
	FCM     *FCM     `yaml:"fcm,omitempty"`
	SMS     *SMS     `yaml:"sms,omitempty"`
	Webhook *Webhook `yaml:"webhook,omitempty"`
}

// WebPush reaches browsers.
type WebPush struct {
	webpush.Config `yaml:",inline"`
	Policy         ChannelPolicy `yaml:"policy"`
}

// APNs reaches apps on Apple's devices.
type APNs struct {
	apns.Config `yaml:",inline"`
	Policy      ChannelPolicy `yaml:"policy"`
}

// FCM reaches apps on Android.
type FCM struct {
	fcm.Config `yaml:",inline"`
	Policy     ChannelPolicy `yaml:"policy"`
}

// SMS reaches telephones.
type SMS struct {
	sms.Config `yaml:",inline"`
	Policy     ChannelPolicy `yaml:"policy"`
}

// Webhook reaches the site's own backend.
type Webhook struct {
	webhook.Config `yaml:",inline"`
	Policy         ChannelPolicy `yaml:"policy"`
}

// ChannelPolicy is what is decided about one channel.
type ChannelPolicy struct {
	PerHour     int           `yaml:"per_hour"`     // most notifications to one reader in an hour; 0: no limit
	PerSecond   float64       `yaml:"per_second"`   // most calls in a second, of all instances; 0: no limit
	Concurrency int           `yaml:"concurrency"`  // calls at the same time; 0: 32
	AnyTime     *bool         `yaml:"any_time"`     // also in a reader's quiet hours; default only for webhook
	DigestAbove int           `yaml:"digest_above"` // more waiting messages than this become one notification; 0: never
	Corrections *bool         `yaml:"corrections"`  // also a correct of what was sent; default yes, but for sms
	BackendOnly *bool         `yaml:"backend_only"` // only the site registers devices; default only for sms
	Trip        int           `yaml:"trip"`         // faults of the provider in a row that stop the channel; 0: 5
	Rest        time.Duration `yaml:"rest"`         // until it is tried again; 0s: 10s
}

// Route says by which channels messages of some tags go.
type Route struct {
	Tags   []string      `yaml:"tags"`   // exact, prefix:* or *
	Steps  [][]string    `yaml:"steps"`  // channels; the next step is tried when the one before reached no device
	Urgent bool          `yaml:"urgent"` // waits for no quiet hours, caps and digests
	Expiry time.Duration `yaml:"expiry"` // 0s: compensate.expiry
}

// Text is how one language words a notification; what is empty is as by default.
type Text struct {
	Title       string `yaml:"title,omitempty"`
	Body        string `yaml:"body,omitempty"`
	URL         string `yaml:"url,omitempty"`
	DigestTitle string `yaml:"digest_title,omitempty"`
	DigestBody  string `yaml:"digest_body,omitempty"`
	DigestURL   string `yaml:"digest_url,omitempty"`
}

func defaultCompensate() Compensate {
	return Compensate{
		Listen: ":8090", Admin: "127.0.0.1:8091", Group: "newswire-compensate", Channels: &Channels{},
		Expiry: 24 * time.Hour, Backlog: 1_000_000, Retention: 168 * time.Hour, Lease: 15 * time.Second,
		DeviceTTL: 270 * 24 * time.Hour, // as long as FCM keeps a token of a device that it does not hear of
	}
}

// ConfiguredChannel is one that the configuration names.
type ConfiguredChannel struct {
	Name   string
	Policy ChannelPolicy
	Check  func() error // what is wrong with its own settings, without opening a file
}

// Configured lists the channels that are configured, in the order of the file.
func (c *Channels) Configured() (all []ConfiguredChannel) {
	if c == nil {
		return nil
	}
	if c.WebPush != nil {
		all = append(all, ConfiguredChannel{"webpush", c.WebPush.Policy, c.WebPush.Validate})
	}
	if c.APNs != nil {
		all = append(all, ConfiguredChannel{"apns", c.APNs.Policy, c.APNs.Validate})
	}
	if c.FCM != nil {
		all = append(all, ConfiguredChannel{"fcm", c.FCM.Policy, c.FCM.Validate})
	}
	if c.SMS != nil {
		all = append(all, ConfiguredChannel{"sms", c.SMS.Policy, c.SMS.Validate})
	}
	if c.Webhook != nil {
		all = append(all, ConfiguredChannel{"webhook", c.Webhook.Policy, c.Webhook.Validate})
	}
	return all
}

// Rules is the policy in the service's terms.
func (m *Compensate) Rules() policy.Config {
	rules := policy.Config{Channels: make(map[string]policy.Channel), Expiry: m.Expiry, Texts: make(map[string]policy.Text)}
	for _, ch := range m.Channels.Configured() {
		p := ch.Policy
		rules.Channels[ch.Name] = policy.Channel{
			PerHour: p.PerHour, PerSecond: p.PerSecond, DigestAbove: p.DigestAbove,
			AnyTime: given(p.AnyTime, ch.Name == "webhook"), Corrections: given(p.Corrections, ch.Name != "sms"),
		}
	}
	for _, r := range m.Routes {
		rules.Routes = append(rules.Routes, policy.Route(r))
	}
	for language, t := range m.Texts {
		if language == "default" {
			language = ""
		}
		rules.Texts[language] = policy.Text(t)
	}
	return rules
}

// OnlyBackend tells whether readers may not register devices of the channel.
func (c ConfiguredChannel) OnlyBackend() bool { return given(c.Policy.BackendOnly, c.Name == "sms") }

func given(value *bool, otherwise bool) bool {
	if value != nil {
		return *value
	}
	return otherwise
}

func (m *Compensate) load(c *checker) {
	if m.Postgres.DSNFile == "" {
		return
	}
	if m.Postgres.DSN != "" {
		c.fault("compensate.postgres.dsn_file", "and compensate.postgres.dsn are both set: keep one of them")
		return
	}
	if text, ok := c.readFile("compensate.postgres.dsn_file", m.Postgres.DSNFile); ok {
		m.Postgres.DSN = string(text)
	}
}

func (m *Compensate) check(c *checker) {
	c.listenAddress("compensate.listen", m.Listen)
	c.listenAddress("compensate.admin", m.Admin)
	c.ownPort("compensate.admin", m.Admin, "compensate.listen", m.Listen)
	c.required("compensate.group", m.Group, "name the consumer group, such as newswire-compensate")
	if m.Postgres.DSN != "" {
		if reason := dsnFault(m.Postgres.DSN); reason != "" {
			c.fault("compensate.postgres.dsn", "is not a connection string: %s", reason)
		}
	}
	c.atLeast("compensate.expiry", m.Expiry, time.Second, "24h")
	c.atLeast("compensate.retention", m.Retention, time.Minute, "168h")
	c.atLeast("compensate.lease", m.Lease, time.Second, "15s")
	if m.DeviceTTL != 0 {
		c.atLeast("compensate.device_ttl", m.DeviceTTL, 24*time.Hour, "6480h, or 0s for never")
	}
	if m.Backlog < 1 {
		c.fault("compensate.backlog", "is %d: write 1 or more, such as 1000000", m.Backlog)
	}
	m.checkChannels(c)
}

// atLeast wants a duration of some length.
func (c *checker) atLeast(key string, d, least time.Duration, example string) {
	if d < least {
		c.fault(key, "is %s: write at least %s, such as %s", d, least, example)
	}
}

func (m *Compensate) checkChannels(c *checker) {
	configured := m.Channels.Configured()
	for _, ch := range configured {
		key := "compensate.channels." + ch.Name
		if err := ch.Check(); err != nil {
			for _, part := range parts(err) {
				c.fault(key, "is not usable: %s", oneLine(part))
				c.unreadable = c.unreadable[:max(0, len(c.unreadable)-1)] // each part is a fault of its own
			}
		}
		p := ch.Policy
		if p.PerHour < 0 || p.PerSecond < 0 || p.Concurrency < 0 || p.DigestAbove < 0 || p.Trip < 0 || p.Rest < 0 {
			c.fault(key+".policy", "has a negative number: write 0 for the default, or more")
		}
	}
	if len(configured) == 0 && len(m.Routes) == 0 {
		return // the service is not used
	}
	if _, err := policy.New(m.Rules()); err != nil {
		c.faults = append(c.faults, parts(err)...)
	}
}

// parts are the faults that an error joins.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, part := range joined.Unwrap() {
			all = append(all, parts(part)...)
		}
		return all
	}
	return []error{err}
}
