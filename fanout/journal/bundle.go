package journal

import "encoding/binary"

// placed is a message that has its place and is on its way to the disk.
type placed struct {
	seq     Seq
	message *Message
}

// cost is how many bytes a message writes, and how many records, at most.
func (m *Message) cost() (bytes, ops int) {
	const keys = 1 + 8 + 1 + idBytes + 8 // of the entry; key and value of its ID
	size := m.recordSize()
	pieces := size / maxValue
	return keys + size + (pieces+1)*(1+8+2), pieces + 2
}

// cost is how many bytes a row's state writes, at most.
func (r Row) cost() int { return 1 + len(r.Key) + 1 + binary.MaxVarintLen64 + len(r.State) }

func (it *item) add(p placed) {
	bytes, ops := p.message.cost()
	it.messages = append(it.messages, p)
	it.size += bytes
	it.ops += ops
}

// bundleFrom is how many messages become a bundle that are written together
// and follow one another: blocks as those of a spooled commit, under an extent
// of their own. Two records for each would cost a backlog several times as
// much; a lone commit has no use for more than two. The states of as many rows
// become sets, likewise.
const bundleFrom = 500

// bundleSpool marks the numbers of bundles among those of spools; the rest is
// the first message's Seq.
const bundleSpool = 1 << 63

// placeMessages adds the records of the items' messages to u, and gives the
// extents of those that became bundles.
func (j *Journal) placeMessages(u *Update, items []*item) (made extents, err error) {
	var run []placed
	end := func() error {
		defer func() { run = run[:0] }()
		if len(run) < j.bundleFrom {
			return placeSingly(u, run)
		}
		x, err := bundle(u, run)
		made = append(made, x)
		return err
	}
	for _, it := range items {
		for _, p := range it.messages {
			if n := len(run); n > 0 && (p.seq != run[n-1].seq+1 || p.message.ID.Compare(run[n-1].message.ID) <= 0) {
				// A change of subscriptions stands between, or another history begins.
				if err := end(); err != nil {
					return nil, err
				}
			}
			run = append(run, p)
		}
	}
	return made, end()
}

func placeSingly(u *Update, run []placed) error {
	for _, p := range run {
		record, err := appendMessage(make([]byte, 0, p.message.recordSize()), p.message)
		if err != nil {
			return err
		}
		u.setLarge(entryPlace(p.seq), record)
		u.Set(idKey(p.message.ID), spaceEntries.Seq(p.seq)[1:])
	}
	return nil
}

// bundle adds a bundle's records to u.
func bundle(u *Update, run []placed) (extent, error) {
	var k packer
	for _, p := range run {
		if err := k.add(p.message); err != nil {
			return extent{}, err
		}
	}
	k.cut()
	first, last := run[0], run[len(run)-1]
	x := extent{first: first.seq, count: uint64(len(run)), spool: bundleSpool | uint64(first.seq), from: first.message.ID, through: last.message.ID}
	n := uint64(0)
	for _, p := range k.list {
		b := block{first: n, last: n + p.count - 1, from: p.from}
		u.setLarge(b.at(x.spool), p.value)
		x.blocks = append(x.blocks, b)
		n += p.count
	}
	u.Set(spaceExtents.Seq(x.first), x.encode())
	return x, nil
}
