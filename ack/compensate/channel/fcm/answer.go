package fcm

import (
	"net/http"
	"strings"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

const (
	unauthenticated = "unauthenticated"
	notAToken       = "not a valid FCM registration token" // of https://firebase.google.com/docs/cloud-messaging/error-codes
	quotaWait       = time.Minute                          // the least that Google asks of who has used up a quota, in ErrorCode of its reference
)

// failure is Google's error.
type failure struct {
	Error struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Details []struct {
			ErrorCode       string `json:"errorCode"` // of google.firebase.fcm.v1.FcmError
			FieldViolations []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"` // of google.rpc.BadRequest
		} `json:"details"`
	} `json:"error"`
}

// code is FCM's own word where there is one, else Google's.
func (f failure) code() string {
	for _, d := range f.Error.Details {
		if d.ErrorCode != "" {
			return d.ErrorCode
		}
	}
	return f.Error.Status
}

// wrongToken tells whether the request was invalid for the token alone: Google
// says so by the field, or in words with a code that stands for any argument.
func (f failure) wrongToken() bool {
	if strings.Contains(f.Error.Message, notAToken) {
		return true
	}
	for _, d := range f.Error.Details {
		for _, v := range d.FieldViolations {
			if v.Field == "message.token" {
				return true
			}
		}
	}
	return false
}

// meaning is what one of Google's codes is for the service.
type meaning struct {
	outcome   channel.Outcome
	everybody bool // it is the operator's to mend, or Google's; no device is at fault
}

var codes = map[string]meaning{
	"UNREGISTERED":           {channel.Gone, false},
	"SENDER_ID_MISMATCH":     {channel.Permanent, false},
	"INVALID_ARGUMENT":       {channel.Permanent, false},
	"QUOTA_EXCEEDED":         {channel.Throttled, true},
	"RESOURCE_EXHAUSTED":     {channel.Throttled, true},
	"UNAVAILABLE":            {channel.Throttled, true},
	"UNAUTHENTICATED":        {channel.Temporary, true},
	"PERMISSION_DENIED":      {channel.Temporary, true},
	"THIRD_PARTY_AUTH_ERROR": {channel.Temporary, true},
	"NOT_FOUND":              {channel.Temporary, true}, // without UNREGISTERED it is the project that is not there
	"INTERNAL":               {channel.Doubtful, true},
	"DEADLINE_EXCEEDED":      {channel.Doubtful, true},
}

// result understands an answer of FCM's.
func result(a wire.Answer, d channel.Device, token string) channel.Result {
	if a.Status == http.StatusOK {
		var sent struct{ Name string }
		a.JSON(&sent)
		return channel.Result{Outcome: channel.Sent, ProviderID: wire.ProviderID(sent.Name)}
	}
	var f failure
	a.JSON(&f) // without a code, the status tells
	m, known := codes[f.code()]
	reason := a.StatusReason()
	switch {
	case known && f.wrongToken():
		m, reason = meaning{channel.Gone, false}, "invalid_token"
	case known:
		reason = strings.ToLower(f.code())
	default:
		m = byStatus(a.Status)
	}
	if a.Status == http.StatusUnauthorized && !known {
		reason = unauthenticated
	}
	r := a.Result(m.outcome, reason, f.Error.Message, d.Address, token)
	r.Everybody = m.everybody
	if a.Status == http.StatusTooManyRequests && r.RetryAfter == 0 {
		r.RetryAfter = quotaWait
	}
	return r
}

func byStatus(status int) meaning {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return meaning{channel.Throttled, true}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		return meaning{channel.Temporary, true}
	case status == http.StatusRequestTimeout, status >= 500, status < 300:
		return meaning{channel.Doubtful, true}
	default:
		return meaning{channel.Permanent, false}
	}
}
