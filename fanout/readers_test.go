package fanout

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"newswire/fanout/journal"
)

func TestEditJournalsTheExactDifference(t *testing.T) {
	e := open(t, t.TempDir())
	first := e.edit("ann", Edit{Follow: []string{"tech", "ai", "tech"}, Mute: []string{"gossip"}})
	second := e.edit("ann", Edit{Follow: []string{"ai", "sport"}, Unfollow: []string{"tech", "chess"}, Unmute: []string{"gossip"}})
	replaced := e.edit("ann", Edit{SetFollow: &[]string{"sport", "art"}, SetMute: &[]string{"tech"}})
	want := []*journal.Change{
		{Name: "ann", Reader: 1, Follow: []string{"ai", "tech"}, Mute: []string{"gossip"}, First: true, Muted: []string{"gossip"}},
		{Name: "ann", Reader: 1, Follow: []string{"sport"}, Unfollow: []string{"tech"}, Unmute: []string{"gossip"}},
		{Name: "ann", Reader: 1, Follow: []string{"art"}, Unfollow: []string{"ai"}, Mute: []string{"tech"}},
	}
	if got := e.changes(); !reflect.DeepEqual(got, want) {
		t.Errorf("journaled %s, want %s", print(got), print(want))
	}
	for i, done := range []Edited{first, second, replaced} {
		if !done.Changed || done.Reader != 1 || done.Seq != journal.Seq(i+1) {
			t.Errorf("edit %d gave %+v", i, done)
		}
	}
	wantSets(t, e, "ann", 1, []string{"art", "sport"}, []string{"tech"})
	if !slices.Equal(replaced.Sets.Follow, []string{"art", "sport"}) || !slices.Equal(replaced.Sets.Mute, []string{"tech"}) {
		t.Errorf("the edit gave sets %+v", replaced.Sets)
	}
}

func print(changes []*journal.Change) (text string) {
	for _, c := range changes {
		text += fmt.Sprintf("\n%+v", *c)
	}
	return text
}

func wantSets(t *testing.T, e *engine, name string, number journal.Reader, follow, mute []string) {
	t.Helper()
	n, sets, err := e.readers.Get(name)
	if err != nil {
		t.Fatalf("Get(%q): %v", name, err)
	}
	if n != number || !slices.Equal(sets.Follow, follow) || !slices.Equal(sets.Mute, mute) {
		t.Errorf("Get(%q) = %d, %+v, want %d, follow %q, mute %q", name, n, sets, number, follow, mute)
	}
}

func TestEditThatChangesNothingIsNotJournaled(t *testing.T) {
	e := open(t, t.TempDir())
	before := e.edit("ann", Edit{Follow: []string{"tech"}})
	for name, edit := range map[string]Edit{
		"nothing asked":      {},
		"followed already":   {Follow: []string{"tech"}},
		"not followed":       {Unfollow: []string{"sport"}},
		"replaced by itself": {SetFollow: &[]string{"tech", "tech"}, SetMute: &[]string{}},
		"added and dropped":  {Mute: []string{"ai"}, Unmute: []string{"ai"}},
	} {
		got := e.edit("ann", edit)
		if got.Changed || got.Seq != before.Seq || got.Reader != before.Reader {
			t.Errorf("%s: got %+v, want the place of the change before: %+v", name, got, before)
		}
	}
	if head := e.j.Head(); head != before.Seq {
		t.Errorf("the journal grew to %d, want %d", head, before.Seq)
	}
}

func TestNewReaderIsJournaledEvenWithoutTags(t *testing.T) {
	e := open(t, t.TempDir())
	got := e.edit("ann", Edit{})
	if got.Changed || got.Seq != 1 || got.Reader != 1 {
		t.Errorf("got %+v, want reader 1 at 1", got)
	}
}

