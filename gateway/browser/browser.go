// Package browser holds what a site's pages load: the client /newswire.js, for old
// browsers the script /newswire-poll.js, and for Web Push the module /newswire-push.js with its service worker
// /newswire-sw.js. They are served as they were written.
package browser

import _ "embed"

// Script is the source of the client's module. Nobody changes it.
//
//go:embed newswire.js
var Script []byte

// Push is the source of the module with which pages subscribe. Nobody changes
// it.
//
//go:embed newswire-push.js
var Push []byte

// Poll is the source of the script that polls, for browsers that know neither
// WebSocket nor modules. Nobody changes it.
//
//go:embed newswire-poll.js
var Poll []byte

// Worker is the source of the service worker that shows what is pushed. Nobody
// changes it.
//
//go:embed newswire-sw.js
var Worker []byte
