package ack

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// When a reader's copy ended is kept on the disk only: one record for all whose
// copies ended alike within one step of the message's age. So memory holds what
// the next flush writes, and an account grows by at most two bytes for a reader
// and some fifty for a step in which anybody's copy ended.

// ending is how a copy ended. A copy that was handed over may be read, too.
type ending byte

// The endings there are; they stand in keys.
const (
	endRead ending = iota + 1
	endHanded
	endForgotten
)

// end is who came to an end within one step.
type end struct {
	how     ending
	step    uint32
	span    span
	readers *roaring.Bitmap
}

// endStep is the shortest step. A step is at most a 64th of the message's age,
// or this long, and never longer than 1<<endSteps of these: 51.2 s.
const (
	endStep  = 50 * time.Millisecond
	endSteps = 10
)

// stepOf gives the beginning of the step that an age is in, in units of endStep.
func stepOf(age time.Duration) uint32 {
	n := uint64(max(age, 0) / endStep)
	width := uint64(1)
	for range endSteps {
		if n < 128*width {
			break
		}
		width *= 2
	}
	return uint32(min(n/width*width, math.MaxUint32))
}

// end notes that a reader's copy has ended.
func (e *entry) end(how ending, r uint32, at time.Time) {
	step := stepOf(at.Sub(e.routed))
	for i := len(e.ends) - 1; i >= 0; i-- {
		if x := &e.ends[i]; x.how == how && x.step == step {
			x.readers.Add(r)
			x.span.note(at)
			return
		}
	}
	e.ends = append(e.ends, end{how, step, span{at, at}, roaring.BitmapOf(r)})
}

func endKey(seq journal.Seq, how ending, step uint32) []byte {
	return binary.BigEndian.AppendUint32(append(journal.SpaceEnds.Seq(seq), byte(how)), step)
}

// storeEnds adds to the records who has ended since they were written, at most
// until the update is full; false when there is more. A step that was flushed
// before has a record already.
func storeEnds(u *journal.Update, e *entry) (whole bool) {
	for ; len(e.ends) > 0; e.ends = e.ends[1:] {
		if u.Full() {
			return false
		}
		x := e.ends[0]
		u.Amend(endKey(e.seq, x.how, x.step), 32+atMost(e.audience), func(present []byte) []byte {
			if was, err := decodeEnd(present); err == nil { // else there is none, or the audit says what it is
				x.span.join(was.span)
				x.readers.Or(was.readers)
			}
			b := appendTime([]byte{recordVersion}, x.span.first)
			b = binary.AppendUvarint(b, uint64(max(x.span.last.UnixMicro()-x.span.first.UnixMicro(), 0)))
			return appendBitmap(b, x.readers)
		})
	}
	e.ends = nil
	return true
}

// atMost bounds the bytes of a record of any part of some readers.
func atMost(readers *roaring.Bitmap) int {
	containers := uint64(1)
	if !readers.IsEmpty() {
		containers = min(readers.GetCardinality(), uint64(readers.Maximum()>>16-readers.Minimum()>>16)+1)
	}
	return int(min(2*readers.GetCardinality(), containers<<13) + 16*containers + 16)
}

// have gives whose copies have ended in one way.
func (e *entry) have(how ending) *roaring.Bitmap {
	switch how {
	case endRead:
		return e.read
	case endHanded:
		return e.handed
	}
	return e.forgotten
}

func decodeEnd(value []byte) (x end, err error) {
	r := decoder{journal.Decoder{Rest: value}}
	r.version()
	x.span.first = r.time()
	x.span.last = x.span.first.Add(time.Duration(r.Uvarint()) * time.Microsecond)
	if x.readers = r.bitmap(); !r.Whole() {
		return end{}, errDamaged
	}
	return x, nil
}

// eachEnd calls each for the records of the messages at some places, in their
// order; those of a message who ended alike come in the order of time.
func eachEnd(v journal.View, from, through journal.Seq, each func(journal.Seq, end)) error {
	last := append(journal.SpaceEnds.Seq(through), 0xff, 0xff, 0xff, 0xff, 0xff)
	return v.Look(journal.SpaceEnds.Seq(from), last, func(key, value []byte) (bool, error) {
		x, err := decodeEnd(value)
		if err == nil && len(key) != 1+8+1+4 {
			err = errDamaged
		}
		if err != nil {
			return false, fmt.Errorf("ledger entry %d, end %x: %w", journal.SeqOf(key), key[9:], err)
		}
		x.how = ending(key[9])
		each(journal.SeqOf(key), x)
		return true, nil
	})
}
