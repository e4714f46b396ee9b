package journal

// placed is a message that has its place and is on its way to the disk.
type placed struct {
	seq    Seq
	id     ID
	record []byte
}

// cost is how many bytes it writes, and how many records, at most.
func (p placed) cost() (bytes, ops int) {
	const keys = 1 + 8 + 1 + idBytes + 8 // of the entry; key and value of its ID
	pieces := len(p.record) / maxValue
	return keys + len(p.record) + (pieces+1)*(1+8+2), pieces + 2
}

func (it *item) add(p placed) {
	bytes, ops := p.cost()
	it.messages = append(it.messages, p)
	it.size += bytes
	it.ops += ops
}

// bundleFrom is how many messages become a bundle that are written together
// and follow one another: blocks as those of a spooled commit, under an extent
// of their own. Two records for each would cost a backlog several times as
// much; a lone commit has no use for more than two.
const bundleFrom = 500

// bundleSpool marks the numbers of bundles among those of spools; the rest is
// the first message's Seq.
const bundleSpool = 1 << 63

// place adds the records of the items' messages to u, and gives the extents of
// those that became bundles.
func (j *Journal) place(u *Update, items []*item) (made extents) {
	var run []placed
	end := func() {
		if len(run) >= j.bundleFrom {
			made = append(made, bundle(u, run))
		} else {
			for _, p := range run {
				u.setLarge(entryPlace(p.seq), p.record)
				u.Set(idKey(p.id), spaceEntries.Seq(p.seq)[1:])
			}
		}
		run = run[:0]
	}
	for _, it := range items {
		for _, p := range it.messages {
			if n := len(run); n > 0 && (p.seq != run[n-1].seq+1 || p.id.Compare(run[n-1].id) <= 0) {
				end() // a change of subscriptions stands between, or another history begins
			}
			run = append(run, p)
		}
	}
	end()
	return made
}

// bundle adds a bundle's records to u.
func bundle(u *Update, run []placed) extent {
	var k packer
	for _, p := range run {
		k.add(p.id, p.record)
	}
	k.cut()
	first, last := run[0], run[len(run)-1]
	x := extent{first: first.seq, count: uint64(len(run)), spool: bundleSpool | uint64(first.seq), from: first.id, through: last.id}
	n := uint64(0)
	for _, p := range k.list {
		b := block{first: n, last: n + p.count - 1, from: p.from}
		u.setLarge(b.at(x.spool), p.value)
		x.blocks = append(x.blocks, b)
		n += p.count
	}
	u.Set(spaceExtents.Seq(x.first), x.encode())
	return x
}
