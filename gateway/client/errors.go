package client

import (
	"errors"
	"fmt"
	"time"
)

// ErrStop, wrapped by what Config.Token returns, ends Run.
var ErrStop = errors.New("stop")

// CloseError is how the server has ended a connection.
type CloseError struct {
	Code   int    // 4500 to 4999 say stop
	Reason string // such as unauthorized
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("the server has ended the connection: %d %s", e.Code, e.Reason)
}

// Stop tells whether connecting again would not help.
func (e *CloseError) Stop() bool {
	return e.Code >= 4500 && e.Code <= 4999
}

// HandshakeError is a connection that was refused before it was one.
type HandshakeError struct {
	Status     int // of HTTP
	RetryAfter time.Duration
	Detail     string // in the server's words; empty when it said none
}

func (e *HandshakeError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("the connection was refused with HTTP status %d", e.Status)
	}
	return fmt.Sprintf("the connection was refused with HTTP status %d: %s", e.Status, e.Detail)
}

// RefusedError is why a change of the subscriptions was not made.
type RefusedError struct {
	Code    string // such as tag_forbidden
	Message string
}

func (e *RefusedError) Error() string { return e.Code + ": " + e.Message }

// StateChange is a step of a client that runs.
type StateChange struct {
	State  State
	Err    error         // Offline: why
	Retry  time.Duration // Offline: until the next attempt
	Reader string        // Online: as the token names it
	Sets   Subscriptions // Online: as the server keeps them
}
