package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const (
	envPrefix = "NEWSWIRE_"

	// EnvConfig names the configuration file where the flag --config does not.
	EnvConfig = "NEWSWIRE_CONFIG"

	// EnvFaults names places where the process ends as by kill -9, for tests: see
	// package fault.
	EnvFaults = "NEWSWIRE_FAULTS"
)

// kubernetesLink matches what Kubernetes puts into a container's environment
// for a service called newswire, or newswire-…: nobody's setting.
var kubernetesLink = regexp.MustCompile(
	`^NEWSWIRE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|` +
		`^NEWSWIRE_([A-Z0-9_]+_)?PORT=(tcp|udp|sctp)://`)

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// CheckEnv names every variable of environ (as os.Environ gives it) that looks
// like a setting and is none, so that a misspelt one is not silently without
// effect.
func CheckEnv(environ []string) error {
	known := []string{EnvConfig, EnvFaults}
	for _, s := range settings() {
		known = append(known, s.env)
	}
	var faults []error
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || kubernetesLink.MatchString(variable) {
			continue
		}
		hint := "; the names are the file's keys in capitals, such as NEWSWIRE_ACK_TIMEOUT"
		if best := nearest(name, known); best != "" {
			hint = "; did you mean " + best + "?"
		}
		faults = append(faults, fmt.Errorf("%s: unknown environment variable%s", name, hint))
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// readEnv sets every key whose variable is not empty.
func (l *loader) readEnv(getenv func(string) string, cfg *Config) {
	for _, s := range settings() {
		text := getenv(s.env)
		if text == "" {
			continue
		}
		l.source, l.lines = s.env, false
		l.origin[s.key] = s.env
		v := fieldAt(reflect.ValueOf(cfg).Elem(), s.key)
		switch {
		case v.Type() == reflect.TypeFor[[]string]():
			l.readList(s, text, v)
		case v.Kind() == reflect.Slice || v.Kind() == reflect.Map || v.Kind() == reflect.Pointer:
			l.document([]byte(text), s.key, v)
		default:
			if want := setScalar(v, text); want != "" {
				l.unreadable = append(l.unreadable, s.key)
				l.faults = append(l.faults, fmt.Errorf("%s: %q is not %s", s.env, text, want))
			}
		}
	}
}

// readList reads a list of texts, with commas or as YAML.
func (l *loader) readList(s setting, text string, v reflect.Value) {
	if text = strings.TrimSpace(text); strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		l.document([]byte(text), s.key, v)
		return
	}
	list := splitList(text)
	for i := range list {
		l.origin[fmt.Sprintf("%s[%d]", s.key, i)] = s.env
	}
	v.Set(reflect.ValueOf(list))
}

// fieldAt is the field of struct v that the dotted key names.
func fieldAt(v reflect.Value, key string) reflect.Value {
	for name := range strings.SplitSeq(key, ".") {
		v, _ = fieldNamed(v, name)
	}
	return v
}

// splitList reads a comma separated list; blanks around an item do not count.
func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}
