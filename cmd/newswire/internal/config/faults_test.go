package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

func TestFaultsAreSentences(t *testing.T) {
	keys := keyFiles(t)
	for _, c := range []struct {
		name, old, new string // what of the least configuration becomes what
		want           string // all that is said
	}{
		{"unknown key", "slot: newswire", "slot: newswire\n  slott: x", `newswire.yaml line 4: unknown key postgres.slott; did you mean postgres.slot?`},
		{"key of another section", "gateway:", "retention: 1h\ngateway:", `newswire.yaml line 6: unknown key retention; did you mean journal.retention?`},
		{"key in a table", "data:", "dat: [id], data:", `newswire.yaml line 5: unknown key postgres.tables[0].dat; did you mean postgres.tables[0].data?`},
		{"key like no other", "gateway:", "colour: red\ngateway:", `newswire.yaml line 6: unknown key colour; known here: postgres, journal, fanout, gateway, ack, offline, compensate, log`},
		{"missing slot", "  slot: newswire\n", "", `postgres.slot is missing: name the replication slot that newswire setup makes, such as newswire`},
		{"empty slot", "slot: newswire", "slot:", `postgres.slot is missing: name the replication slot that newswire setup makes, such as newswire`},
		{"slot's name", "slot: newswire", "slot: News-Wire", `newswire.yaml line 3: postgres.slot is "News-Wire", which PostgreSQL does not take: use 1 to 63 of a-z, 0-9 and _`},
		{"missing publication", "  publication: newswire\n", "", `postgres.publication is missing: name the publication that newswire setup makes, such as newswire`},
		{"missing dsn", "  dsn: postgres://newswire@db/cms\n", "", `postgres.dsn is missing: write how to reach the database, such as postgres://newswire@db/cms?sslmode=verify-full, or name the file that says so in postgres.dsn_file`},
		{"two dsns", "slot:", "dsn_file: x\n  slot:", `newswire.yaml line 3: postgres.dsn_file and postgres.dsn are both set: keep one of them`},
		{"no dsn file", "dsn: postgres://newswire@db/cms", "dsn_file: DIR/nothing", `newswire.yaml line 2: postgres.dsn_file cannot be read: open nothing: no such file or directory; name a file that is there and that this account may read`},
		{"duration", "gateway:", "ack: {timeout: 10}\ngateway:", `newswire.yaml line 6: ack.timeout: "10" is not a duration, such as 500ms, 10s or 72h`},
		{"number", "gateway:", "ack: {retries: two}\ngateway:", `newswire.yaml line 6: ack.retries: "two" is not a whole number`},
		{"truth", "gateway:", "offline: {tls: maybe}\ngateway:", `newswire.yaml line 6: offline.tls: "maybe" is not true or false`},
		{"list for a text", "slot: newswire", "slot: [a]", `newswire.yaml line 3: postgres.slot: want one value, a text`},
		{"text for a list", "data: [id, title]", "data: id", `newswire.yaml line 5: postgres.tables[0].data: want a list, such as [a, b]`},
		{"text for a section", "gateway:", "ack: soon\ngateway:", `newswire.yaml line 6: ack: want a mapping of keys to values`},
		{"text for a section that must be", "gateway: {auth: {hs256_secret_file: DIR/secret}}", "gateway: open", `newswire.yaml line 6: gateway: want a mapping of keys to values`},
		{"twice", "slot: newswire", "slot: newswire\n  slot: other", `newswire.yaml line 4: postgres.slot is already set in line 3; keep one of them`},
		{"not YAML", "postgres:", "postgres: [", `newswire.yaml: not YAML: line 2: did not find expected ',' or ']'`},
		{"second document", "gateway:", "---\ngateway:", "newswire.yaml line 6: a second YAML document begins here; put everything into the first"},

		{"no table", "tables: [{name: public.articles, tags: {column: tags}, data: [id, title]}]", "tables: []", `newswire.yaml line 5: postgres.tables names no table: write at least one, such as [{name: public.articles, tags: {column: tags}, data: [id, title]}]`},
		{"no schema", "public.articles", ".articles", `newswire.yaml line 5: postgres.tables[0].name is ".articles": write schema and table, such as public.articles`},
		{"no tags", "tags: {column: tags}, ", "", `postgres.tables[0].tags does not say where the tags are: write {column: tags}, or {columns: [category, section]}, or {query: SELECT …}`},
		{"two forms of tags", "{column: tags}", "{column: tags, columns: [a]}", `newswire.yaml line 5: postgres.tables[0].tags has more than one of column, columns and query: keep one of them`},
		{"no data", ", data: [id, title]", "", `postgres.tables[0].data names no column: list those that readers get, such as [id, title]`},
		{"data twice", "[id, title]", "[id, id]", `newswire.yaml line 5: postgres.tables[0].data names "id" twice: list a column once`},
		{"default tag", "data:", "default_tag: '*', data:", `newswire.yaml line 5: postgres.tables[0].default_tag is "*": write 1 to 128 bytes without control characters, not *`},
		{"published without when", "data:", "published: {column: status}, data:", `newswire.yaml line 5: postgres.tables[0].published does not say when a row is news: write {column: status, equals: published}, or {column: published_at, reached: true}`},
		{"heartbeat", "slot:", "heartbeat: -1s\n  slot:", `newswire.yaml line 3: postgres.heartbeat is -1s: write at least 100ms, such as 10s, or 0s for none`},
		{"frantic heartbeat", "slot:", "heartbeat: 1ns\n  slot:", `newswire.yaml line 3: postgres.heartbeat is 1ns: write at least 100ms, such as 10s, or 0s for none`},
		{"empty dsn file", "dsn: postgres://newswire@db/cms", "dsn_file: /dev/null", `newswire.yaml line 2: postgres.dsn_file names an empty file: write into it how to reach the database, such as postgres://newswire@db/cms?sslmode=verify-full`},

		{"shards", "gateway:", "fanout: {shards: 0}\ngateway:", `newswire.yaml line 6: fanout.shards is 0: write 1 to 1024, such as 64`},
		{"journal", "gateway:", "journal: {dir: ''}\ngateway:", `newswire.yaml line 6: journal.dir is missing: name the directory that keeps the journal, such as /var/lib/newswire`},
		{"retention", "gateway:", "journal: {retention: 3m}\ngateway:", `newswire.yaml line 6: journal.retention is 3m0s: a message waits 3m30s for its acks (ack.timeout, retries and backoff), keep it longer than that`},
		{"reserve", "gateway:", "journal: {reserve: 10}\ngateway:", `newswire.yaml line 6: journal.reserve is 10 B: write at least 64MiB, or leave it out for a twentieth of the disk`},
		{"reader_ttl", "gateway:", "ack: {reader_ttl: 1ns}\ngateway:", `newswire.yaml line 6: ack.reader_ttl is 1ns: write at least 1s, such as 720h`},
		{"timeout", "gateway:", "ack: {timeout: 99ms}\ngateway:", `newswire.yaml line 6: ack.timeout is 99ms: write at least 100ms, such as 30s`},
		{"retries", "gateway:", "ack: {retries: -1}\ngateway:", `newswire.yaml line 6: ack.retries is -1: write 0 or more, such as 2`},
		{"centuries", "gateway:", "ack: {retries: 99, backoff: 10}\ngateway:", `newswire.yaml line 6: ack.retries is 99: with ack.timeout 30s and ack.backoff 10 a message waits centuries for its acks; write less, such as 2 retries and backoff 2`},
		{"backoff", "gateway:", "ack: {backoff: 0.5}\ngateway:", `newswire.yaml line 6: ack.backoff is 0.5: write 1 or more, such as 2`},

		{"listen", "gateway: {", "gateway: {listen: '8080', ", `newswire.yaml line 6: gateway.listen is not an address to listen on, "8080": write host:port or :port, such as 127.0.0.1:8081`},
		{"one port for two", "gateway: {", "gateway: {listen: '127.0.0.1:8081', ", `gateway.admin is "127.0.0.1:8081", as gateway.listen: give it a port of its own`},
		{"origin with path", "gateway: {", "gateway: {origins: ['https://a.example/'], ", `newswire.yaml line 6: gateway.origins[0] is "https://a.example/": browsers send https://a.example`},
		{"origin with its port", "gateway: {", "gateway: {origins: ['https://A.example:443'], ", `newswire.yaml line 6: gateway.origins[0] is "https://A.example:443": browsers send https://a.example`},
		{"any origin", "gateway: {", "gateway: {origins: ['*'], ", `newswire.yaml line 6: gateway.origins[0] is "*": write scheme://host or scheme://host:port, such as https://news.example.com`},
		{"half TLS", "gateway: {", "gateway: {tls: {cert_file: x}, ", `newswire.yaml line 6: gateway.tls has only one of cert_file and key_file: give both, or none`},
		{"TLS files", "gateway: {", "gateway: {tls: {cert_file: DIR/x, key_file: DIR/y}, ", `newswire.yaml line 6: gateway.tls cannot be used: open x: no such file or directory; name a certificate and its key, both in PEM, that this account may read`},
		{"TLS version", "gateway: {", "gateway: {tls: {min_version: 1.1}, ", `newswire.yaml line 6: gateway.tls.min_version is "1.1": write 1.2 or 1.3`},
		{"PROXY from anybody", "gateway: {", "gateway: {proxy_protocol: true, ", `newswire.yaml line 6: gateway.proxy_protocol is on and gateway.trusted_proxies names nobody: list the proxies that speak it`},
		{"limit", "gateway: {", "gateway: {limits: {sessions: -1}, ", `newswire.yaml line 6: gateway.limits.sessions is -1: write 0 for no limit, or more`},
		{"proxy", "gateway: {", "gateway: {trusted_proxies: [lb], ", `newswire.yaml line 6: gateway.trusted_proxies[0] is "lb": write an address or a network, such as 10.0.0.0/8`},
		{"drain", "gateway: {", "gateway: {drain: -1s, ", `newswire.yaml line 6: gateway.drain is -1s: write more than 0s, such as 10s`},
		{"no token key", "{hs256_secret_file: DIR/secret}", "{}", `gateway.auth.hs256_secret_file is missing: name a file with at least 32 random bytes, or a PEM file in gateway.auth.public_key_file, or your identity provider's gateway.auth.jwks_url`},
		{"no secret file", "DIR/secret", "DIR/nothing", `newswire.yaml line 6: gateway.auth.hs256_secret_file cannot be read: open nothing: no such file or directory; name a file that is there and that this account may read`},
		{"short secret", "DIR/secret", "DIR/short", `newswire.yaml line 6: gateway.auth.hs256_secret_file short holds 5 bytes: a secret needs at least 32, such as openssl rand -base64 48 prints`},
		{"endless secret", "DIR/secret", "/dev/zero", `newswire.yaml line 6: gateway.auth.hs256_secret_file /dev/zero is larger than 65536 bytes: name the file that holds only the secret`},
		{"two algorithms", "DIR/secret", "DIR/secret, public_key_file: DIR/ed25519.pem", `newswire.yaml line 6: gateway.auth.public_key_file and gateway.auth.hs256_secret_file are both set: keep one of them, so that it is clear whose tokens count`},
		{"not a public key", "hs256_secret_file: DIR/secret", "public_key_file: DIR/private.pem", `newswire.yaml line 6: gateway.auth.public_key_file private.pem: "PRIVATE KEY" is not a public key; write what openssl pkey -pubout prints`},
		{"not PEM", "hs256_secret_file: DIR/secret", "public_key_file: DIR/short", `newswire.yaml line 6: gateway.auth.public_key_file short: no PEM block in it; write what openssl pkey -pubout prints`},
		{"weak RSA", "hs256_secret_file: DIR/secret", "public_key_file: DIR/rsa1024.pem", `newswire.yaml line 6: gateway.auth.public_key_file rsa1024.pem: the RSA key has 1024 bits; use at least 2048`},
		{"wrong curve", "hs256_secret_file: DIR/secret", "public_key_file: DIR/p384.pem", `newswire.yaml line 6: gateway.auth.public_key_file p384.pem: the curve is not P-256, which ES256 needs`},

		{"no broker", "gateway:", "offline: {brokers: []}\ngateway:", `newswire.yaml line 6: offline.brokers names no broker: write host:port of at least one, or [embedded]`},
		{"broker", "gateway:", "offline: {brokers: [embedded, 'kafka']}\ngateway:", `newswire.yaml line 6: offline.brokers[0] is "embedded": write host:port, or [embedded] alone` + "\n" + `newswire.yaml line 6: offline.brokers[1] is "kafka": write host:port, or [embedded] alone`},
		{"topic", "gateway:", "offline: {topic: news offline}\ngateway:", `newswire.yaml line 6: offline.topic is "news offline", which Kafka does not take: use 1 to 249 letters, digits, dots, _ and -`},
		{"embedded beside the gateway", "gateway:", "offline: {brokers: [embedded], embedded_listen: '127.0.0.1:8081'}\ngateway:", `newswire.yaml line 6: offline.embedded_listen is "127.0.0.1:8081", as gateway.admin: give it a port of its own`},
		{"embedded anywhere", "gateway:", "offline: {brokers: [embedded], embedded_listen: ':9092'}\ngateway:", `newswire.yaml line 6: offline.embedded_listen is ":9092": write the address that Kafka's clients connect to, such as 127.0.0.1:9092`},
		{"embedded TLS", "gateway:", "offline: {brokers: [embedded], tls: true}\ngateway:", `newswire.yaml line 6: offline.brokers is [embedded], which has neither TLS nor a login: leave out offline.tls and offline.sasl`},
		{"mechanism", "gateway:", "offline: {sasl: {mechanism: GSSAPI, username: u, password_file: DIR/short}}\ngateway:", `newswire.yaml line 6: offline.sasl.mechanism is "GSSAPI": write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512`},
		{"no password", "gateway:", "offline: {sasl: {mechanism: plain, username: u}}\ngateway:", `offline.sasl.password_file is missing: name the file that holds the password`},
		{"no mechanism", "gateway:", "offline: {sasl: {username: u}}\ngateway:", `offline.sasl.mechanism is missing: write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512`},
		{"level", "gateway:", "log: {level: loud}\ngateway:", `newswire.yaml line 6: log.level is "loud": write debug, info, warn or error`},
		{"format", "gateway:", "log: {format: xml}\ngateway:", `newswire.yaml line 6: log.format is "xml": write text or json`},

		{"backfill", "slot:", "backfill: 24h\n  slot:", `newswire.yaml line 3: postgres.backfill needs a table that tells since when a row is news: name the column in postgres.tables[0].time, or use published {column: …, reached: true}`},
		{"backfill and retention", "{column: tags}", "{column: tags}, time: at, data: [id]}]\n  backfill: 96h\n  heartbeat: 10s #", `journal.retention is 72h0m0s: postgres.backfill goes back 96h0m0s, keep it longer than that`},
		{"both", "data:", "published: {column: at, equals: x, reached: true}, data:", `newswire.yaml line 5: postgres.tables[0].published has both equals and reached: keep one, and write the other with its own column as postgres.tables[0].published.and`},
		{"twice reached", "data:", "published: {column: at, reached: true, and: {column: b, reached: true}}, data:", `newswire.yaml line 5: postgres.tables[0].published.and adds no condition of the other kind: write one with reached beside one with equals, and no third`},
		{"query without key", "{column: tags}", "{query: SELECT 1}", `newswire.yaml line 5: postgres.tables[0].tags.query has no $1: compare something with $1, the row's key`},
		{"links without query", "{column: tags}", "{column: tags, links: [{table: l, key: [x]}]}", `newswire.yaml line 5: postgres.tables[0].tags.links belong to a query: write {query: SELECT …, links: […]}`},
		{"link without all", "{column: tags}", "{query: SELECT $1, links: [{}]}", `postgres.tables[0].tags.links[0].table is missing: name the table that ties rows to tags, such as public.articles_tags` + "\n" + `postgres.tables[0].tags.links[0].key names no column: list those that hold the row's key, such as [article_id]`},
		{"link table", "{column: tags}", "{query: SELECT $1, links: [{table: a.b.c, key: [x]}]}", `newswire.yaml line 5: postgres.tables[0].tags.links[0].table is "a.b.c": write schema and table, such as public.articles_tags`},
		{"link twice", "{column: tags}", "{query: SELECT $1, links: [{table: l, key: [x]}, {table: l, key: [x]}]}", `newswire.yaml line 5: postgres.tables[0].tags.links[1].table is "l" a second time: list a table once`},
		{"plain JWKS", "{hs256_secret_file: DIR/secret}", "{jwks_url: 'http://id.example/keys'}", `newswire.yaml line 6: gateway.auth.jwks_url is "http://id.example/keys": write https://, so that nobody on the way can put keys of its own there; http:// is taken on loopback alone`},
		{"JWKS file", "{hs256_secret_file: DIR/secret}", "{jwks_file: DIR/short}", `newswire.yaml line 6: gateway.auth.jwks_file short is no JWKS: want {"keys":[…]}`},
		{"two sources", "DIR/secret", "DIR/secret, jwks_url: 'https://id.example/keys'", `newswire.yaml line 6: gateway.auth.jwks_url and gateway.auth.hs256_secret_file are both set: keep one of them, so that it is clear whose tokens count`},
		{"leeway", "DIR/secret", "DIR/secret, leeway: 1h", `newswire.yaml line 6: gateway.auth.leeway is 1h0m0s: write 0s to 10m`},
		{"max_ttl", "DIR/secret", "DIR/secret, max_ttl: -1s", `newswire.yaml line 6: gateway.auth.max_ttl is -1s: write 0s for any, or how long a token may live, at least 1s, such as 24h`},
		{"channel", "gateway:", "compensate: {channels: {webhook: {url: 'https://x.example/', secret_files: [s], policy: {per_hour: -1}}}}\ngateway:", `newswire.yaml line 6: compensate.channels.webhook.policy has a negative number: write 0 for the default, or more`},
		{"unusable channel", "gateway:", "compensate: {channels: {webhook: {url: x, secret_files: [s]}}}\ngateway:", `newswire.yaml line 6: compensate.channels.webhook is not usable: url is no https address without a password in it: write https://cms.example.com/hook (http needs allow_http)`},
		{"channel's key", "gateway:", "compensate: {channels: {webhook: {url: 'https://x.example/', secret_files: [s], colour: red}}}\ngateway:", `newswire.yaml line 6: unknown key compensate.channels.webhook.colour; known here: url, allow_http, secret_files, http, policy`},
		{"route without its channel", "gateway:", "compensate: {channels: {webhook: {url: 'https://x.example/', secret_files: [s]}}, routes: [{tags: [a], steps: [[sms]]}]}\ngateway:", `compensate.routes[0] names the channel "sms", which compensate.channels does not configure`},
		{"text", "gateway:", "compensate: {channels: {webhook: {url: 'https://x.example/', secret_files: [s]}}, texts: {de: {title: '{{'}}}\ngateway:", `compensate.texts.de.title is not a template: template: title:1: unclosed action`},
		{"text's key", "gateway:", "compensate: {texts: {de: {titel: x}}}\ngateway:", `newswire.yaml line 6: unknown key compensate.texts.de.titel; did you mean compensate.texts.de.title?`},
		{"lease", "gateway:", "compensate: {lease: 10ms}\ngateway:", `newswire.yaml line 6: compensate.lease is 10ms: write at least 1s, such as 15s`},
		{"device_ttl", "gateway:", "compensate: {device_ttl: 1h}\ngateway:", `newswire.yaml line 6: compensate.device_ttl is 1h0m0s: write at least 24h0m0s, such as 6480h, or 0s for never`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(least, c.old) {
				t.Fatalf("%q is not in the configuration", c.old)
			}
			_, err := load(t, strings.Replace(least, c.old, c.new, 1), nil, keys)
			if err == nil || err.Error() != c.want {
				t.Errorf("Load says\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	_, err := load(t, "postgres: {slto: x}\nack: {timeout: soon}\nlog: {level: loud}\n", map[string]string{"NEWSWIRE_ACK_RETRIES": "many"}, nil)
	want := []string{
		"newswire.yaml line 1: unknown key postgres.slto; did you mean postgres.slot?",
		`newswire.yaml line 2: ack.timeout: "soon" is not a duration, such as 500ms, 10s or 72h`,
		`NEWSWIRE_ACK_RETRIES: "many" is not a whole number`,
		"postgres.dsn is missing", "postgres.slot is missing", "postgres.publication is missing", "postgres.tables names no table",
		"gateway.auth.hs256_secret_file is missing", "newswire.yaml line 3: log.level",
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%v", len(lines), len(want), err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d is %q, want %q", i, line, want[i])
		}
	}
}

func TestFaultOfAMissingFileIsAlone(t *testing.T) {
	_, err := Load("/nowhere/newswire.yaml", func(string) string { return "" })
	const want = "read configuration: open /nowhere/newswire.yaml: no such file or directory; name another file with --config"
	if err == nil || err.Error() != want {
		t.Errorf("Load says %v, want %s", err, want)
	}
}

func TestFaultInVariableNamesIt(t *testing.T) {
	for env, want := range map[string]string{
		"NEWSWIRE_ACK_TIMEOUT=10ms":                         `NEWSWIRE_ACK_TIMEOUT: ack.timeout is 10ms: write at least 100ms, such as 30s`,
		"NEWSWIRE_POSTGRES_TABLES=[{nam: public.articles}]": `NEWSWIRE_POSTGRES_TABLES: unknown key postgres.tables[0].nam; did you mean postgres.tables[0].name?`,
		"NEWSWIRE_POSTGRES_TABLES=[":                        `NEWSWIRE_POSTGRES_TABLES: not YAML: line 1: did not find expected node content`,
		"NEWSWIRE_GATEWAY_ORIGINS=news.example.com":         `NEWSWIRE_GATEWAY_ORIGINS: gateway.origins[0] is "news.example.com": write scheme://host or scheme://host:port, such as https://news.example.com`,
		`NEWSWIRE_GATEWAY_ORIGINS=["https://a.example", x]`: `NEWSWIRE_GATEWAY_ORIGINS: gateway.origins[1] is "x": write scheme://host or scheme://host:port, such as https://news.example.com`,
		"NEWSWIRE_POSTGRES_TABLES=articles":                 `NEWSWIRE_POSTGRES_TABLES: postgres.tables: want a list, such as [a, b]`,
	} {
		name, value, _ := strings.Cut(env, "=")
		_, err := load(t, least, map[string]string{name: value}, nil)
		if first, _, _ := strings.Cut(errText(err), "\n"); first != want {
			t.Errorf("%s: %v, want %s", env, err, want)
		}
	}
}

func TestUnknownVariableIsNamed(t *testing.T) {
	err := CheckEnv([]string{
		"PATH=/bin", "NEWSWIRE_CONFIG=x", "NEWSWIRE_ACK_TIMEOUT=1s",
		"NEWSWIRE_ACK_TIMOUT=1s", "NEWSWIRE_VERBOSE=1",
		// Kubernetes sets these for services called newswire and newswire-gateway.
		"NEWSWIRE_PORT=tcp://10.0.0.1:8080", "NEWSWIRE_SERVICE_HOST=10.0.0.1", "NEWSWIRE_SERVICE_PORT_HTTP=8080",
		"NEWSWIRE_GATEWAY_PORT_8080_TCP_ADDR=10.0.0.1", "NEWSWIRE_GATEWAY_PORT=tcp://10.0.0.1:8080",
		"NEWSWIRE_GATEWAY_PORT=8080",
	})
	const want = "NEWSWIRE_ACK_TIMOUT: unknown environment variable; did you mean NEWSWIRE_ACK_TIMEOUT?\n" +
		"NEWSWIRE_GATEWAY_PORT: unknown environment variable; the names are the file's keys in capitals, such as NEWSWIRE_ACK_TIMEOUT\n" +
		"NEWSWIRE_VERBOSE: unknown environment variable; the names are the file's keys in capitals, such as NEWSWIRE_ACK_TIMEOUT"
	if errText(err) != want {
		t.Errorf("CheckEnv says\n%v\nwant\n%s", err, want)
	}
}

func TestNoPasswordIsEverPrinted(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:hunter2@db/cms",
		"postgres://u:hunter2@db:port/cms",
		"postgres://u:hunter2/x@db/cms",
		"postgres://u:x#hunter2@db/cms",
		"postgres://u:%zzhunter2@db/cms",
		"postgres://db/cms?password=hunter2&user=u",
		"postgres://db/cms?password=hunter2&connect_timeout=soon",
		"postgres://u:hunter2@db/cms?sslmode=sometimes",
		"postgres://u:hunter2@db/cms?sslmode=verify-full&sslrootcert=/nowhere",
		"postgres://u:hunter2@one:1,two:2/cms",
		"host=db password=hunter2 user=u",
		"host=db password = 'x hunter2' user=u",
		`host=db password=x\ hunter2 user=u`,
		"host=db password=x hunter2 user=u",
		"host=db password='hunter2 user=u",
		"host=db port=x PASSWORD=hunter2",
		"hunter2",
	} {
		cfg, err := load(t, least, map[string]string{"NEWSWIRE_POSTGRES_DSN": dsn, "NEWSWIRE_COMPENSATE_POSTGRES_DSN": dsn}, nil)
		if text := errText(err) + cfg.Effective(); strings.Contains(text, "hunter2") {
			t.Errorf("%s: the password is in\n%s", dsn, text)
		}
	}
	cfg, err := load(t, strings.Replace(least, "dsn: postgres://newswire@db/cms", "dsn_file: DIR/dsn", 1), nil,
		map[string]string{"dsn": "postgres://u:hunter2@db/cms"})
	if err != nil || cfg.Postgres.DSN != "postgres://u:hunter2@db/cms" {
		t.Errorf("dsn = %q, %v", cfg.Postgres.DSN, err)
	}
	if text := cfg.Effective(); strings.Contains(text, "hunter2") || strings.Contains(text, secretText) || !strings.Contains(text, "dsn_file") {
		t.Errorf("printed:\n%s", text)
	}
}

func TestWrongConnectionStringSaysWhat(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u@db:port/cms":                                     "the URL cannot be read; percent-encode special characters in the password",
		"postgres://u@db:99999/cms":                                    "the port is not a number from 1 to 65535; percent-encode special characters in the password",
		"postgres://u@db/cms?connect_timeout=soon":                     "connect_timeout is not a number of seconds",
		"postgres://u@db/cms?sslmode=sometimes":                        "the TLS settings cannot be used: sslmode is invalid",
		"postgres://u@db/cms?sslmode=verify-full&sslrootcert=/nowhere": "the TLS settings cannot be used: unable to read CA file: open /nowhere: no such file or directory",
		"just words": `write a URL, or pairs such as "host=db user=newswire dbname=cms" with quotes around what holds blanks`,
	} {
		_, err := load(t, least, map[string]string{"NEWSWIRE_POSTGRES_DSN": dsn}, nil)
		if got := "NEWSWIRE_POSTGRES_DSN: postgres.dsn is not a connection string: " + want; errText(err) != got {
			t.Errorf("%s:\n%v\nwant\n%s", dsn, err, got)
		}
	}
}

