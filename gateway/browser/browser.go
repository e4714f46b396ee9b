// Package browser holds the client that a site's pages load as
// /newswire.js: one ES module, served as it was written.
package browser

import _ "embed"

// Script is the source of the module. Nobody changes it.
//
//go:embed newswire.js
var Script []byte
