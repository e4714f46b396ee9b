package wire

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"newswire/ack/compensate/channel"
)

const (
	mostDetail     = 200 // bytes of a provider's words
	mostProviderID = 128
	longestWait    = 24 * time.Hour // nobody is told to come back later than this
)

// Result is what to say to the service about an answer. The provider's words
// are made of its answer's body, less what may be a secret or an address.
func (a Answer) Result(o channel.Outcome, reason string, words string, secrets ...string) channel.Result {
	return channel.Result{Outcome: o, Reason: reason, Detail: Words(words, secrets...), RetryAfter: a.RetryAfter(time.Now())}
}

// StatusReason names an answer that nothing more is known about: http_503.
func (a Answer) StatusReason() string { return "http_" + strconv.Itoa(a.Status) }

// JSON decodes the body, if it is whole.
func (a Answer) JSON(v any) bool {
	return !a.Cut && json.Unmarshal(a.Body, v) == nil
}

// RetryAfter is how long the provider told to wait: seconds, or a date; 0 when
// it did not, or not in these terms.
func (a Answer) RetryAfter(now time.Time) time.Duration {
	v := strings.TrimSpace(a.Header.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(longestWait/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), longestWait)
	}
	return 0
}

// opaque is what looks like a number to call or like a token: nothing a person
// needs in order to understand a provider's complaint.
var opaque = regexp.MustCompile(`\+?\d[\d ()./-]{5,}\d|[A-Za-z0-9_\-+/=%:.@?&#~]{25,}`)

// Words makes a provider's words fit for logs and headers: one line of at most
// 200 bytes, without the secrets and without anything that looks like one.
func Words(text string, secrets ...string) string {
	text = clip(text, 4<<10) // the work is bounded, too
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	text = opaque.ReplaceAllString(text, "…")
	return clip(line(text), mostDetail)
}

// ProviderID makes a provider's name for a notification fit to be kept.
func ProviderID(id string) string { return clip(line(id), mostProviderID) }

// line is text on one line: words a blank apart, nothing unprintable.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// clip is the beginning of s, whole characters of at most n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Shorten is text in at most n characters, with an ellipsis for what is left
// out.
func Shorten(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	if n <= 0 {
		return ""
	}
	runes := []rune(text)
	return strings.TrimRightFunc(string(runes[:n-1]), unicode.IsSpace) + "…"
}
