package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"newswire/gateway/tokens"
)

func (g *Gateway) load(c *checker) {
	if g.TLS.CertFile != "" && g.TLS.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(g.TLS.CertFile, g.TLS.KeyFile); err != nil {
			c.fault("gateway.tls", "cannot be used: %s; name a certificate and its key, both in PEM, that this account may read", oneLine(err))
		}
	}
	g.Auth.load(c)
}

func (a *Auth) load(c *checker) {
	if file := a.HS256SecretFile; file != "" {
		if secret, ok := c.readFile("gateway.auth.hs256_secret_file", file); ok {
			a.HS256Secret = secret
		}
	}
	var err error
	if file := a.PublicKeyFile; file != "" {
		if text, ok := c.readFile("gateway.auth.public_key_file", file); ok {
			if a.PublicKeys, err = tokens.ParsePEM(text); err != nil {
				c.fault("gateway.auth.public_key_file", "%s: %s", file, err)
			}
		}
	}
	if file := a.JWKSFile; file != "" {
		if text, ok := c.readFile("gateway.auth.jwks_file", file); ok {
			if err := tokens.CheckJWKS(text); err != nil {
				c.fault("gateway.auth.jwks_file", "%s %s", file, err)
			}
		}
	}
}

func (g *Gateway) check(c *checker) {
	c.listenAddress("gateway.listen", g.Listen)
	c.listenAddress("gateway.admin", g.Admin)
	c.ownPort("gateway.admin", g.Admin, "gateway.listen", g.Listen)
	for i, origin := range g.Origins {
		if remedy := originFault(origin); remedy != "" {
			c.fault(fmt.Sprintf("gateway.origins[%d]", i), "is %q: %s", origin, remedy)
		}
	}
	if (g.TLS.CertFile == "") != (g.TLS.KeyFile == "") {
		c.fault("gateway.tls", "has only one of cert_file and key_file: give both, or none")
	}
	c.oneOf("gateway.tls.min_version", g.TLS.MinVersion, "1.2", "1.3")
	if g.ProxyProtocol && len(g.TrustedProxies) == 0 {
		c.fault("gateway.proxy_protocol", "is on and gateway.trusted_proxies names nobody: list the proxies that speak it")
	}
	g.Auth.check(c)
	g.Limits.check(c)
	for i, proxy := range g.TrustedProxies {
		_, addrErr := netip.ParseAddr(proxy)
		_, prefixErr := netip.ParsePrefix(proxy)
		if addrErr != nil && prefixErr != nil {
			c.fault(fmt.Sprintf("gateway.trusted_proxies[%d]", i), "is %q: write an address or a network, such as 10.0.0.0/8", proxy)
		}
	}
	if g.Drain <= 0 {
		c.fault("gateway.drain", "is %s: write more than 0s, such as 10s", g.Drain)
	}
}

func (a *Auth) check(c *checker) {
	const secretKey = "gateway.auth.hs256_secret_file"
	secret := a.HS256SecretFile != "" || a.HS256Secret != nil
	var given []string // sources of keys, of which there is to be one
	for key, set := range map[string]bool{
		secretKey:                      secret,
		"gateway.auth.public_key_file": a.PublicKeyFile != "" || a.PublicKeys != nil,
		"gateway.auth.jwks_file":       a.JWKSFile != "",
		"gateway.auth.jwks_url":        a.JWKSURL != "",
	} {
		if set {
			given = append(given, key)
		}
	}
	slices.Sort(given)
	switch {
	case len(given) > 1:
		c.fault(given[len(given)-1], "and %s are both set: keep one of them, so that it is clear whose tokens count", given[0])
	case len(given) == 0:
		c.fault(secretKey, "is missing: name a file with at least %d random bytes, or a PEM file in gateway.auth.public_key_file, or your identity provider's gateway.auth.jwks_url", tokens.MinSecretBytes)
	case secret && len(a.HS256Secret) < tokens.MinSecretBytes:
		c.fault(secretKey, "%s holds %d bytes: a secret needs at least %d, such as openssl rand -base64 48 prints",
			a.HS256SecretFile, len(a.HS256Secret), tokens.MinSecretBytes)
	}
	if a.JWKSURL != "" {
		if err := tokens.CheckJWKSURL(a.JWKSURL); err != nil {
			c.fault("gateway.auth.jwks_url", "%s", err)
		}
	}
	if a.Leeway < 0 || a.Leeway > 10*time.Minute {
		c.fault("gateway.auth.leeway", "is %s: write 0s to 10m", a.Leeway)
	}
	if a.MaxTTL != 0 && a.MaxTTL < time.Second {
		c.fault("gateway.auth.max_ttl", "is %s: write 0s for any, or how long a token may live, at least 1s, such as 24h", a.MaxTTL)
	}
}

// Least is the least version, as crypto/tls names it.
func (t TLS) Least() uint16 {
	if t.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// Tokens is what their verifier needs to know.
func (a Auth) Tokens() tokens.Config {
	return tokens.Config{
		Secret: a.HS256Secret, SecretFile: a.HS256SecretFile, PublicKeys: a.PublicKeys, PublicKeyFile: a.PublicKeyFile,
		JWKSFile: a.JWKSFile, JWKSURL: a.JWKSURL, Issuer: a.Issuer, Audience: a.Audience, Leeway: a.Leeway, MaxTTL: a.MaxTTL,
	}
}

func (l Limits) check(c *checker) {
	c.notNegative("gateway.limits.sessions", l.Sessions)
	c.notNegative("gateway.limits.sessions_per_reader", l.SessionsPerReader)
	c.notNegative("gateway.limits.sessions_per_ip", l.SessionsPerIP)
	c.notNegative("gateway.limits.handshakes_per_second", l.HandshakesPerSecond)
	c.notNegative("gateway.limits.frames_per_second", l.FramesPerSecond)
	c.notNegative("gateway.limits.tags_per_reader", l.TagsPerReader)
}

// originFault says what a page's origin should look like; empty when it is as
// a browser sends it, since it is compared byte for byte.
func originFault(origin string) (remedy string) {
	const want = "write scheme://host or scheme://host:port, such as https://news.example.com"
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.Contains(origin, "*") {
		return want
	}
	exact := strings.ToLower(u.Scheme + "://" + u.Host)
	if port := u.Port(); (u.Scheme == "https" && port == "443") || (u.Scheme == "http" && port == "80") {
		exact = strings.TrimSuffix(exact, ":"+port) // browsers leave out the scheme's own port
	}
	if origin != exact {
		return "browsers send " + exact
	}
	if _, port, err := net.SplitHostPort(u.Host); err == nil && port == "" {
		return want
	}
	return ""
}
