package demo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options say where the demo lives. The zero value is a demo under default
// addresses, in a directory of its own, that prints nothing.
type Options struct {
	Dir         string        // keeps database, journal and Kafka; empty: newswire-demo in the user's cache directory, for root in /var/lib
	Listen      string        // the page and the gateway; empty: 127.0.0.1:8080
	Admin       string        // health and metrics; empty: 127.0.0.1:8081
	KafkaListen string        // the embedded Kafka; empty: 127.0.0.1:9092
	Devices     string        // the devices API of the compensation service; empty: 127.0.0.1:8090
	Compensate  string        // health and metrics of the compensation service; empty: 127.0.0.1:8091
	PGBin       string        // directory of PostgreSQL's programs; empty: the newest there is
	AckTimeout  time.Duration // until the second attempt; 0: 5s, short enough to watch a hand-over
	Stdout      io.Writer     // gets a line for each step; nil: nothing
}

const (
	defaultListen     = "127.0.0.1:8080"
	defaultAdmin      = "127.0.0.1:8081"
	defaultKafka      = "127.0.0.1:9092"
	defaultDevices    = "127.0.0.1:8090"
	defaultCompensate = "127.0.0.1:8091"
	defaultAckTimeout = 5 * time.Second
	dirName           = "newswire-demo"
)

// complete fills in the defaults and makes every address one with a port.
func (o Options) complete() (Options, error) {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = defaultAckTimeout
	}
	var err error
	if o.Dir == "" {
		o.Dir, err = defaultDir()
	}
	if o.Dir != "" {
		o.Dir, err = filepath.Abs(o.Dir)
	}
	faults := []error{err}
	for _, a := range []struct {
		address  *string
		standard string
		flag     string
	}{
		{&o.Listen, defaultListen, "--listen"},
		{&o.Admin, defaultAdmin, "--admin"},
		{&o.KafkaListen, defaultKafka, "--kafka-listen"},
		{&o.Devices, defaultDevices, "--devices"},
		{&o.Compensate, defaultCompensate, "--compensate-admin"},
	} {
		if *a.address == "" {
			*a.address = a.standard
		}
		*a.address, err = free(*a.address, a.flag)
		faults = append(faults, err)
	}
	return o, errors.Join(faults...)
}

// defaultDir is a directory that only we, or root, can have made.
func defaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib", dirName), nil // PostgreSQL runs as another user, who cannot enter root's home
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for the demo: %w; name one with --dir", err)
	}
	return filepath.Join(cache, dirName), nil
}

// free gives the address with its port, a free one for port 0, if a server can
// listen there now.
func free(address, flag string) (string, error) {
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "", fmt.Errorf("listen on %s: another program listens there; end it, or name another address with %s", address, flag)
	case err != nil:
		return "", fmt.Errorf("listen on %s: %w; name an address of this machine with %s", address, err, flag)
	}
	host, _, err := net.SplitHostPort(address)
	_, port, portErr := net.SplitHostPort(listener.Addr().String())
	if err := errors.Join(err, portErr, listener.Close()); err != nil {
		return "", fmt.Errorf("listen on %s: %w", address, err)
	}
	return net.JoinHostPort(host, port), nil
}

// loopback are the names by which a browser on this machine reaches it.
var loopback = []string{"127.0.0.1", "localhost", "[::1]"}

// origins are the page's, under each name that it answers to.
func (o Options) origins() []string {
	host, port, _ := net.SplitHostPort(o.Listen) // complete has read it
	hosts := loopback
	if named := bracketed(host); !o.everywhere() && named != "127.0.0.1" && named != "localhost" && named != "[::1]" {
		hosts = append([]string{named}, loopback...)
	}
	var all []string
	for _, host := range hosts {
		origin := "http://" + host
		if port != "80" { // browsers leave out a scheme's own port
			origin += ":" + port
		}
		all = append(all, strings.ToLower(origin))
	}
	return all
}

// page is the address to open.
func (o Options) page() string {
	host, port, _ := net.SplitHostPort(o.Listen)
	if o.everywhere() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// host is the name in Listen; empty when it stands for every address.
func (o Options) host() string {
	host, _, _ := net.SplitHostPort(o.Listen)
	if o.everywhere() {
		return ""
	}
	return host
}

// everywhere tells that the page listens on every address of the machine.
func (o Options) everywhere() bool {
	host, _, _ := net.SplitHostPort(o.Listen)
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// open tells that other machines can reach the page.
func (o Options) open() bool {
	ip := net.ParseIP(o.host())
	return o.everywhere() || o.host() != "localhost" && (ip == nil || !ip.IsLoopback())
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
