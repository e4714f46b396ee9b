package gateway

import (
	"encoding/binary"
	"encoding/json"

	"newswire/fanout/journal"
)

// frame is one WebSocket frame as it goes over the wire. It is encoded once for
// all sessions that it goes to: read only. That of a message is one attempt.
type frame struct {
	wire    []byte
	attempt journal.Attempt  // Seq 0: no message
	message *journal.Message // nil: no message
	last    bool             // a close frame: nothing follows it
}

// The first byte of a server's frame: final, with its opcode (RFC 6455 §5.2).
// Servers do not mask, so one encoding serves every client.
const (
	opText  byte = 0x81
	opClose byte = 0x88
	opPing  byte = 0x89
	opPong  byte = 0x8A
)

// wireFrame puts a header before payload.
func wireFrame(op byte, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+10)
	b = append(b, op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// messageFrame encodes one attempt of a message.
func messageFrame(m *journal.Message, a journal.Attempt) *frame {
	return &frame{wire: wireFrame(opText, m.AppendFrame(nil, a)), attempt: a, message: m}
}

// appendJSON prints strings, and lists and structures of them, which cannot fail.
func appendJSON(b []byte, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, raw...)
}

// controlFrame encodes one of the structures below.
func controlFrame(v any) *frame { return &frame{wire: wireFrame(opText, appendJSON(nil, v))} }

// pingFrame is what every session is pinged with.
var pingFrame = &frame{wire: wireFrame(opPing, nil)}

func closeFrame(code int, reason string) *frame {
	payload := append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	return &frame{wire: wireFrame(opClose, payload), last: true}
}

// What the server says, beside messages.
type (
	welcomeFrame struct {
		Type         string   `json:"type"`
		Session      string   `json:"session"`
		Reader       string   `json:"reader"`
		Follow       []string `json:"follow"`
		Mute         []string `json:"mute"`
		Resume       string   `json:"resume"`
		AckTimeoutMS int64    `json:"ack_timeout_ms"`
		PingMS       int64    `json:"ping_ms"`
		Expires      string   `json:"expires,omitempty"` // a guest has no token
	}
	subscriptionsFrame struct {
		Type   string   `json:"type"`
		Ref    string   `json:"ref,omitempty"`
		Follow []string `json:"follow"`
		Mute   []string `json:"mute"`
	}
	tokenFrame struct {
		Type    string `json:"type"`
		Ref     string `json:"ref,omitempty"`
		Expires string `json:"expires"`
	}
	pongFrame struct {
		Type string `json:"type"`
		Ref  string `json:"ref,omitempty"`
	}
	errorFrame struct {
		Type    string `json:"type"`
		Ref     string `json:"ref,omitempty"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	byeFrame struct {
		Type         string `json:"type"`
		Code         int    `json:"code"`
		Reason       string `json:"reason"`
		RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
	}
)

// clientFrame is what a client says; unknown fields are ignored.
type clientFrame struct {
	Type   string    `json:"type"`
	Ref    string    `json:"ref"`
	Token  string    `json:"token"`
	After  *string   `json:"after"`
	Follow *[]string `json:"follow"`
	Mute   *[]string `json:"mute"`
	Tags   []string  `json:"tags"`
	ID     string    `json:"id"`
	IDs    []string  `json:"ids"`
	Upto   string    `json:"upto"`
}
