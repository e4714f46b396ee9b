package fanout

import (
	"slices"
	"testing"

	"newswire/fanout/journal"
)

func TestPermitSaysWhatMayBeFollowed(t *testing.T) {
	for _, c := range []struct {
		permit  Permit
		tag     string
		allowed bool
	}{
		{nil, "anything", true},
		{Permit{}, "tech", false},
		{Permit{"tech"}, "tech", true},
		{Permit{"tech"}, "techno", false},
		{Permit{"tech:*"}, "tech:ai", true},
		{Permit{"tech:*"}, "tech", false},
		{Permit{"tech*"}, "techno", false}, // no prefix: it does not end in ":*"
		{Permit{"sport", "tech:*"}, "sport", true},
		{Permit{"tech"}, AllTags, true}, // stands for all that the permit allows
		{Permit{AllTags}, "tech", false},
	} {
		if got := c.permit.Allows(c.tag); got != c.allowed {
			t.Errorf("%v allows %q: %t, want %t", c.permit, c.tag, got, c.allowed)
		}
	}
}

func TestPermitCoversAMessageByOneTag(t *testing.T) {
	for _, c := range []struct {
		permit       Permit
		tags, former []string
		covered      bool
	}{
		{nil, nil, nil, true},
		{Permit{}, []string{"tech"}, nil, false},
		{Permit{"tech"}, []string{"sport", "tech"}, nil, true},
		{Permit{"tech"}, []string{"sport"}, []string{"tech"}, true}, // it is told that the article left it
		{Permit{"team:*"}, []string{"team:a"}, nil, true},
		{Permit{"tech"}, []string{AllTags}, nil, false},
		{Permit{"tech"}, nil, nil, false},
	} {
		if got := c.permit.Covers(&journal.Message{Tags: c.tags, Former: c.former}); got != c.covered {
			t.Errorf("%v covers %q, formerly %q: %t, want %t", c.permit, c.tags, c.former, got, c.covered)
		}
	}
	for _, c := range [][3]Permit{{nil, {"a"}, nil}, {{"a"}, nil, nil}, {{}, {}, {}}, {{"b", "c"}, {"a", "b"}, {"a", "b", "c"}}} {
		if got := c[0].Or(c[1]); !got.equal(c[2]) {
			t.Errorf("%#v or %#v is %#v, want %#v", c[0], c[1], got, c[2])
		}
	}
}

func TestPermitDecidesWhatMatches(t *testing.T) {
	e := open(t, t.TempDir())
	e.route()
	defer e.end()
	narrow, none, all := &Permit{"tech", "team:*"}, &Permit{}, new(Permit)
	u := e.edit("u1", Edit{Follow: []string{AllTags, "sport", "tech"}, Permit: narrow}).Reader
	for _, step := range []struct {
		permit *Permit
		tags   []string
		gets   bool
	}{
		{narrow, []string{"tech"}, true},
		{narrow, []string{"sport"}, false}, // followed, not covered
		{narrow, []string{"sport", "tech"}, true},
		{narrow, []string{"team:a:b"}, true},
		{narrow, []string{"team"}, false},
		{narrow, []string{"a:team:b"}, false},
		{nil, []string{"team:a"}, true}, // an edit without a token leaves it
		{none, []string{"tech"}, false},
		{all, []string{"anything"}, true},
		{narrow, []string{"anything"}, false},
	} {
		if got := e.edit("u1", Edit{Permit: step.permit}); !slices.Equal(got.Sets.Follow, []string{AllTags, "sport", "tech"}) || got.Changed {
			t.Errorf("permit %v changed the sets: %+v", step.permit, got)
		}
		seq := e.publish(step.tags...)
		e.routed()
		if got := slices.Contains(e.audienceOf(seq), uint32(u)); got != step.gets {
			t.Errorf("under %v, %v reaches the reader: %t, want %t", step.permit, step.tags, got, step.gets)
		}
	}
}

func TestPermitOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	e.route()
	e.edit("u1", Edit{Follow: []string{AllTags}, Permit: &Permit{"team:*"}})
	e.routed()
	e.end()
	e = open(t, dir)
	e.route()
	defer e.end()
	in, out := e.publish("team:a"), e.publish("tech")
	e.routed()
	if n, m := len(e.audienceOf(in)), len(e.audienceOf(out)); n != 1 || m != 0 {
		t.Errorf("after a restart %d and %d readers, want 1 and 0", n, m)
	}
}
