package sms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// Rule is what some answers mean.
type Rule struct {
	Status    string   `yaml:"status"`    // one, 200, or a range, 200-299; empty: any
	Field     string   `yaml:"field"`     // a place in the answer's JSON, messages.0.status; empty: the status says it all
	Values    []string `yaml:"values"`    // of the field; empty: whatever stands there
	Outcome   string   `yaml:"outcome"`   // sent, gone, throttled, temporary, permanent, doubtful
	Reason    string   `yaml:"reason"`    // one word for metrics; empty: the status
	Everybody bool     `yaml:"everybody"` // not this number's fault, but the gateway's or ours
}

// rule is a Rule that was read.
type rule struct {
	low, high int
	field     []string
	values    []string
	outcome   channel.Outcome
	reason    string
	everybody bool
}

var (
	outcomes = []channel.Outcome{channel.Sent, channel.Gone, channel.Throttled, channel.Temporary, channel.Permanent, channel.Doubtful}
	oneWord  = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)
)

func parseRules(rules []Rule) ([]rule, error) {
	var all []rule
	var faults []error
	for i, r := range rules {
		p, err := parseRule(r)
		if err != nil {
			faults = append(faults, fmt.Errorf("answers[%d]: %w", i, err))
		}
		all = append(all, p)
	}
	return all, errors.Join(faults...)
}

func parseRule(r Rule) (rule, error) {
	p := rule{low: 100, high: 599, values: r.Values, outcome: channel.Outcome(r.Outcome), reason: r.Reason, everybody: r.Everybody}
	if r.Status != "" {
		low, high, span := strings.Cut(r.Status, "-")
		if !span {
			high = low
		}
		var errLow, errHigh error
		p.low, errLow = strconv.Atoi(low)
		p.high, errHigh = strconv.Atoi(high)
		if errLow != nil || errHigh != nil || p.low < 100 || p.high > 599 || p.low > p.high {
			return p, fmt.Errorf("status %q is neither one, 200, nor a range, 200-299", r.Status)
		}
	}
	if r.Field != "" {
		p.field = strings.Split(r.Field, ".")
	} else if len(r.Values) > 0 {
		return p, errors.New("values need a field")
	}
	if !slices.Contains(outcomes, p.outcome) {
		return p, fmt.Errorf("outcome %q is none of sent, gone, throttled, temporary, permanent, doubtful", r.Outcome)
	}
	if r.Reason != "" && !oneWord.MatchString(r.Reason) {
		return p, fmt.Errorf("reason %q is not one word of lower-case letters, digits and underscores", r.Reason)
	}
	return p, nil
}

// understand says what an answer means: by the first rule that fits, else by
// its status. A success that the rules look into, and do not recognise, is none.
func (ch *Channel) understand(a wire.Answer, secrets ...string) channel.Result {
	var body any
	readable := !a.Cut && decode(a.Body, &body)
	m, reason := byStatus(a.Status), a.StatusReason()
	looked := false
	for _, r := range ch.rules {
		if a.Status < r.low || a.Status > r.high {
			continue
		}
		if r.field != nil {
			looked = true
			value, ok := lookUp(body, r.field)
			if !readable || !ok || len(r.values) > 0 && !slices.Contains(r.values, value) {
				continue
			}
		}
		if r.reason != "" {
			reason = r.reason
		}
		return ch.result(a, body, meaning{r.outcome, r.everybody}, reason, secrets)
	}
	if looked && m.outcome == channel.Sent {
		m, reason = meaning{channel.Doubtful, false}, "unknown_answer"
		if !readable {
			reason = "malformed_answer"
		}
	}
	return ch.result(a, body, m, reason, secrets)
}

func (ch *Channel) result(a wire.Answer, body any, m meaning, reason string, secrets []string) channel.Result {
	var r channel.Result
	if m.outcome == channel.Sent {
		r.Outcome = channel.Sent
	} else {
		r = a.Result(m.outcome, reason, string(a.Body), secrets...)
		r.Everybody = m.everybody
	}
	if ch.config.IDField != "" {
		if id, ok := lookUp(body, strings.Split(ch.config.IDField, ".")); ok {
			r.ProviderID = wire.ProviderID(id)
			for _, s := range secrets {
				if len(s) >= 4 && strings.Contains(r.ProviderID, s) {
					r.ProviderID = ""
				}
			}
		}
	}
	return r
}

// meaning is what an answer is for the service.
type meaning struct {
	outcome   channel.Outcome
	everybody bool // not this number's fault
}

// byStatus is what HTTP itself says. A gateway that breaks, or redirects as
// after a success, may have sent the text.
func byStatus(status int) meaning {
	switch {
	case status >= 200 && status < 300:
		return meaning{channel.Sent, false}
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return meaning{channel.Throttled, true}
	case status == http.StatusTemporaryRedirect, status == http.StatusPermanentRedirect,
		status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return meaning{channel.Temporary, true}
	case status < 400, status == http.StatusRequestTimeout, status >= 500:
		return meaning{channel.Doubtful, true}
	default:
		return meaning{channel.Permanent, false}
	}
}

func decode(body []byte, v *any) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return d.Decode(v) == nil && !d.More()
}

// lookUp is the scalar at a place in JSON, as it is written there.
func lookUp(v any, path []string) (string, bool) {
	for _, step := range path {
		switch inner := v.(type) {
		case map[string]any:
			value, ok := inner[step]
			if !ok {
				return "", false
			}
			v = value
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(inner) {
				return "", false
			}
			v = inner[i]
		default:
			return "", false
		}
	}
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case nil:
		return "null", true
	}
	return "", false
}
