package gateway

// ending is how a session ends: the close code, and the reason that stands in
// the close frame, the bye and the metric.
type ending struct {
	code   int
	reason string
}

// The endings there are. 4000 to 4499 mean "reconnect", 4500 to 4999 "stop".
var (
	endLeft            = ending{1000, "client_left"}
	endForgotten       = ending{1000, "forgotten"}
	endLost            = ending{1006, "connection_lost"}
	endTooBig          = ending{1009, "frame_too_big"}
	endFault           = ending{1011, "internal"}
	endDraining        = ending{1012, "draining"}
	endTokenExpired    = ending{4001, "token_expired"}
	endHelloTimeout    = ending{4008, "hello_timeout"}
	endSlowReader      = ending{4009, "slow_reader"}
	endSilent          = ending{4010, "silent"}
	endRateLimited     = ending{4029, "rate_limited"}
	endBadFrame        = ending{4500, "bad_frame"}
	endUnauthorized    = ending{4501, "unauthorized"}
	endForbidden       = ending{4503, "forbidden"}
	endTooManySessions = ending{4529, "too_many_sessions"}
)

var endings = []ending{
	endLeft, endForgotten, endLost, endTooBig, endFault, endDraining, endTokenExpired, endHelloTimeout,
	endSlowReader, endSilent, endRateLimited, endBadFrame, endUnauthorized, endForbidden, endTooManySessions,
}
