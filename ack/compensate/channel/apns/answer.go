package apns

import (
	"net/http"
	"regexp"
	"strings"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// Reasons, in our words, that more follows from than an outcome.
const (
	expiredProviderToken = "expired_provider_token"
	badDeviceToken       = "bad_device_token"
	tokenNotForTopic     = "device_token_not_for_topic"
)

// meaning is what one of Apple's reasons is for the service.
type meaning struct {
	outcome   channel.Outcome
	everybody bool // it is the operator's to mend, or Apple's; no device is at fault
}

// reasons are Apple's words. What is not here is understood by its status.
var reasons = map[string]meaning{
	"BadDeviceToken":         {channel.Gone, false},
	"DeviceTokenNotForTopic": {channel.Gone, false},
	"Unregistered":           {channel.Gone, false},
	"ExpiredToken":           {channel.Gone, false},

	"TooManyRequests":             {channel.Throttled, false}, // to this device
	"TooManyProviderTokenUpdates": {channel.Throttled, true},
	"ServiceUnavailable":          {channel.Throttled, true},
	"Shutdown":                    {channel.Throttled, true},

	"ExpiredProviderToken":       {channel.Temporary, true},
	"InvalidProviderToken":       {channel.Temporary, true},
	"MissingProviderToken":       {channel.Temporary, true},
	"UnrelatedKeyIdInToken":      {channel.Temporary, true},
	"BadEnvironmentKeyIdInToken": {channel.Temporary, true},
	"BadCertificate":             {channel.Temporary, true},
	"BadCertificateEnvironment":  {channel.Temporary, true},
	"Forbidden":                  {channel.Temporary, true},
	"BadTopic":                   {channel.Temporary, true},
	"MissingTopic":               {channel.Temporary, true},
	"TopicDisallowed":            {channel.Temporary, true},
	"IdleTimeout":                {channel.Temporary, false},
	"InternalServerError":        {channel.Doubtful, true},
	"PayloadTooLarge":            {channel.Permanent, false},
	"PayloadEmpty":               {channel.Permanent, false},
	"BadCollapseId":              {channel.Permanent, false},
	"BadExpirationDate":          {channel.Permanent, false},
	"BadMessageId":               {channel.Permanent, false},
	"BadPriority":                {channel.Permanent, false},
	"BadPath":                    {channel.Permanent, false},
	"DuplicateHeaders":           {channel.Permanent, false},
	"InvalidPushType":            {channel.Permanent, false},
	"MethodNotAllowed":           {channel.Permanent, false},
	"MissingDeviceToken":         {channel.Permanent, false},
}

// result understands an answer of Apple's.
func result(a wire.Answer, d channel.Device) channel.Result {
	id := wire.ProviderID(a.Header.Get("apns-id"))
	if a.Status == http.StatusOK {
		return channel.Result{Outcome: channel.Sent, ProviderID: id}
	}
	var body struct{ Reason string }
	a.JSON(&body) // without a reason, the status tells
	m, known := reasons[body.Reason]
	reason := a.StatusReason()
	if known {
		reason = words(body.Reason)
	} else {
		m = byStatus(a.Status)
	}
	r := a.Result(m.outcome, reason, body.Reason, d.Address)
	r.Everybody, r.ProviderID = m.everybody, id
	return r
}

func byStatus(status int) meaning {
	switch {
	case status == http.StatusGone:
		return meaning{channel.Gone, false}
	case status == http.StatusTooManyRequests:
		return meaning{channel.Throttled, false}
	case status == http.StatusServiceUnavailable:
		return meaning{channel.Throttled, true}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return meaning{channel.Temporary, true}
	case status == http.StatusRequestTimeout, status >= 500, status < 300:
		return meaning{channel.Doubtful, true}
	default:
		return meaning{channel.Permanent, false}
	}
}

var capital = regexp.MustCompile(`([a-z])([A-Z])`)

// words is one of Apple's reasons as one of ours: bad_device_token.
func words(reason string) string {
	return strings.ToLower(capital.ReplaceAllString(reason, "${1}_${2}"))
}
