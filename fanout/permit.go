package fanout

import (
	"slices"
	"strings"

	"newswire/fanout/journal"
)

// Permit is what a reader's token allows it to follow: tags, and prefixes that
// end in ":*". The nil Permit allows everything.
type Permit []string

// Allows tells whether a tag may be followed. AllTags stands for all that the
// permit allows, so it always may.
func (p Permit) Allows(tag string) bool {
	return p == nil || tag == AllTags || slices.ContainsFunc(p, func(one string) bool {
		prefix, ok := permitPrefix(one)
		return one == tag || ok && strings.HasPrefix(tag, prefix)
	})
}

// Covers tells whether a message has a tag that may be followed, or had it
// before the change that the message tells of.
func (p Permit) Covers(m *journal.Message) bool {
	may := func(tag string) bool { return tag != AllTags && p.Allows(tag) }
	return p == nil || slices.ContainsFunc(m.Tags, may) || slices.ContainsFunc(m.Former, may)
}

// Or gives what one of two permits allows.
func (p Permit) Or(other Permit) Permit {
	if p == nil || other == nil {
		return nil
	}
	both := append(append(Permit{}, p...), other...)
	slices.Sort(both)
	return slices.Compact(both)
}

func (p Permit) equal(other Permit) bool {
	return (p == nil) == (other == nil) && slices.Equal(p, other)
}

// permitPrefix gives the prefix that a permit's element allows, if it is one.
func permitPrefix(one string) (prefix string, ok bool) {
	prefix, ok = strings.CutSuffix(one, "*")
	return prefix, ok && strings.HasSuffix(prefix, ":")
}

// prefixMark begins the name under which the shards keep a prefix. No tag has a
// control character.
const prefixMark = "\x00"

// matched gives the names in the shards under which a reader who follows these
// tags is found: the tags that the permit covers, and for AllTags under a
// permit, what it allows. Sorted, without repeats.
func (p Permit) matched(follow []string) []string {
	if p == nil {
		return follow
	}
	var names []string
	for _, tag := range follow {
		if tag != AllTags {
			if p.Allows(tag) {
				names = append(names, tag)
			}
			continue
		}
		for _, one := range p {
			if prefix, ok := permitPrefix(one); ok {
				names = append(names, prefixMark+prefix)
			} else if CheckTag(one) == nil && one != AllTags {
				names = append(names, one)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lookups gives the names under which the followers and muters of a message's
// tags are found.
func lookups(tags ...[]string) []string {
	names := append(make([]string, 0, 6), AllTags)
	for _, list := range tags {
		for _, tag := range list {
			names = append(names, tag)
			for i := range len(tag) {
				if tag[i] == ':' {
					names = append(names, prefixMark+tag[:i+1])
				}
			}
		}
	}
	return names
}
