//go:build linux

package crowd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// Opcodes and bits of RFC 6455.
const (
	opText    = 1
	opClose   = 8
	opPing    = 9
	opPong    = 10
	final     = 0x80
	masked    = 0x80
	twoMore   = 126 // bytes of length
	eightMore = 127
)

// cutFrame takes the first frame of a server off data; behind is how many bytes
// follow it.
func cutFrame(data []byte) (op byte, payload []byte, behind int, whole bool) {
	if len(data) < 2 {
		return 0, nil, 0, false
	}
	header, size := 2, int(data[1])
	switch size {
	case twoMore:
		if header = 4; len(data) >= header {
			size = int(binary.BigEndian.Uint16(data[2:]))
		}
	case eightMore:
		if header = 10; len(data) >= header {
			size = int(binary.BigEndian.Uint64(data[2:]))
		}
	}
	if len(data) < header || len(data)-header < size {
		return 0, nil, 0, false
	}
	return data[0] &^ final, data[header : header+size], len(data) - header - size, true
}

// appendFrame adds a frame of a client, with a mask of zeros.
func appendFrame(wire []byte, op byte, payload ...[]byte) []byte {
	size := 0
	for _, part := range payload {
		size += len(part)
	}
	if size < twoMore {
		wire = append(wire, final|op, masked|byte(size))
	} else {
		wire = binary.BigEndian.AppendUint16(append(wire, final|op, masked|twoMore), uint16(size))
	}
	wire = append(wire, 0, 0, 0, 0)
	for _, part := range payload {
		wire = append(wire, part...)
	}
	return wire
}

// say writes a frame.
func (c *Crowd) say(i int, op byte, payload ...[]byte) {
	c.scratch = appendFrame(c.scratch[:0], op, payload...)
	c.write(i, c.scratch)
}

// upgraded says hello, where the server wants one.
func (c *Crowd) upgraded(i int) {
	r := &c.readers[i]
	switch {
	case c.cfg.Hello == nil:
		c.arrived(i)
	case r.known:
		r.state = greeting
		c.say(i, opText, c.cfg.Back(i, r.last[:]))
	default:
		r.state = greeting
		c.say(i, opText, c.cfg.Hello(i))
	}
}

func (c *Crowd) arrived(i int) {
	c.readers[i].state = up
	c.busy--
	c.Up++
}

var (
	aMessage = []byte(`{"type":"message"`)
	aWelcome = []byte(`{"type":"welcome"`)
	anError  = []byte(`{"type":"error"`)
	complete = []byte(`"resume":"complete"`)
	idField  = []byte(`"id":"`)

	ackBegins = []byte(`{"type":"ack","id":"`)
	ackEnds   = []byte(`"}`)
)

func (c *Crowd) frame(i int, op byte, payload []byte) {
	switch {
	case op == opPing:
		c.say(i, opPong, payload)
	case op == opClose:
		c.gone(i)
	case op != opText:
		c.failed = fmt.Errorf("reader %d got a frame of kind %d", i, op)
	case bytes.HasPrefix(payload, aMessage):
		c.message(i, payload)
	case bytes.HasPrefix(payload, aWelcome):
		c.arrived(i)
		if bytes.Contains(payload, complete) {
			c.Resumed++
		}
	case bytes.HasPrefix(payload, anError):
		c.failed = fmt.Errorf("reader %d is told: %.200q", i, payload)
	}
}

func (c *Crowd) message(i int, payload []byte) {
	n, at, ok := c.cfg.Tail(payload)
	id := bytes.Index(payload[:min(len(payload), 80)], idField)
	if !ok || id < 0 {
		c.failed = fmt.Errorf("reader %d got what is no message of this benchmark: %.200q", i, payload)
		return
	}
	r := &c.readers[i]
	copy(r.last[:], payload[id+len(idField):])
	r.known = true
	if n < r.next {
		c.Repeated++
	} else {
		c.Missing += n - r.next
		c.Delivered++
		r.next = n + 1
		if k := n - c.first; k >= 0 && k < len(c.latencies) {
			c.latencies[k] = append(c.latencies[k], time.Duration(time.Now().UnixNano()-at))
		}
	}
	if c.cfg.Ack {
		c.say(i, opText, ackBegins, r.last[:], ackEnds)
	}
}
