package journal

import "encoding/binary"

// Space is the first byte of a key: whose record it is. The spaces stand in
// one list because one Badger database holds them all, so that what depends on
// an entry is never durable before it.
type Space byte

// The spaces there are, with the package that writes each.
const (
	spaceMeta     Space = '0' // journal: name -> record of the journal itself
	spaceEntries  Space = 'e' // journal: Seq -> entry
	spaceParts    Space = 'p' // journal: Seq, part -> piece of a large entry
	spaceIDs      Space = 'i' // journal: ID -> Seq
	spaceRows     Space = 's' // journal: table and key of a row -> its state, which cdc makes
	spaceSpools   Space = 'q' // journal: spool, number -> entry of a spooled commit; with a part behind: piece of a large one
	spaceExtents  Space = 'z' // journal: first Seq -> the spooled commit whose entries stand from there on
	SpaceReaders  Space = 'r' // fanout: reader's name -> number and sets
	SpaceNames    Space = 'n' // fanout: reader's number -> name
	SpaceRouted   Space = 'w' // fanout: -> Seq up to which everything is routed
	SpaceAudience Space = 'l' // ack: Seq -> who shall have it
	SpaceProgress Space = 'a' // ack: Seq -> sent, read, handed over
	SpaceOpen     Space = 'o' // ack: Seq of a message that is not settled
	SpaceUnread   Space = 'u' // ack: Seq of a settled message -> who has not read it
	SpaceCancels  Space = 'x' // ack: Seq, Reader -> hand-over to be taken back
)

// Key makes a key of a space from raw bytes.
func (s Space) Key(rest ...byte) []byte { return append([]byte{byte(s)}, rest...) }

// Seq makes the key of a position; keys sort as positions do.
func (s Space) Seq(seq Seq) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(s)}, uint64(seq))
}

// Reader makes the key of a reader's number.
func (s Space) Reader(r Reader) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(s)}, uint32(r))
}

// SeqOf reads the position out of a key that Space.Seq made, or that begins
// with one.
func SeqOf(key []byte) Seq { return Seq(binary.BigEndian.Uint64(key[1:])) }

func idKey(id ID) []byte { return id.appendTo([]byte{byte(spaceIDs)}) }

// spot is where an entry's record is: under its Seq, or under its number in a
// spooled commit.
type spot struct {
	spool uint64 // 0: n is a Seq
	n     uint64
}

// key makes the key of the entry's record.
func (at spot) key() []byte {
	if at.spool == 0 {
		return spaceEntries.Seq(Seq(at.n))
	}
	return binary.BigEndian.AppendUint64(spaceSpools.Seq(Seq(at.spool)), at.n)
}

// part makes the key of a piece of a large record.
func (at spot) part(part int) []byte {
	if at.spool == 0 {
		return binary.BigEndian.AppendUint16(spaceParts.Seq(Seq(at.n)), uint16(part))
	}
	return binary.BigEndian.AppendUint16(at.key(), uint16(part))
}

// spotOf reads the key of an entry's record; whole is false for that of a piece.
func spotOf(key []byte) (at spot, whole bool) {
	if key[0] == byte(spaceEntries) {
		return spot{0, uint64(SeqOf(key))}, true
	}
	return spot{uint64(SeqOf(key)), binary.BigEndian.Uint64(key[9:])}, len(key) == 17
}
