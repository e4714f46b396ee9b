package journal

import (
	"encoding/json"
	"testing"
)

// A record of before timelines were followed.
func TestSourceOfOneTimelineIsRead(t *testing.T) {
	var s Source
	if err := json.Unmarshal([]byte(`{"system_id":"7","timeline":3,"slot":"newswire","epoch":2}`), &s); err != nil {
		t.Fatal(err)
	}
	if want := (Source{SystemID: "7", Timeline: 3, Slot: "newswire", Epoch: 2}); !s.Equal(want) {
		t.Errorf("read %+v, want %+v", s, want)
	}
	if got := s.EpochAt(1); got != 2 {
		t.Errorf("EpochAt(0/1) = %d, want 2", got)
	}
}

func TestEpochIsThatOfTheTimeline(t *testing.T) {
	s := Source{Timeline: 3, Epoch: 4, Past: []Past{{1, 0x100, 2}, {2, 0x200, 3}}}
	for lsn, want := range map[LSN]uint16{1: 2, 0xFF: 2, 0x100: 3, 0x1FF: 3, 0x200: 4, 0x900: 4} {
		if got := s.EpochAt(lsn); got != want {
			t.Errorf("EpochAt(%s) = %d, want %d", lsn, got, want)
		}
	}
}

// A server that takes over may send what lies before the switch once more, and
// what lies before it and was not read yet.
func TestANewTimelineContinuesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	source := Source{SystemID: "7", Timeline: 1, Slot: "newswire", Epoch: 1}
	if err := j.Rebase(deadline(t), source, 0x10); err != nil {
		t.Fatal(err)
	}
	before, pending, behind := commit(1, 0x20, 1, 10), commit(1, 0x30, 1, 10), commit(2, 0x50, 1, 10)
	mustAppend(t, j, before)
	source.Timeline, source.Epoch, source.Past = 2, 2, []Past{{1, 0x40, 1}}
	if err := j.SetSource(deadline(t), source); err != nil {
		t.Fatal(err)
	}
	if got := j.Confirmed(); got != before.End {
		t.Errorf("Confirmed() = %s on the new timeline, want still %s", got, before.End)
	}
	end()
	j, end = start(t, dir)
	mustAppend(t, j, before, pending, behind, before, pending, behind)
	mustSync(t, j)
	if got := j.Accepted(); got != behind.End || j.Confirmed() != got {
		t.Errorf("Accepted() = %s, Confirmed() = %s, want %s", got, j.Confirmed(), behind.End)
	}
	wantMessages(t, read(t, j, 0, 10), 0, before, pending, behind)
	end()
}

// What somebody has read of another journal, before this one began, tells that
// something may be missing in between.
func TestWhatIsOlderThanTheJournalIsAGap(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	if err := j.Rebase(deadline(t), Source{SystemID: "7", Timeline: 1, Slot: "newswire", Epoch: 1}, 0x100); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, commit(1, 0x100, 1, 10), commit(1, 0x200, 1, 10))
	mustSync(t, j)
	for range 2 {
		for _, c := range []struct {
			id   ID
			want Place
		}{
			{ID{1, 0xF0, 0}, Place{Gone: true}},
			{ID{1, 0x100, 0}, Place{Seq: 1, Exact: true}},
			{ID{1, 0x180, 0}, Place{Seq: 1}},
			{ID{1, 0x200, 0}, Place{Seq: 2, Exact: true}},
			{ID{1, 0x200, 1}, Place{Seq: 2, Ahead: true}},
		} {
			if got, err := j.Find(c.id); err != nil || got != c.want {
				t.Errorf("Find(%s) = %+v, %v, want %+v", c.id, got, err, c.want)
			}
		}
		// Further on in its own history: nothing is older than the journal now
		// that was not before.
		if err := j.Rebase(deadline(t), Source{SystemID: "7", Timeline: 1, Slot: "newswire", Epoch: 1}, 0x300); err != nil {
			t.Fatal(err)
		}
		end()
		j, end = start(t, dir)
	}
}

// What is backfilled has its place before the position at which the journal
// begins: it is there, and what is older still is a gap.
func TestWhatIsOlderThanABackfillIsAGap(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	old := commit(1, 0xFF, 2, 10)
	old.Part = true
	mustAppend(t, j, old)
	if err := j.Rebase(deadline(t), Source{SystemID: "7", Timeline: 1, Slot: "newswire", Epoch: 1}, 0x100); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, commit(1, 0x100, 1, 10))
	mustSync(t, j)
	for range 2 {
		for id, want := range map[ID]Place{
			{1, 0xF0, 0}:  {Gone: true},
			{1, 0xFF, 0}:  {Seq: 1, Exact: true},
			{1, 0xFF, 1}:  {Seq: 2, Exact: true},
			{1, 0x100, 0}: {Seq: 3, Exact: true},
		} {
			if got, err := j.Find(id); err != nil || got != want {
				t.Errorf("Find(%s) = %+v, %v, want %+v", id, got, err, want)
			}
		}
		end()
		j, end = start(t, dir)
	}
}
