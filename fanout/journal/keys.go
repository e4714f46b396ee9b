package journal

import "encoding/binary"

// Space is the first byte of a key: whose record it is. The spaces stand in
// one list because one Badger database holds them all, so that what depends on
// an entry is never durable before it.
type Space byte

// The spaces there are, with the package that writes each.
const (
	spaceMeta       Space = '0' // journal: name -> record of the journal itself
	spaceEntries    Space = 'e' // journal: Seq -> entry
	spaceParts      Space = 'p' // journal: Seq, part -> piece of a large entry
	spaceIDs        Space = 'i' // journal: ID -> Seq
	spaceRows       Space = 's' // journal: table and key of a row -> its state, which cdc makes
	spaceSpooled    Space = 'b' // journal: spool, generation -> states of rows that a spooled commit has set
	spaceSpools     Space = 'q' // journal: spool, what the block holds -> entries of a spooled commit; with a part behind: piece of a large one
	spaceExtents    Space = 'z' // journal: first Seq -> the spooled commit whose entries stand from there on
	SpaceReaders    Space = 'r' // fanout: reader's name -> number and sets
	SpaceNames      Space = 'n' // fanout: reader's number -> name
	SpaceRouted     Space = 'w' // fanout: -> Seq up to which everything is routed
	SpaceSeen       Space = 't' // fanout: time -> readers who were seen from then on
	SpaceBackfill   Space = 'f' // fanout: Seq of a backfilled message -> Backfilled
	SpaceBacklog    Space = 'h' // ack: Reader -> backfilled messages that it has not read, and those that it was sent
	SpaceAudience   Space = 'l' // ack: Seq -> who shall have it
	SpaceProgress   Space = 'a' // ack: Seq -> read, handed over, forgotten
	SpaceSends      Space = 'd' // ack: Seq, number -> one attempt: when, to whom
	SpaceEnds       Space = 'm' // ack: Seq, how, step of its age -> whose copies ended then
	SpaceOpen       Space = 'o' // ack: Seq of a message that is not settled
	SpaceUnread     Space = 'u' // ack: Seq of a settled message -> who has not read it
	SpaceSkips      Space = 'v' // ack: level, block of Seqs -> who has not read all of it
	SpaceCancels    Space = 'x' // ack: Seq, Reader -> hand-over to be taken back
	SpaceHistory    Space = 'k' // ack: row, Seq -> a message of that row has an account
	SpaceRetracts   Space = 'y' // ack: Seq of a retraction that is not worked off -> row
	SpaceDepartures Space = 'j' // ack: number -> copies that were given to the sender, and may be in Kafka
	SpaceGateway    Space = 'c' // gateway: kind, name -> revocation; the keys of a JWKS
	SpaceTotals     Space = 'g' // ack: name -> what was ever opened, what has expired
)

// Backfilled is the record of a backfilled message, kept for as long as it is.
type Backfilled struct {
	ID   string   `json:"id"`
	Tags []string `json:"tags"`
}

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

// place is where a record is that may be too large for one value: its key, and
// what the keys of its pieces begin with.
type place struct{ key, stem []byte }

// entryPlace is where the record of an entry is that was not spooled.
func entryPlace(seq Seq) place { return place{spaceEntries.Seq(seq), spaceParts.Seq(seq)} }

// part makes the key of a piece.
func (p place) part(n int) []byte {
	return binary.BigEndian.AppendUint16(append([]byte(nil), p.stem...), uint16(n))
}
