package fanout

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"newswire/fanout/journal"

	"pgregory.net/rapid"
)

// model is the naive audience: every reader's sets in maps, asked one by one.
type model struct {
	follow, mute map[string]map[string]bool // by the reader's name, then tag
	number       map[string]uint32
	last         uint32
	want         map[journal.Seq][]uint32 // who shall have each message
}

func newModel() *model {
	return &model{
		follow: make(map[string]map[string]bool), mute: make(map[string]map[string]bool),
		number: make(map[string]uint32), want: make(map[journal.Seq][]uint32),
	}
}

func (m *model) know(name string) {
	if m.number[name] == 0 {
		m.last++
		m.number[name] = m.last
		m.follow[name], m.mute[name] = make(map[string]bool), make(map[string]bool)
	}
}

func (m *model) forget(name string) {
	delete(m.number, name)
	delete(m.follow, name)
	delete(m.mute, name)
}

func (m *model) publish(seq journal.Seq, tags []string) {
	matching := append([]string{AllTags}, tags...)
	any := func(set map[string]bool) bool {
		return slices.ContainsFunc(matching, func(tag string) bool { return set[tag] })
	}
	m.want[seq] = nil
	for name, number := range m.number {
		if any(m.follow[name]) && !any(m.mute[name]) {
			m.want[seq] = append(m.want[seq], number)
		}
	}
	slices.Sort(m.want[seq])
}

var (
	modelNames = rapid.SampledFrom([]string{"ann", "bob", "cid", "dan"})
	modelTags  = rapid.SliceOfN(rapid.SampledFrom([]string{AllTags, "a", "b", "c", "d", "e"}), 0, 3)
	newsTags   = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 1, 4, rapid.ID)
)

// Whatever readers do between messages, and wherever the program stops and
// starts, each message goes once, in order, to those who the naive model says.
func TestAudienceAsInTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "newswire-fanout")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := newModel()
		var delivered []Delivery
		e := newEngine(t, dir)
		defer func() { e.end() }()
		restart := func() {
			e.synced()
			e.end()
			delivered = append(delivered, e.seen.delivered...)
			e = newEngine(t, dir)
		}
		routing := false
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				tags := newsTags.Draw(t, "tags")
				m.publish(e.publish(tags...), tags)
			},
			"edit": func(t *rapid.T) {
				editBoth(t, e, m, modelNames.Draw(t, "reader"))
			},
			"forget": func(t *rapid.T) {
				name := modelNames.Draw(t, "reader")
				e.forget(name)
				m.forget(name)
			},
			"start or stop routing": func(t *rapid.T) {
				if routing = !routing; !routing {
					e.stopRouter()
					return
				}
				e.synced() // a router is made where nothing is on its way
				e.route()
			},
			"restart": func(t *rapid.T) {
				restart()
				routing = false
			},
		})
		restart()
		e.route()
		e.routed()
		check(t, append(delivered, e.seen.deliveries()...), m)
	})
}

// editBoth makes the same edit in the engine and in the model, and compares
// the sets that come out.
func editBoth(t *rapid.T, e *engine, m *model, name string) {
	edit := Edit{
		Follow: modelTags.Draw(t, "follow"), Unfollow: modelTags.Draw(t, "unfollow"),
		Mute: modelTags.Draw(t, "mute"), Unmute: modelTags.Draw(t, "unmute"),
	}
	m.know(name)
	if rapid.Bool().Draw(t, "replace") {
		set := modelTags.Draw(t, "set")
		edit.SetFollow = &set
		clear(m.follow[name])
		for _, tag := range set {
			m.follow[name][tag] = true
		}
	}
	for _, step := range []struct {
		set  map[string]bool
		tags []string
		on   bool
	}{
		{m.follow[name], edit.Follow, true}, {m.follow[name], edit.Unfollow, false},
		{m.mute[name], edit.Mute, true}, {m.mute[name], edit.Unmute, false},
	} {
		for _, tag := range step.tags {
			if delete(step.set, tag); step.on {
				step.set[tag] = true
			}
		}
	}
	done := e.edit(name, edit)
	follow, mute := slices.Sorted(maps.Keys(m.follow[name])), slices.Sorted(maps.Keys(m.mute[name]))
	if uint32(done.Reader) != m.number[name] || !slices.Equal(done.Sets.Follow, follow) || !slices.Equal(done.Sets.Mute, mute) {
		t.Fatalf("edit of %q gave %+v, want number %d, %q, %q", name, done, m.number[name], follow, mute)
	}
}

func check(t *rapid.T, delivered []Delivery, m *model) {
	seqs := slices.Sorted(maps.Keys(m.want))
	for i, d := range delivered {
		if i >= len(seqs) || d.Seq != seqs[i] {
			t.Fatalf("delivery %d is of %d; the messages are %v", i, d.Seq, seqs)
		}
		if got := fmt.Sprint(d.Audience.ToArray()); got != fmt.Sprint(append([]uint32{}, m.want[d.Seq]...)) {
			t.Fatalf("message %d with tags %q went to %v, want %v", d.Seq, d.Message.Tags, got, m.want[d.Seq])
		}
	}
	if len(delivered) != len(seqs) {
		t.Fatalf("%d messages were delivered, want %d", len(delivered), len(seqs))
	}
}
