//go:build linux

package crowd

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func serverFrame(op byte, payload string) []byte {
	switch n := len(payload); {
	case n < 126:
		return append([]byte{0x80 | op, byte(n)}, payload...)
	case n < 1<<16:
		return append(binary.BigEndian.AppendUint16([]byte{0x80 | op, 126}, uint16(n)), payload...)
	default:
		return append(binary.BigEndian.AppendUint64([]byte{0x80 | op, 127}, uint64(n)), payload...)
	}
}

// Frames of every length are found, however few bytes of them have come.
func TestFramesAreCutWhereverTheStreamBreaks(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 512, 1<<16 - 1, 1 << 16} {
		want := strings.Repeat("x", size)
		wire := serverFrame(opText, want)
		for n := 0; n < len(wire); n += 1 + n/8 {
			if _, _, _, whole := cutFrame(wire[:n]); whole {
				t.Errorf("%d of %d bytes are taken for a frame", n, len(wire))
			}
		}
		op, payload, behind, whole := cutFrame(append(wire, "next"...))
		if !whole || op != opText || string(payload) != want || behind != len("next") {
			t.Errorf("a frame of %d bytes is read as %d, %d bytes, %d behind, %v", size, op, len(payload), behind, whole)
		}
	}
}

// What clients write has a mask, as RFC 6455 wants it.
func TestFramesOfClientsAreMasked(t *testing.T) {
	for _, size := range []int{0, 125, 126, 4000} {
		wire := appendFrame(nil, opText, []byte("a"), bytes.Repeat([]byte("x"), size))
		header := 2 + 4
		if size+1 >= 126 {
			header += 2
		}
		if wire[1]&masked == 0 || len(wire) != header+size+1 {
			t.Errorf("a frame of %d bytes is written as % x… (%d bytes)", size+1, wire[:header], len(wire))
		}
	}
}
