package fanout

import (
	"slices"
	"testing"

	"newswire/fanout/journal"
)

func TestWhoFollowsForTheFirstTimeGetsWhatWasBackfilled(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	e.route()
	early := e.edit("early", Edit{Follow: []string{"sport"}}).Reader // before, so it is in the audience
	one := e.backfill("tech", "ai")
	two := e.backfill("sport")
	three := e.backfill("team:red")
	e.publish("tech") // no backfill
	wants := make(map[journal.Reader][]uint32)
	edit := func(name string, edit Edit, seqs ...journal.Seq) {
		t.Helper()
		r := e.edit(name, edit).Reader
		for _, seq := range seqs {
			wants[r] = append(wants[r], uint32(seq))
		}
	}
	edit("ann", Edit{Follow: []string{"ai", "sport"}}, one, two)
	edit("all", Edit{Follow: []string{"*"}, Mute: []string{"ai"}}, two, three)
	edit("nobody", Edit{Mute: []string{"sport"}}) // knows nothing yet
	edit("nobody", Edit{Follow: []string{"tech", "sport"}}, one)
	edit("limited", Edit{Follow: []string{"*"}, Permit: &Permit{"team:*"}}, three)
	edit("ann", Edit{Follow: []string{"team:red"}}) // not its first
	edit("ann", Edit{SetFollow: &[]string{}})
	edit("ann", Edit{Follow: []string{"tech"}})
	edit("early", Edit{Follow: []string{"tech"}})
	e.routed()
	e.end()

	late := e.seen.late
	e = open(t, dir) // the index comes from the records
	e.route()
	edit("back", Edit{Follow: []string{"tech", "team:red"}}, one, three)
	edit("ann", Edit{Follow: []string{"sport"}})
	e.routed()
	for r, seqs := range e.seen.late {
		late[r] = append(late[r], seqs...)
	}
	if len(late[early]) > 0 {
		t.Errorf("who followed before gets %v late", late[early])
	}
	for r, want := range wants {
		if got := slices.Sorted(slices.Values(late[r])); !slices.Equal(got, want) {
			t.Errorf("reader %d gets %v, want %v", r, got, want)
		}
		delete(late, r)
	}
	if len(late) > 0 {
		t.Errorf("nobody else was to get any: %v", late)
	}
}

// backfill commits one backfilled message and gives its place.
func (e *engine) backfill(tags ...string) journal.Seq {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	e.lsn++
	m := journal.Message{
		ID: journal.ID{Epoch: 1, LSN: e.lsn}, Action: journal.Publish, Tags: tags,
		Source: "public.news", Key: []byte(`{"id":1}`), Data: []byte("{}"), Backfilled: true,
	}
	c := journal.Commit{Epoch: 1, LSN: e.lsn, End: e.lsn, Messages: []journal.Message{m}}
	if err := e.j.Append(ctx, c); err != nil {
		e.t.Fatalf("Append: %v", err)
	}
	return e.j.Head()
}
