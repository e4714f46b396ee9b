package fanout

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"newswire/fanout/journal"

	"github.com/cespare/xxhash/v2"
)

// AllTags is what a reader follows, or mutes, to follow or mute everything.
const AllTags = "*"

// maxTag is the length of a tag in bytes.
const maxTag = 128

// ErrTag reports a tag that nobody can follow, with the reason.
type ErrTag struct{ Tag, Why string }

func (e *ErrTag) Error() string { return fmt.Sprintf("tag %.140q %s", e.Tag, e.Why) }

// ErrTagLimit reports a change that would leave a reader with too many tags.
type ErrTagLimit struct{ Limit int }

func (e *ErrTagLimit) Error() string {
	return fmt.Sprintf("more than %d tags followed and muted together", e.Limit)
}

// CheckTag tells whether readers may follow or mute a tag: 1 to 128 bytes of
// UTF-8 without control characters. The error is an *ErrTag.
func CheckTag(tag string) error {
	switch {
	case tag == "":
		return &ErrTag{tag, "is empty"}
	case len(tag) > maxTag:
		return &ErrTag{tag, fmt.Sprintf("is longer than %d bytes", maxTag)}
	case !utf8.ValidString(tag):
		return &ErrTag{tag, "is not UTF-8"}
	}
	for _, r := range tag {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return &ErrTag{tag, "has a control character"}
		}
	}
	return nil
}

// shardOf gives the shard that owns a tag. xxhash is not seeded, so a tag keeps
// its shard over restarts.
func shardOf(tag string, shards int) int { return int(xxhash.Sum64String(tag) % uint64(shards)) }

// Sets is what a reader follows and mutes, each sorted and without repeats.
type Sets struct {
	Follow []string
	Mute   []string
}

func (s Sets) equal(other Sets) bool {
	return slices.Equal(s.Follow, other.Follow) && slices.Equal(s.Mute, other.Mute)
}

func (s Sets) clone() Sets { return Sets{slices.Clone(s.Follow), slices.Clone(s.Mute)} }

// Edit is a wish to change a reader's sets.
type Edit struct {
	Permit    *Permit   // of the reader's present token; nil leaves it
	Widen     Widening  // where given, what else Permit comes to
	SetFollow *[]string // where given, replaces what is followed
	SetMute   *[]string
	Follow    []string // added
	Unfollow  []string // dropped
	Mute      []string
	Unmute    []string
}

// Widening adds to a permit what the reader's other sessions may follow. It is
// called under the reader's lock: what it sees no other Edit of the reader
// misses.
type Widening func(journal.Reader, Permit) Permit

// check tells the first tag that is not one.
func (e Edit) check() error {
	lists := [][]string{e.Follow, e.Unfollow, e.Mute, e.Unmute}
	for _, set := range []*[]string{e.SetFollow, e.SetMute} {
		if set != nil {
			lists = append(lists, *set)
		}
	}
	for _, list := range lists {
		for _, tag := range list {
			if err := CheckTag(tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply gives the sets after the edit.
func (e Edit) apply(s Sets) Sets {
	return Sets{
		Follow: edited(s.Follow, e.SetFollow, e.Follow, e.Unfollow),
		Mute:   edited(s.Mute, e.SetMute, e.Mute, e.Unmute),
	}
}

func edited(set []string, replace *[]string, add, drop []string) []string {
	if replace != nil {
		set = *replace
	}
	after := slices.Concat(set, add)
	slices.Sort(after)
	after = slices.Compact(after)
	return slices.DeleteFunc(after, func(tag string) bool { return slices.Contains(drop, tag) })
}

// difference gives what is in after and not in before, and the reverse. Both
// are sorted.
func difference(before, after []string) (added, dropped []string) {
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(before) == 0 || len(after) > 0 && after[0] < before[0]:
			added, after = append(added, after[0]), after[1:]
		case len(after) == 0 || before[0] < after[0]:
			dropped, before = append(dropped, before[0]), before[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return added, dropped
}
