package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// checker collects what is wrong with values that could be read.
type checker struct {
	origin     map[string]string // key → where it was set; a default has no place
	unreadable []string          // keys already faulted
	faults     []error
}

// section is one key at the top of the file: load fills the fields that come
// from files, check judges all of them.
type section struct {
	name  string
	load  func(*checker)
	check func(*checker)
}

// checks lists the sections in the order in which faults are told.
func (c *Config) checks() []section {
	nothing := func(*checker) {}
	return []section{
		{"postgres", c.Postgres.load, c.Postgres.check},
		{"journal", nothing, c.checkJournal},
		{"fanout", nothing, c.Fanout.check},
		{"gateway", c.Gateway.load, c.Gateway.check},
		{"ack", nothing, c.Ack.check},
		{"offline", c.Offline.load, func(check *checker) { c.Offline.check(check, c.Gateway) }},
		{"compensate", c.Compensate.load, c.Compensate.check},
		{"log", nothing, c.Log.check},
	}
}

// fault notes a sentence that begins with the key. A key whose value, or part
// of it, could not be read has had its fault.
func (c *checker) fault(key, format string, args ...any) {
	for _, u := range c.unreadable {
		if u == key || within(u, key) || within(key, u) || u == "" {
			return
		}
	}
	text := key + " " + fmt.Sprintf(format, args...)
	if place := c.origin[key]; place != "" {
		text = place + ": " + text
	}
	c.unreadable = append(c.unreadable, key)
	c.faults = append(c.faults, fmt.Errorf("%s", text))
}

// within tells whether a key lies below another.
func within(key, above string) bool {
	return strings.HasPrefix(key, above+".") || strings.HasPrefix(key, above+"[")
}

// required faults an empty value; what says how to find the right one.
func (c *checker) required(key, value, what string) {
	if value == "" {
		c.fault(key, "is missing: %s", what)
	}
}

// listenAddress wants [host]:port with a port number; 0 lets the system choose.
func (c *checker) listenAddress(key, address string) {
	_, port, err := net.SplitHostPort(address)
	if n, convErr := strconv.Atoi(port); err != nil || convErr != nil || n < 0 || n > 65535 {
		c.fault(key, "is not an address to listen on, %q: write host:port or :port, such as 127.0.0.1:8081", address)
	}
}

// ownPort wants another address than the one of other; port 0 is whichever is free.
func (c *checker) ownPort(key, address, other, taken string) {
	if address == taken && !strings.HasSuffix(address, ":0") {
		c.fault(key, "is %q, as %s: give it a port of its own", address, other)
	}
}

// oneOf wants one of the known words.
func (c *checker) oneOf(key, value string, known ...string) {
	if !slices.Contains(known, value) {
		last := len(known) - 1
		c.fault(key, "is %q: write %s or %s", value, strings.Join(known[:last], ", "), known[last])
	}
}

// notNegative wants 0 or more.
func (c *checker) notNegative(key string, n int) {
	if n < 0 {
		c.fault(key, "is %d: write 0 for no limit, or more", n)
	}
}
