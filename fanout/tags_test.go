package fanout

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCheckTag(t *testing.T) {
	for name, test := range map[string]struct {
		tag string
		why string // empty: a good tag
	}{
		"plain":         {"sport", ""},
		"everything":    {AllTags, ""},
		"space inside":  {"world cup", ""},
		"longest":       {strings.Repeat("a", 128), ""},
		"other letters": {"日本語-ẞ", ""},
		"empty":         {"", "is empty"},
		"too long":      {strings.Repeat("a", 129), "is longer than 128 bytes"},
		"long in bytes": {strings.Repeat("ä", 65), "is longer than 128 bytes"},
		"broken UTF-8":  {"a\xff", "is not UTF-8"},
		"newline":       {"a\nb", "has a control character"},
		"NUL":           {"a\x00", "has a control character"},
		"delete":        {"a\x7f", "has a control character"},
		"C1 control":    {"a\u0085", "has a control character"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckTag(test.tag)
			if test.why == "" {
				if err != nil {
					t.Fatalf("CheckTag(%q) = %v, want nil", test.tag, err)
				}
				return
			}
			var bad *ErrTag
			if !errors.As(err, &bad) || bad.Why != test.why || bad.Tag != test.tag {
				t.Errorf("CheckTag(%q) = %v, want that it %s", test.tag, err, test.why)
			}
		})
	}
}

// A tag must find its shard again after a restart, and in the next release.
func TestShardOfIsStable(t *testing.T) {
	for tag, want := range map[string]int{"*": 36, "tech": 15, "sport": 10, "日本語": 33} {
		if got := shardOf(tag, 64); got != want {
			t.Errorf("shardOf(%q, 64) = %d, want %d", tag, got, want)
		}
	}
}

func TestDifferenceLeadsFromBeforeToAfter(t *testing.T) {
	sets := rapid.Map(rapid.SliceOfDistinct(rapid.StringMatching("[a-e]{1,2}"), rapid.ID), func(s []string) []string {
		slices.Sort(s)
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := sets.Draw(t, "before"), sets.Draw(t, "after")
		added, dropped := difference(before, after)
		for _, tag := range added {
			if slices.Contains(before, tag) || !slices.Contains(after, tag) {
				t.Fatalf("%q is not new", tag)
			}
		}
		for _, tag := range dropped {
			if !slices.Contains(before, tag) || slices.Contains(after, tag) {
				t.Fatalf("%q is not gone", tag)
			}
		}
		if len(before)+len(added)-len(dropped) != len(after) {
			t.Fatalf("%q + %q - %q is not %q", before, added, dropped, after)
		}
		if !slices.IsSorted(added) || !slices.IsSorted(dropped) {
			t.Fatalf("not sorted: %q, %q", added, dropped)
		}
	})
}
