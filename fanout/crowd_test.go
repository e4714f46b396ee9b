package fanout

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"newswire/fanout/journal"
)

// What guests are matched to is what their sets say at that place, live and
// when it is looked up later.
func TestCrowdAsInTheModel(t *testing.T) {
	tags := []string{"a", "b", "c", "d:e", AllTags}
	rng := rand.New(rand.NewPCG(1, 2))
	some := func() (list []string) {
		for _, tag := range tags {
			if rng.IntN(4) == 0 {
				list = append(list, tag)
			}
		}
		return list
	}
	type sent struct {
		m      *journal.Message
		guests []uint32
	}
	c := NewCrowd(0)
	sets := make(map[journal.Reader]Sets)   // of those who are here
	joined := make(map[journal.Reader]int)  // how many messages there were when it came
	changes := make(map[journal.Reader]int) // since it came
	var messages []sent
	for range 4000 {
		switch rng.IntN(5) {
		case 0:
			if len(sets) < 20 {
				number := c.Number()
				edited, err := c.Edit(number, Edit{Follow: some(), Mute: some()}, 0)
				if err != nil || number < FirstGuest {
					t.Fatal(number, err)
				}
				sets[number], joined[number], changes[number] = edited.Sets, len(messages), 0
			}
		case 1:
			for number := range sets {
				if rng.IntN(4) == 0 {
					c.Leave(number)
					delete(sets, number)
				} else if changes[number]++; changes[number] < maxPast {
					e := Edit{Follow: some(), Unfollow: some(), Mute: some(), Unmute: some()}
					edited, err := c.Edit(number, e, 0)
					if want := e.apply(sets[number]); err != nil || !edited.Sets.equal(want) || edited.Changed == want.equal(sets[number]) {
						t.Fatalf("after %+v the sets are %+v (%v), want %+v", e, edited, err, want)
					}
					sets[number] = edited.Sets
				}
				break
			}
		default:
			m := &journal.Message{Tags: some(), Former: some()}
			var want []uint32
			for number, s := range sets {
				if s.match(m) {
					want = append(want, uint32(number))
				}
			}
			slices.Sort(want)
			var got []uint32
			if found := c.Match(journal.Seq(len(messages)+1), m); found != nil {
				got = found.ToArray()
			}
			if !slices.Equal(got, want) {
				t.Fatalf("message %v goes to %v, want %v", m.Tags, got, want)
			}
			messages = append(messages, sent{m, want})
		}
	}
	for number := range sets {
		for i := joined[number]; i < len(messages) && changes[number] < maxPast; i++ {
			seq := journal.Seq(i + 1)
			if got, want := c.Wants(number, seq, messages[i].m), slices.Contains(messages[i].guests, uint32(number)); got != want {
				t.Errorf("later guest %d wants message %d: %t, and at the time it was %t", number, seq, got, want)
			}
		}
	}
	if int(c.At()) != len(messages) {
		t.Errorf("matched up to %d, want %d", c.At(), len(messages))
	}
	for number := range sets {
		c.Leave(number)
		if c.Wants(number, 1, messages[0].m) {
			t.Error("who has left wants messages")
		}
	}
	if n := len(c.index.tags); n != 0 || c.Match(9999, &journal.Message{Tags: tags}) != nil {
		t.Errorf("when all have left, %d tags are kept", n)
	}
}

func TestGuestsAreBoundAsReadersAre(t *testing.T) {
	c := NewCrowd(7)
	number := c.Number()
	var badTag *ErrTag
	var tooMany *ErrTagLimit
	if _, err := c.Edit(number, Edit{Follow: []string{"a", ""}}, 3); !errors.As(err, &badTag) {
		t.Errorf("a malformed tag gives %v", err)
	}
	if _, err := c.Edit(number, Edit{Follow: []string{"a", "b"}, Mute: []string{"c", "d"}}, 3); !errors.As(err, &tooMany) {
		t.Errorf("too many tags give %v", err)
	}
	edited, err := c.Edit(number, Edit{Follow: []string{"a"}}, 3)
	if err != nil || edited.Seq != 7 || fmt.Sprint(edited.Sets.Follow) != "[a]" {
		t.Errorf("a good change gives %+v, %v", edited, err)
	}
	for range 10 * maxPast { // without end: what is remembered stays bounded
		for _, e := range []Edit{{Follow: []string{"b"}}, {Unfollow: []string{"b"}}} {
			if _, err := c.Edit(number, e, 3); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(c.guests[number].past); n > maxPast {
		t.Errorf("%d former sets are kept", n)
	}
	c.last = ^journal.Reader(0)
	if again := c.Number(); again != FirstGuest+1 {
		t.Errorf("behind the last number comes %d, want %d, the first that is free", again, FirstGuest+1)
	}
}
