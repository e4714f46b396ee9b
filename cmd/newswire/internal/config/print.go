package config

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"
)

// mask stands where a password was.
const mask = "xxxxx"

// Effective prints the configuration in force as YAML that Load takes again:
// every key, defaults included, durations as Go prints them. Passwords are
// masked; what came from a file is shown as the file's name.
func (c Config) Effective() string {
	if c.Postgres.DSNFile != "" {
		c.Postgres.DSN = ""
	}
	c.Postgres.DSN = maskDSN(c.Postgres.DSN)
	if c.Compensate.Postgres.DSNFile != "" {
		c.Compensate.Postgres.DSN = ""
	}
	c.Compensate.Postgres.DSN = maskDSN(c.Compensate.Postgres.DSN)
	var text strings.Builder
	out := yaml.NewEncoder(&text)
	out.SetIndent(2)
	if err := out.Encode(c); err != nil {
		return "# " + oneLine(err) + "\n" // a channel's value that YAML has no form for
	}
	return text.String()
}

// secretPair matches a password among keyword/value pairs, quoted or not.
var secretPair = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)+)`)

// maskDSN replaces the passwords in a connection string. One that cannot be
// taken apart is masked whole.
func maskDSN(dsn string) string {
	if dsn == "" {
		return ""
	}
	if _, err := pgx.ParseConfig(dsn); err != nil {
		return mask
	}
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return secretPair.ReplaceAllString(dsn, "${1}"+mask)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return mask
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), mask)
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, mask)
		}
	}
	if len(query) > 0 {
		u.RawQuery = query.Encode()
	}
	return u.String()
}
