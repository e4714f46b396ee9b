package cdc

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tagFault tells why a text cannot be a tag; "" when it can.
func tagFault(s string) tagFate {
	switch {
	case s == "":
		return tagEmpty
	case s == anyTag:
		return tagWildcard
	case len(s) > maxTagBytes:
		return tagTooLong
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return tagControl
	}
	return ""
}

// tagList collects a row's tags: as stored, in order, without repeats.
type tagList struct {
	tags  []string
	seen  map[string]struct{} // of tags, once they are too many to look through
	skip  func(tagFate)       // told of each that cannot be used
	known *tagCache           // nil for none

	skipped bool // some could not be used
}

// few is how many tags are looked through faster than a map is asked.
const few = 16

// leave counts one that cannot be used.
func (l *tagList) leave(why tagFate) {
	l.skipped = true
	l.skip(why)
}

func (l *tagList) add(s string) {
	if why := tagFault(s); why != "" {
		l.leave(why)
		return
	}
	l.addGood(s)
}

// addGood adds what is known to be a tag.
func (l *tagList) addGood(s string) {
	if len(l.tags) < few {
		if l.tags == nil {
			l.tags = make([]string, 0, 4)
		}
		if !slices.Contains(l.tags, s) {
			l.tags = append(l.tags, s)
		}
		return
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
		for _, tag := range l.tags {
			l.seen[tag] = struct{}{}
		}
	}
	if _, again := l.seen[s]; !again {
		l.seen[s] = struct{}{}
		l.tags = append(l.tags, s)
	}
}

// addJSON takes a column's value as JSON: an array gives its elements, a text
// is one tag or, with split, a comma separated list; spaces around either do
// not count.
func (l *tagList) addJSON(value []byte, split bool) {
	if len(value) > 0 && value[0] == '[' && l.addPlainArray(value) {
		return
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		l.leave(tagNotText)
		return
	}
	text, ok := v.(string)
	switch {
	case !ok:
		l.addValue(v)
	case split:
		for part := range strings.SplitSeq(text, ",") {
			l.add(strings.TrimSpace(part))
		}
	default:
		l.add(strings.TrimSpace(text))
	}
}

// addPlainArray takes an array of nothing but texts without escapes, which is
// what nearly every row has. It adds nothing when it gives false.
func (l *tagList) addPlainArray(value []byte) bool {
	var texts [few][]byte
	n, rest := 0, value[1:]
	for {
		rest = bytes.TrimLeft(rest, " ")
		if n == 0 && len(rest) == 1 && rest[0] == ']' {
			break
		}
		if len(rest) == 0 || rest[0] != '"' || n == len(texts) {
			return false
		}
		end := bytes.IndexByte(rest[1:], '"')
		if end < 0 || bytes.IndexByte(rest[1:1+end], '\\') >= 0 {
			return false
		}
		texts[n] = rest[1 : 1+end]
		n++
		rest = bytes.TrimLeft(rest[2+end:], " ")
		if len(rest) == 1 && rest[0] == ']' {
			break
		}
		if len(rest) == 0 || rest[0] != ',' {
			return false
		}
		rest = rest[1:]
	}
	for _, text := range texts[:n] {
		if tag, ok := l.known.get(text); ok {
			l.addGood(tag)
		} else {
			l.add(l.known.put(string(text)))
		}
	}
	return true
}

func (l *tagList) addValue(v any) {
	switch v := v.(type) {
	case string:
		l.add(v)
	case json.Number:
		l.add(v.String())
	case []any:
		for _, element := range v {
			l.addValue(element)
		}
	case nil:
		l.leave(tagNull)
	default: // true, false, an object
		l.leave(tagNotText)
	}
}

// tagCache holds tags that were seen, so that a tag which thousands of rows
// carry is one string in memory and is checked once. One goroutine owns it.
type tagCache struct {
	tags    map[string]string
	scratch []byte // for the values that tags are read from
}

// mostCached is how many it holds before it begins anew: about what a large
// site's editors use.
const mostCached = 8192

func (c *tagCache) get(text []byte) (tag string, ok bool) {
	if c == nil {
		return "", false
	}
	tag, ok = c.tags[string(text)]
	return tag, ok
}

// put keeps a text that is a tag, and gives it back either way.
func (c *tagCache) put(s string) string {
	if c == nil || tagFault(s) != "" {
		return s
	}
	if c.tags == nil || len(c.tags) >= mostCached {
		c.tags = make(map[string]string)
	}
	c.tags[s] = s
	return s
}

// tagLists holds what the tags columns of rows were read as, so that rows with the
// same tags share them and they are read once. One goroutine owns it.
type tagLists struct{ lists map[string][]string }

// mostListBytes is the longest column that is held.
const mostListBytes = 256

func (c *tagLists) get(column []byte) (tags []string, ok bool) {
	tags, ok = c.lists[string(column)]
	return tags, ok
}

// put holds tags that nobody changes any more.
func (c *tagLists) put(column []byte, tags []string) {
	if len(column) > mostListBytes {
		return
	}
	if c.lists == nil || len(c.lists) >= mostCached {
		c.lists = make(map[string][]string)
	}
	c.lists[string(column)] = slices.Clip(tags)
}
