package wire

import (
	"net/netip"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// guard lets connections be made into the public internet only. It sees the
// address that was resolved, so a name that changes its mind gains nothing.
func guard(anyPort bool) func(network, address string, c syscall.RawConn) error {
	if anyPort {
		return ssrf.New(ssrf.WithAnyPort()).Safe
	}
	return ssrf.New(ssrf.WithPorts(443)).Safe
}

// MayBePublic tells whether a host may lie in the public internet, without
// resolving its name: what is certainly not, a reader is told at once. The
// connection is checked again when it is made.
func MayBePublic(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	ip, err := netip.ParseAddr(host)
	if err != nil {
		// Without a dot it is a name of the local network. What ends in a number
		// is an address in one of the spellings of old.
		last := host[strings.LastIndexByte(host, '.')+1:]
		return strings.Contains(host, ".") && last != "local" && last != "internal" && last != "localhost" &&
			strings.Trim(last, "0123456789") != ""
	}
	return ssrf.New(ssrf.WithAnyPort()).SafeAddr(ip.Unmap().WithZone("")) == nil
}