func TestPublicKeysOfEachAlgorithm(t *testing.T) {
	keys := keyFiles(t)
	for _, file := range []string{"rsa2048.pem", "p256.pem", "ed25519.pem"} {
		cfg, err := load(t, strings.Replace(least, "hs256_secret_file: DIR/secret", "public_key_file: DIR/"+file, 1), nil, keys)
		if err != nil || cfg.Gateway.Auth.PublicKeys == nil {
			t.Errorf("%s: %v, %v", file, cfg.Gateway.Auth.PublicKeys, err)
		}
	}
}

// keyFiles makes one public key of each kind, and what is none.
func keyFiles(t *testing.T) map[string]string {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0") // the weak key is made to be refused
	must := func(key any, err error) any {
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	public := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		return block("PUBLIC KEY", der, err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(edPrivate)
	return map[string]string{
		"short":       "short\n",
		"ed25519.pem": public(edPublic),
		"private.pem": block("PRIVATE KEY", private, err),
		"rsa1024.pem": public(must(rsa.GenerateKey(rand.Reader, 1024)).(*rsa.PrivateKey).Public()),
		"rsa2048.pem": public(must(rsa.GenerateKey(rand.Reader, 2048)).(*rsa.PrivateKey).Public()),
		"p256.pem":    public(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).(*ecdsa.PrivateKey).Public()),
		"p384.pem":    public(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).(*ecdsa.PrivateKey).Public()),
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
