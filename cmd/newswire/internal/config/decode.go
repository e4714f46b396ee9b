package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"newswire/fanout/journal"

	"go.yaml.in/yaml/v3"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[journal.Size]()
)

// decode puts node's value into v. It walks the types itself, not by
// yaml.Unmarshal, because a fault must name the whole key and all must be
// found in one go. Its depth is that of Config, whatever aliases the text has.
func (l *loader) decode(node *yaml.Node, key string, v reflect.Value) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return // a key without a value is a key not given
	}
	if key != "" {
		l.origin[key] = l.where(node)
	}
	switch {
	case v.Kind() == reflect.Struct:
		l.decodeStruct(node, key, v)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		l.decode(node, key, v.Elem())
	case v.Kind() == reflect.Slice:
		l.decodeList(node, key, v)
	case v.Kind() == reflect.Map:
		l.decodeMap(node, key, v)
	case node.Kind != yaml.ScalarNode:
		l.fault(node, key, "%s: want one value, %s", key, wanted(v.Type()))
	default:
		if want := setScalar(v, node.Value); want != "" {
			l.fault(node, key, "%s: %q is not %s", key, node.Value, want)
		}
	}
}

func (l *loader) decodeStruct(node *yaml.Node, key string, v reflect.Value) {
	if node.Kind != yaml.MappingNode {
		l.fault(node, key, "%s: want a mapping of keys to values", nameOr(key, "the file"))
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		full := join(key, name.Value)
		field, known := fieldNamed(v, name.Value)
		switch first, again := seen[name.Value]; {
		case !known:
			l.fault(name, full, "unknown key %s%s", full, didYouMean(full, structKeys(v.Type(), key)))
		case again:
			l.fault(name, full, "%s is already set in line %d; keep one of them", full, first)
		default:
			seen[name.Value] = name.Line
			l.decode(value, full, field)
		}
	}
}

func (l *loader) decodeList(node *yaml.Node, key string, v reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		l.fault(node, key, "%s: want a list, such as [a, b]", key)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		l.decode(item, fmt.Sprintf("%s[%d]", key, i), list.Index(i))
	}
	v.Set(list)
}

// decodeMap reads a mapping whose names the user chooses.
func (l *loader) decodeMap(node *yaml.Node, key string, v reflect.Value) {
	if node.Kind != yaml.MappingNode {
		l.fault(node, key, "%s: want a mapping of names to values", key)
		return
	}
	all := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], reflect.New(v.Type().Elem()).Elem()
		full := join(key, name.Value)
		if all.MapIndex(reflect.ValueOf(name.Value)).IsValid() {
			l.fault(name, full, "%s is already set; keep one of them", full)
			continue
		}
		l.decode(node.Content[i+1], full, value)
		all.SetMapIndex(reflect.ValueOf(name.Value), value)
	}
	v.Set(all)
}

// setScalar reads text into v. Where it cannot, it says what it wanted.
func setScalar(v reflect.Value, text string) (want string) {
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return wanted(v.Type())
		}
		v.SetInt(int64(d))
	case v.Type() == sizeType:
		n, err := journal.ParseSize(text)
		if err != nil {
			return wanted(v.Type())
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return wanted(v.Type())
		}
		v.SetBool(text == "true")
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return wanted(v.Type())
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return wanted(v.Type())
		}
		v.SetFloat(f)
	}
	return ""
}

// wanted describes the values that a type takes.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration, such as 500ms, 10s or 72h"
	case t == sizeType:
		return "a size, such as 512MiB"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	}
	return "a text"
}

// fieldNamed is the field of struct v whose yaml name is name.
func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if yamlName(v.Type().Field(i)) == name && name != "" {
			return v.Field(i), true
		}
		if v.Type().Field(i).Anonymous {
			if field, known := fieldNamed(v.Field(i), name); known {
				return field, true
			}
		}
	}
	return reflect.Value{}, false
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}
