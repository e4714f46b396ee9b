package checker

// rest is I6, I7 and I8.
func (c *check) rest() {
	r := c.Rest
	if r.Pairs > 0 || r.Backlog > 0 {
		c.report(Live, "at the end %d pairs are not settled, %d wait for Kafka", r.Pairs, r.Backlog)
	}
	if r.Complaints != "" {
		c.report(Loud, "when everything had healed the engine said: %s", r.Complaints)
	}
	for _, b := range []struct {
		what       string
		have, most int
	}{
		{"goroutines", r.Goroutines, r.Most.Goroutines},
		{"open files", r.Files, r.Most.Files},
		{"bytes of memory", r.Memory, r.Most.Memory},
		{"bytes of the server's log kept by the slot", r.Retained, r.Most.Retained},
	} {
		if b.most > 0 && b.have > b.most {
			c.report(Bounded, "at rest there are %d %s, want %d at most", b.have, b.what, b.most)
		}
	}
	for _, o := range c.Outages {
		if o.Said == "" {
			c.report(Loud, "%s, and the engine said nothing", o.What)
		}
	}
}

// audit holds the engine's own account against the run's.
func (c *check) audit() {
	a := c.Rest.Audit
	if a == nil {
		return
	}
	if !a.AddsUp || a.Acked+a.Handed+a.Pending+a.Forgotten != a.Pairs {
		c.report(Audited, "it does not add up: %+v", *a)
	}
	if a.Messages != len(c.order.all) {
		c.report(Audited, "it counts %d messages, the database committed %d", a.Messages, len(c.order.all))
	}
	if off := a.Pairs - c.pairs; max(off, -off) > c.unsure {
		c.report(Audited, "it counts %d pairs of message and reader, there are %d, or %d more or less", a.Pairs, c.pairs, c.unsure)
	}
	if a.Forgotten > c.open+c.unsure || a.Forgotten < c.lost-c.unsure {
		c.report(Audited, "it counts %d pairs as forgotten; readers who left had between %d and %d open", a.Forgotten, c.lost, c.open)
	}
	handed, doubted := 0, 0 // of those some were acknowledged while nobody knew whether Kafka has them
	for n := range c.people {
		p := &c.people[n]
		handed += len(p.handed)
		for id := range p.handed {
			if p.gone[id].Cause == "acked" {
				doubted++
			}
		}
	}
	if a.Handed > handed || a.Handed < handed-doubted || c.Faultless && a.Handed != handed {
		c.report(Audited, "it counts %d pairs as handed over, Kafka has %d, of which %d were acknowledged later", a.Handed, handed, doubted)
	}
}
