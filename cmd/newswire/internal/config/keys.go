package config

import (
	"reflect"
	"strings"
)

// setting is one key that has an environment variable.
type setting struct {
	key string // ack.timeout
	env string // NEWSWIRE_ACK_TIMEOUT
}

// settings lists every key in the order of the file; what stands inside a list
// belongs to the list's key.
func settings() []setting {
	var all []setting
	for _, key := range leaves(reflect.TypeFor[Config](), "") {
		all = append(all, setting{key: key, env: envName(key)})
	}
	return all
}

// sectionNames lists the keys at the top of the file.
func sectionNames() []string { return structKeys(reflect.TypeFor[Config](), "") }

func leaves(t reflect.Type, section string) []string {
	var keys []string
	for i := range t.NumField() {
		name := yamlName(t.Field(i))
		switch full := join(section, name); {
		case name == "":
		case t.Field(i).Type.Kind() == reflect.Struct:
			keys = append(keys, leaves(t.Field(i).Type, full)...)
		default:
			keys = append(keys, full)
		}
	}
	return keys
}

// structKeys lists the keys of one struct, which section names.
func structKeys(t reflect.Type, section string) []string {
	var keys []string
	for i := range t.NumField() {
		if name := yamlName(t.Field(i)); name != "" {
			keys = append(keys, join(section, name))
		} else if t.Field(i).Anonymous {
			keys = append(keys, structKeys(t.Field(i).Type, section)...)
		}
	}
	return keys
}

// yamlName is a field's name in the file; empty for one that is not there.
func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// didYouMean suggests the key that was probably meant: the same name in
// another section, else the most similar one beside it, else none.
func didYouMean(unknown string, siblings []string) string {
	for _, s := range settings() {
		if lastName(s.key) == lastName(unknown) {
			return "; did you mean " + s.key + "?"
		}
	}
	if best := nearest(unknown, siblings); best != "" {
		return "; did you mean " + best + "?"
	}
	names := make([]string, len(siblings))
	for i, s := range siblings {
		names[i] = lastName(s)
	}
	return "; known here: " + strings.Join(names, ", ")
}

func lastName(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// nearest is the candidate that fewest edits lead to, if few are enough: two of a
// short name, three of a long one.
func nearest(word string, candidates []string) string {
	best, fewest := "", min(max(2, len(lastName(word))/3), 3)+1
	if len(word) > 200 {
		return "" // nobody mistyped that
	}
	for _, c := range candidates {
		if d := edits(word, c); d < fewest {
			best, fewest = c, d
		}
	}
	return best
}

// edits counts the letters to insert, drop, change or swap with their neighbour
// to get from a to b.
func edits(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
