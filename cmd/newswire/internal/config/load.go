package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load reads the file at path, then the environment through getenv, which
// beats the file, then the files that either names. An empty path means no
// file; an empty variable counts as not set. The error joins one sentence per
// fault.
func Load(path string, getenv func(string) string) (Config, error) {
	return LoadFor(path, getenv, sectionNames()...)
}

// LoadFor is Load for a command that needs only some sections, named as in the
// file: the rest must be readable, but may be incomplete, and the files that it
// names are not opened. So a DBA can run setup where no token secret lies.
func LoadFor(path string, getenv func(string) string, sections ...string) (Config, error) {
	if path == "" {
		return parse("", nil, getenv, sections)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Default(), fmt.Errorf("read configuration: %w; name another file with --config", err)
	}
	return parse(path, text, getenv, sections)
}

// parse is LoadFor behind the reading of the file.
func parse(path string, text []byte, getenv func(string) string, sections []string) (Config, error) {
	cfg := Default()
	l := &loader{source: path, lines: true, origin: make(map[string]string)}
	l.document(text, "", reflect.ValueOf(&cfg).Elem())
	l.readEnv(getenv, &cfg)
	for i := range cfg.Postgres.Tables {
		if t := &cfg.Postgres.Tables[i]; t.DefaultTag == "" {
			t.DefaultTag = defaultTag
		}
	}
	l.preferEnv(&cfg.Postgres.DSN, "postgres.dsn", &cfg.Postgres.DSNFile, "postgres.dsn_file")
	a := &cfg.Gateway.Auth
	keys := []struct {
		value *string
		key   string
	}{
		{&a.HS256SecretFile, "gateway.auth.hs256_secret_file"}, {&a.PublicKeyFile, "gateway.auth.public_key_file"},
		{&a.JWKSFile, "gateway.auth.jwks_file"}, {&a.JWKSURL, "gateway.auth.jwks_url"},
	}
	for i, one := range keys {
		for _, other := range keys[i+1:] {
			l.preferEnv(one.value, one.key, other.value, other.key)
		}
	}

	c := &checker{origin: l.origin, faults: l.faults, unreadable: l.unreadable}
	for _, s := range cfg.checks() {
		if slices.Contains(sections, s.name) {
			s.load(c)
			s.check(c)
		}
	}
	return cfg, errors.Join(c.faults...)
}

// Validate checks a configuration that was made by a program, as Load checks
// what it reads. Files are not opened: the fields that they fill must be set.
func (c Config) Validate() error {
	check := &checker{}
	for _, s := range c.checks() {
		s.check(check)
	}
	return errors.Join(check.faults...)
}

// loader fills a Config and remembers where each key stood.
type loader struct {
	source     string            // what is being read: the file's name, or the variable's
	lines      bool              // whether a line number helps to find the place
	origin     map[string]string // key → where it was set
	unreadable []string          // keys whose value could not be read; not to be faulted twice
	faults     []error
}

// document decodes one YAML text into v, which key names.
func (l *loader) document(text []byte, key string, v reflect.Value) {
	docs := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := docs.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // an empty text sets nothing
	}
	if err == nil {
		if err = docs.Decode(&second); err == nil {
			l.fault(&second, key, "a second YAML document begins here; put everything into the first")
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.unreadable = append(l.unreadable, key)
		l.faults = append(l.faults, fmt.Errorf("%s: not YAML: %s", l.source, oneLine(err)))
		return
	}
	if len(doc.Content) == 1 {
		l.decode(doc.Content[0], key, v)
	}
}

// fault notes that the value of key, at node, is not as wanted.
func (l *loader) fault(node *yaml.Node, key, format string, args ...any) {
	l.unreadable = append(l.unreadable, key)
	l.faults = append(l.faults, errors.New(l.where(node)+": "+fmt.Sprintf(format, args...)))
}

func (l *loader) where(node *yaml.Node) string {
	if !l.lines {
		return l.source
	}
	return fmt.Sprintf("%s line %d", l.source, node.Line)
}

// preferEnv makes the environment's choice between two keys that exclude each
// other beat the file's.
func (l *loader) preferEnv(a *string, keyA string, b *string, keyB string) {
	fromEnv := func(key string) bool { return strings.HasPrefix(l.origin[key], envPrefix) }
	if *a == "" || *b == "" || fromEnv(keyA) == fromEnv(keyB) {
		return
	}
	if fromEnv(keyA) {
		*b = ""
	} else {
		*a = ""
	}
}

// oneLine prints an error of several lines on one.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	return strings.Join(strings.Fields(text), " ")
}
