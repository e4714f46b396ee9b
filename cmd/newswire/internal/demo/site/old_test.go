package site_test

import (
	"os"
	"testing"

	"github.com/robertkrimen/otto/parser"
)

// Nothing in the page for old browsers is newer than ECMAScript 5.
func TestThePageForOldBrowsersIsReadByThem(t *testing.T) {
	script, err := os.ReadFile("web/old.js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.ParseFile(nil, "old.js", string(script), 0); err != nil {
		t.Error(err)
	}
}