func TestOneBadTagChangesNothing(t *testing.T) {
	e := open(t, t.TempDir())
	e.edit("ann", Edit{Follow: []string{"tech"}})
	head := e.j.Head()
	for name, edit := range map[string]Edit{
		"follow":     {Follow: []string{"good", ""}},
		"unfollow":   {Unfollow: []string{"tech", "a\x00"}},
		"mute":       {Follow: []string{"good"}, Mute: []string{"\xff"}},
		"unmute":     {Follow: []string{"good"}, Unmute: []string{""}},
		"set follow": {SetFollow: &[]string{"good", ""}},
		"set mute":   {SetFollow: &[]string{"good"}, SetMute: &[]string{""}},
	} {
		ctx, cancel := deadline()
		_, err := e.readers.Edit(ctx, "ann", edit, 0)
		cancel()
		var bad *ErrTag
		if !errors.As(err, &bad) {
			t.Errorf("%s: Edit = %v, want an *ErrTag", name, err)
		}
	}
	wantSets(t, e, "ann", 1, []string{"tech"}, nil)
	if e.j.Head() != head {
		t.Errorf("the journal grew to %d, want %d", e.j.Head(), head)
	}
}

func TestLimitBoundsBothSetsTogether(t *testing.T) {
	e := open(t, t.TempDir())
	ctx, cancel := deadline()
	defer cancel()
	try := func(limit int, edit Edit) error {
		_, err := e.readers.Edit(ctx, "ann", edit, limit)
		return err
	}
	var over *ErrTagLimit
	if err := try(3, Edit{Follow: []string{"a", "b"}, Mute: []string{"c"}}); err != nil {
		t.Fatalf("up to the limit: %v", err)
	}
	if err := try(3, Edit{Mute: []string{"d"}}); !errors.As(err, &over) || over.Limit != 3 {
		t.Errorf("past the limit: %v, want an *ErrTagLimit of 3", err)
	}
	wantSets(t, e, "ann", 1, []string{"a", "b"}, []string{"c"})
	if err := try(2, Edit{Unfollow: []string{"a"}}); err != nil {
		t.Errorf("fewer tags under a lower limit: %v", err)
	}
	if err := try(1, Edit{SetFollow: &[]string{"x"}}); err != nil {
		t.Errorf("as many tags under a lower limit: %v", err)
	}
	wantSets(t, e, "ann", 1, []string{"x"}, []string{"c"})
}

func TestNumbersAreDenseAndKeptOverRestart(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	for i, name := range []string{"ann", "bob", "cid"} {
		if got := e.edit(name, Edit{Follow: []string{"t"}}); got.Reader != journal.Reader(i+1) {
			t.Errorf("%q is number %d, want %d", name, got.Reader, i+1)
		}
	}
	e.end()
	e = open(t, dir)
	wantSets(t, e, "bob", 2, []string{"t"}, nil)
	if got := e.edit("dan", Edit{}); got.Reader != 4 {
		t.Errorf("the next reader is number %d, want 4", got.Reader)
	}
	e.synced()
	for number, want := range map[journal.Reader]string{1: "ann", 4: "dan", 5: "", 0: ""} {
		name, ok, err := e.readers.Name(number)
		if err != nil || name != want || ok != (want != "") {
			t.Errorf("Name(%d) = %q, %t, %v, want %q", number, name, ok, err, want)
		}
	}
}

