package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is the table of ARCHITECTURE.md: which packages of the project each
// package's own code may import. Calls flow downstream, imports point upstream.
// A package that is not here may import none.
var mayImport = map[string][]string{
	"fanout/journal":       {"fanout/journal/fault"},
	"fanout":               {"fanout/journal", "fanout/journal/fault"},
	"cdc":                  {"fanout/journal", "fanout/journal/fault", "cdc/pgjson", "cdc/publication", "cdc/setup", "cdc/slot"},
	"cdc/setup":            {"cdc/publication"},
	"cdc/slot":             {"fanout/journal", "cdc/publication"},
	"cdc/doctor":           {"cdc/publication", "cdc/setup", "cdc/slot", "fanout/journal"},
	"cdc/pgtest":           {"cdc/cluster"},
	"ack":                  {"fanout/journal", "fanout/journal/fault"},
	"ack/offline":          {"ack", "fanout/journal", "fanout/journal/fault"},
	"ack/compensate":       {"ack/compensate/channel", "ack/compensate/policy", "ack/compensate/store", "fanout/journal/fault"},
	"ack/compensate/store": {"ack/compensate/channel"},
	"gateway":              {"fanout", "fanout/journal", "fanout/journal/fault", "gateway/browser", "gateway/certificate", "gateway/tokens"},
	"gateway/tokens":       {"fanout"},

	"ack/compensate/channel/wire":                {"ack/compensate/channel"},
	"ack/compensate/channel/channeltest":         {"ack/compensate/channel"},
	"ack/compensate/channel/local":               {"ack/compensate/channel"},
	"ack/compensate/channel/apns":                {"ack/compensate/channel", "ack/compensate/channel/wire"},
	"ack/compensate/channel/apns/apnstest":       {"ack/compensate/channel", "ack/compensate/channel/channeltest", "ack/compensate/channel/apns", "ack/compensate/channel/wire"},
	"ack/compensate/channel/fcm":                 {"ack/compensate/channel", "ack/compensate/channel/wire"},
	"ack/compensate/channel/fcm/fcmtest":         {"ack/compensate/channel", "ack/compensate/channel/channeltest", "ack/compensate/channel/fcm", "ack/compensate/channel/wire"},
	"ack/compensate/channel/sms":                 {"ack/compensate/channel", "ack/compensate/channel/wire"},
	"ack/compensate/channel/sms/smstest":         {"ack/compensate/channel", "ack/compensate/channel/channeltest", "ack/compensate/channel/sms", "ack/compensate/channel/wire"},
	"ack/compensate/channel/webhook":             {"ack/compensate/channel", "ack/compensate/channel/wire"},
	"ack/compensate/channel/webhook/webhooktest": {"ack/compensate/channel", "ack/compensate/channel/channeltest", "ack/compensate/channel/webhook", "ack/compensate/channel/wire"},
	"ack/compensate/channel/webpush":             {"ack/compensate/channel", "ack/compensate/channel/wire"},
	"ack/compensate/channel/webpush/webpushtest": {"ack/compensate/channel", "ack/compensate/channel/channeltest", "ack/compensate/channel/webpush", "ack/compensate/channel/wire"},
}

// Sizes up to which a file and a function read well.
const (
	mostLines     = 400
	mostFuncLines = 60
)

type source struct {
	path string // from the root, with slashes
	file *ast.File
	fset *token.FileSet
	text []byte
}

func (s source) pkg() string { return filepath.ToSlash(filepath.Dir(s.path)) }
func (s source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }
func (s source) lines() int  { return bytes.Count(s.text, []byte("\n")) }
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources parses every Go file of the project.
func sources(t *testing.T) (all []source) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		rel, _ := filepath.Rel(top, path)
		all = append(all, source{filepath.ToSlash(rel), file, fset, text})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportsPointUpstream(t *testing.T) {
	for _, s := range sources(t) {
		allowed := mayImport[s.pkg()]
		if s.test() || strings.HasPrefix(s.path, "cmd/") {
			continue // cmd sees all of them
		}
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			own, ok := strings.CutPrefix(path, "newswire/")
			if ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s, which the table does not allow", s.path, own)
			}
		}
	}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		if n := s.lines(); n > mostLines {
			t.Errorf("%s has %d lines, more than %d: a second idea moves to a file of its own", s.path, n, mostLines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > mostFuncLines {
				t.Errorf("%s: %s has %d lines, more than %d", s.path, f.Name.Name, n, mostFuncLines)
			}
		}
	}
}

func TestEveryPackageOpensWithItsPromise(t *testing.T) {
	documented := make(map[string]bool)
	for _, s := range sources(t) {
		if !s.test() && s.file.Name.Name != "main" {
			documented[s.pkg()] = documented[s.pkg()] || s.file.Doc != nil
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

// anyTest is the name of a test, or of a fuzz test, in running text.
var anyTest = regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`)

func TestPromisesAreHeldByTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	exists := make(map[string]bool)
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test() {
				exists[f.Name.Name] = true
			}
		}
	}
	promised := anyTest.FindAllString(string(text), -1)
	if len(promised) < 20 {
		t.Errorf("ARCHITECTURE.md names %d tests; is its table there?", len(promised))
	}
	for _, name := range promised {
		if !exists[name] {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", name)
		}
	}
}
