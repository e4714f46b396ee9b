// Package policy decides, without touching anything, who is told of what by
// which channel, when, and in which words.
package policy

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Config is what the operator decides.
type Config struct {
	Channels map[string]Channel // by name; at least one
	Routes   []Route            // the first that fits a message counts; none: all channels but sms in one step
	Expiry   time.Duration      // a message older than this is stale; 0 means 24h
	Texts    map[string]Text    // by language, "" for all others; what is empty is as in DefaultText
}

// Channel is what is decided about one channel.
type Channel struct {
	Devices     bool    // readers have devices of it; else there is one call per reader
	PerHour     int     // most notifications to one reader in an hour, on each device; 0: no limit
	PerSecond   float64 // most calls of all instances in a second; 0: no limit
	AnyTime     bool    // also in a reader's quiet hours
	DigestAbove int     // more waiting messages than this are folded into one; 0: never
	Corrections bool    // also tell of a correct when its publish was sent; the channel replaces the one by the other
}

// Route says by which channels messages of some tags go.
type Route struct {
	Tags   []string      // exact, prefix:* or *; one of a message's tags suffices
	Steps  [][]string    // channels; the next step is tried when the one before reached no device
	Urgent bool          // wakes devices, and does not wait for quiet hours, caps and digests
	Expiry time.Duration // 0: that of Config
}

const defaultExpiry = 24 * time.Hour

// smsChannel costs money with every message: it is used only where a route says so.
const smsChannel = "sms"

// Policy is a checked Config. It is safe for concurrent use.
type Policy struct {
	cfg   Config
	texts map[string]*texts
}

// New checks the configuration.
func New(cfg Config) (*Policy, error) {
	var faults []error
	if len(cfg.Channels) == 0 {
		faults = append(faults, errors.New("compensate.channels names none: configure at least one, such as webhook"))
	}
	if cfg.Expiry == 0 {
		cfg.Expiry = defaultExpiry
	}
	if len(cfg.Routes) == 0 {
		cfg.Routes = []Route{{Tags: []string{"*"}, Steps: [][]string{defaultStep(cfg.Channels)}}}
	}
	for i, r := range cfg.Routes {
		if len(r.Tags) == 0 || len(r.Steps) == 0 {
			faults = append(faults, fmt.Errorf("compensate.routes[%d] needs tags and steps, such as {tags: [\"*\"], steps: [[webpush], [sms]]}", i))
		}
		seen := make(map[string]bool)
		for _, name := range slices.Concat(r.Steps...) {
			if _, known := cfg.Channels[name]; !known {
				faults = append(faults, fmt.Errorf("compensate.routes[%d] names the channel %q, which compensate.channels does not configure", i, name))
			}
			if seen[name] {
				faults = append(faults, fmt.Errorf("compensate.routes[%d] names the channel %q twice: keep one", i, name))
			}
			seen[name] = true
		}
	}
	p := &Policy{cfg: cfg}
	var err error
	if p.texts, err = parseTexts(cfg.Texts); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return p, nil
}

func defaultStep(channels map[string]Channel) []string {
	var names []string
	for name := range channels {
		if name != smsChannel || len(channels) == 1 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// Channel gives what is decided about one.
func (p *Policy) Channel(name string) Channel { return p.cfg.Channels[name] }

// Route gives the route of a message with these tags; false: none fits.
func (p *Policy) Route(tags []string) (Route, bool) {
	for _, r := range p.cfg.Routes {
		if slices.ContainsFunc(r.Tags, func(pattern string) bool { return fits(pattern, tags) }) {
			if r.Expiry == 0 {
				r.Expiry = p.cfg.Expiry
			}
			return r, true
		}
	}
	return Route{}, false
}

// fits tells whether one of the tags is what the pattern means.
func fits(pattern string, tags []string) bool {
	if pattern == "*" {
		return true
	}
	prefix, open := strings.CutSuffix(pattern, "*")
	return slices.ContainsFunc(tags, func(tag string) bool {
		return tag == pattern || open && strings.HasSuffix(prefix, ":") && strings.HasPrefix(tag, prefix)
	})
}

// Plan is where a message goes.
type Plan struct {
	Expires time.Time
	Urgent  bool
	Step    int      // how many steps have been tried, this one included
	Targets []Target // empty: Reason says why
	Reason  string   // expired, no_route, retract, no_device
}

// Target is one device of a channel; an empty Device is the reader itself.
type Target struct {
	Channel string
	Device  string
}

// The reasons of a plan without targets.
const (
	ReasonExpired  = "expired"
	ReasonNoRoute  = "no_route"
	ReasonRetract  = "retract"
	ReasonNoDevice = "no_device"
)

// Plan says where a message goes after so many steps of its route were tried.
// devices are the reader's, as channel and id.
func (p *Policy) Plan(m Message, devices []Target, tried int, now time.Time) Plan {
	if m.Action == "retract" {
		return Plan{Expires: m.Time.Add(p.cfg.Expiry), Reason: ReasonRetract}
	}
	route, found := p.Route(m.Tags)
	if !found {
		return Plan{Expires: m.Time.Add(p.cfg.Expiry), Reason: ReasonNoRoute}
	}
	plan := Plan{Expires: m.Time.Add(route.Expiry), Urgent: route.Urgent, Step: tried}
	if !now.Before(plan.Expires) {
		plan.Reason = ReasonExpired
		return plan
	}
	for plan.Step < len(route.Steps) && len(plan.Targets) == 0 {
		for _, name := range route.Steps[plan.Step] {
			if !p.cfg.Channels[name].Devices {
				plan.Targets = append(plan.Targets, Target{Channel: name})
				continue
			}
			for _, d := range devices {
				if d.Channel == name {
					plan.Targets = append(plan.Targets, d)
				}
			}
		}
		plan.Step++
	}
	if len(plan.Targets) == 0 {
		plan.Reason = ReasonNoDevice
	}
	return plan
}