// The ledger still holds messages of a forgotten reader under its number: the
// next reader must not get them.
func TestNumberOfForgottenReaderIsNeverGivenAgain(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	e.edit("ann", Edit{Follow: []string{"t"}})
	e.edit("bob", Edit{Follow: []string{"t", "u"}, Mute: []string{"v"}})
	gone := e.forget("bob")
	if gone.Reader != 2 || gone.Seq != 3 || !gone.Changed || len(gone.Sets.Follow) > 0 {
		t.Errorf("Forget gave %+v", gone)
	}
	changes := e.changes()
	want := &journal.Change{Name: "bob", Reader: 2, Unfollow: []string{"t", "u"}, Unmute: []string{"v"}, Forget: true}
	if got := changes[len(changes)-1]; !reflect.DeepEqual(got, want) {
		t.Errorf("journaled %+v, want %+v", got, want)
	}
	wantSets(t, e, "bob", 0, nil, nil)
	if name, ok, err := e.readers.Name(2); ok || err != nil {
		t.Errorf("Name(2) = %q, %t, %v after Forget", name, ok, err)
	}
	e.end()
	e = open(t, dir)
	wantSets(t, e, "bob", 0, nil, nil)
	if name, ok, err := e.readers.Name(2); ok || err != nil {
		t.Errorf("Name(2) = %q, %t, %v after Forget and restart", name, ok, err)
	}
	if got := e.edit("eve", Edit{}); got.Reader != 3 {
		t.Errorf("a new reader got number %d, want 3", got.Reader)
	}
	if got := e.edit("bob", Edit{}); got.Reader != 4 {
		t.Errorf("the forgotten reader came back as number %d, want 4", got.Reader)
	}
}

func TestForgetOfUnknownReaderIsNotJournaled(t *testing.T) {
	e := open(t, t.TempDir())
	if gone := e.forget("nobody"); gone.Seq != 0 || gone.Changed || e.j.Head() != 0 {
		t.Errorf("Forget gave %+v, the journal's head is %d", gone, e.j.Head())
	}
}

// Whoever edits must see the edits before, and the journal must tell them in
// the same order: added up, the changes give the sets.
func TestConcurrentEditsOfOneReaderSerialise(t *testing.T) {
	e := open(t, t.TempDir())
	var edits sync.WaitGroup
	for i := range 8 {
		edits.Go(func() {
			for k := range 20 {
				tag := fmt.Sprint("t", (i+k)%5)
				e.edit("ann", Edit{Follow: []string{tag}})
				e.edit("ann", Edit{Unfollow: []string{tag}, Mute: []string{tag}})
				e.edit("ann", Edit{Unmute: []string{tag}})
			}
		})
	}
	edits.Wait()
	follow, mute := make(map[string]bool), make(map[string]bool)
	for i, c := range e.changes() {
		if c.Reader != 1 {
			t.Fatalf("change %d is of number %d, want 1", i, c.Reader)
		}
		for _, step := range []struct {
			tags []string
			set  map[string]bool
			to   bool
		}{{c.Follow, follow, true}, {c.Unfollow, follow, false}, {c.Mute, mute, true}, {c.Unmute, mute, false}} {
			for _, tag := range step.tags {
				if step.set[tag] == step.to {
					t.Fatalf("change %d: %+v was so before", i, *c)
				}
				step.set[tag] = step.to
			}
		}
	}
	_, sets, err := e.readers.Get("ann")
	if err != nil {
		t.Fatal(err)
	}
	for tag, on := range follow {
		if on != slices.Contains(sets.Follow, tag) {
			t.Errorf("%q followed: the journal says %t, the sets are %+v", tag, on, sets)
		}
	}
}

// More readers than a stripe keeps in memory must all be found on disk.
func TestReadersThatLeftMemoryAreFoundAgain(t *testing.T) {
	e := open(t, t.TempDir())
	const n = maxRecent * 300
	for i := range n {
		e.edit(fmt.Sprint("reader-", i), Edit{Follow: []string{fmt.Sprint("t", i%7)}})
	}
	for i := 0; i < n; i += 97 {
		wantSets(t, e, fmt.Sprint("reader-", i), journal.Reader(i+1), []string{fmt.Sprint("t", i%7)}, nil)
	}
	kept := 0
	for i := range e.readers.stripes {
		kept += len(e.readers.stripes[i].recent)
	}
	if limit := len(e.readers.stripes) * maxRecent; kept > limit+n/10 {
		t.Errorf("%d readers are in memory, want about %d at most", kept, limit)
	}
}
