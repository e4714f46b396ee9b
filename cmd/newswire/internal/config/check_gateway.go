package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

const (
	minSecretBytes = 32   // RFC 7518 wants a key as long as HS256's hash
	minRSABits     = 2048 // RFC 7518 wants no less for RS256
)

func (g *Gateway) load(c *checker) {
	if g.TLS.CertFile != "" && g.TLS.KeyFile != "" {
		if _, err := tls.LoadX509KeyPair(g.TLS.CertFile, g.TLS.KeyFile); err != nil {
			c.fault("gateway.tls", "cannot be used: %s", oneLine(err))
		}
	}
	if file := g.Auth.HS256SecretFile; file != "" {
		if secret, ok := c.readFile("gateway.auth.hs256_secret_file", file); ok {
			g.Auth.HS256Secret = secret
		}
	}
	if file := g.Auth.PublicKeyFile; file != "" {
		text, ok := c.readFile("gateway.auth.public_key_file", file)
		if !ok {
			return
		}
		key, err := parsePublicKey(text)
		if err != nil {
			c.fault("gateway.auth.public_key_file", "%s: %s", file, err)
		}
		g.Auth.PublicKey = key
	}
}

func (g *Gateway) check(c *checker) {
	c.listenAddress("gateway.listen", g.Listen)
	c.listenAddress("gateway.admin", g.Admin)
	if g.Listen == g.Admin && !strings.HasSuffix(g.Admin, ":0") {
		c.fault("gateway.admin", "is %q, as gateway.listen: give it a port of its own", g.Admin)
	}
	for i, origin := range g.Origins {
		if remedy := originFault(origin); remedy != "" {
			c.fault(fmt.Sprintf("gateway.origins[%d]", i), "is %q: %s", origin, remedy)
		}
	}
	if (g.TLS.CertFile == "") != (g.TLS.KeyFile == "") {
		c.fault("gateway.tls", "has only one of cert_file and key_file: give both, or none")
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
	c.notServed(a.JWKSURL != "", "gateway.auth.jwks_url", "save the key as PEM and name it in gateway.auth.public_key_file")
	c.notServed(a.Anonymous, "gateway.auth.anonymous", "leave it at false and give every reader a token")
	secret := a.HS256SecretFile != "" || a.HS256Secret != nil
	public := a.PublicKeyFile != "" || a.PublicKey != nil
	switch {
	case secret && public:
		c.fault("gateway.auth.public_key_file", "and %s are both set: keep one of them, tokens have one algorithm", secretKey)
	case !secret && !public && a.JWKSURL == "":
		c.fault(secretKey, "is missing: name a file with at least %d random bytes, or a PEM file in gateway.auth.public_key_file", minSecretBytes)
	case secret && len(a.HS256Secret) < minSecretBytes:
		c.fault(secretKey, "%s holds %d bytes: a secret needs at least %d, such as openssl rand -base64 48 prints",
			a.HS256SecretFile, len(a.HS256Secret), minSecretBytes)
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

// parsePublicKey reads the first PEM block: a public key or a certificate.
func parsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block in it; write what openssl pkey -pubout prints")
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		return nil, fmt.Errorf("%q is not a public key; write what openssl pkey -pubout prints", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %s", oneLine(err))
	}
	return usableKey(key)
}

// usableKey lets pass the keys that an algorithm of ours belongs to.
func usableKey(key crypto.PublicKey) (crypto.PublicKey, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("the RSA key has %d bits; use at least %d", k.N.BitLen(), minRSABits)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("the curve is not P-256, which ES256 needs")
		}
	case ed25519.PublicKey:
	default:
		return nil, errors.New("the key is not RSA, P-256 or Ed25519")
	}
	return key, nil
}
