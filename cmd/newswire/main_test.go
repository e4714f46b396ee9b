package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"newswire/cmd/newswire/internal/config"
	"newswire/fanout/journal"
)

const secret = "0123456789abcdef0123456789abcdef"

const least = `postgres:
  dsn: postgres://newswire@db/cms
  slot: newswire
  publication: newswire
  tables: [{name: public.articles, tags: {column: tags}, data: [id, title]}]
gateway: {auth: {hs256_secret_file: secret}}
`

// call runs the program in a directory that holds the given configuration and
// a secret.
func call(t *testing.T, configuration string, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	contents := map[string]string{"secret": secret + "\n"}
	if configuration != "" {
		contents["newswire.yaml"] = configuration
	}
	for name, text := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	code = run(t.Context(), args, environ, &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongCallsAreOneSentenceAndCodeTwo(t *testing.T) {
	const commands = "audit, backup, bench, compensate, config, demo, doctor, migrate, restore, resync, revoke, serve, setup, slot, tail, teardown, token, version"
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `name a command after "newswire": ` + commands},
		{[]string{"srve"}, `unknown command "srve"; did you mean "newswire serve"?`},
		{[]string{"upgrade"}, `unknown command "upgrade"; there are: ` + commands},
		{[]string{"backup"}, `newswire backup takes the name of one file, such as newswire backup /var/backups/newswire.backup`},
		{[]string{"config"}, `name a command after "newswire config": check`},
		{[]string{"config", "chekc"}, `unknown command "chekc"; did you mean "newswire config check"?`},
		{[]string{"serve", "now"}, `newswire serve takes no argument, but was given "now"`},
		{[]string{"serve", "--fast"}, "newswire serve: unknown flag: --fast; `newswire serve --help` lists what it takes"},
		{[]string{"token"}, `name the reader with --reader, such as --reader u1`},
		{[]string{"token", "--reader", "a\nb"}, `--reader "a\nb": a reader's name has 1 to 256 bytes and no control characters`},
		{[]string{"token", "--reader", "u1", "--ttl", "0s"}, `--ttl 0s: a token lives for at least 1s`},
		{[]string{"token", "--reader", "u1", "--tags", "tech,a\tb"}, `--tags "a\tb": a tag has 1 to 128 bytes and no control characters`},
		{[]string{"revoke"}, `name either a reader with --reader or a token with --token-id`},
		{[]string{"revoke", "--token-id", "a", "--issued-before", "1h"}, `--issued-before belongs to --reader: a token is refused whenever it was issued`},
		{[]string{"revoke", "--reader", "u1", "--issued-before", "soon"}, `--issued-before "soon" is neither a time such as 2026-11-23T09:41:00Z nor an age such as 2h`},
		{[]string{"revoke", "--reader", "u1", "--issued-before", "2999-01-01T00:00:00Z"}, `--issued-before 2999-01-01T00:00:00Z lies ahead: tokens that are signed until then would be refused too`},
		{[]string{"revoke", "--list", "--reader", "u1"}, `--list only lists: give it alone`},
		{[]string{"tail", "--from", "yesterday"}, `--from "yesterday": malformed message id: want 28 lower-case hexadecimal digits`},
		{[]string{"tail", "--url", "push.example.com"}, `--url: "push.example.com" is not the URL of a gateway: want something like https://push.example.com`},
		{[]string{"tail", "--token-file", "t"}, `--token-file is a reader's, for --url; without that the journal of this machine is printed`},
		{[]string{"serve", "--config", "other.yaml"}, `read configuration: open other.yaml: no such file or directory; name another file with --config`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := call(t, least, nil, c.args...)
			if want := "newswire: " + c.want + "\n"; code != exitUsage || stderr != want || stdout != "" {
				t.Errorf("code %d, %q on stdout, on stderr\n%swant code 2 and\n%s", code, stdout, stderr, want)
			}
		})
	}
}

func TestWrongConfigurationIsCodeTwoInEveryCommand(t *testing.T) {
	wrong := strings.Replace(least, "  slot: newswire\n", "", 1)
	for _, args := range [][]string{{"serve"}, {"setup"}, {"teardown"}, {"config", "check"}} {
		code, stdout, stderr := call(t, wrong, []string{"NEWSWIRE_ACK_TIMOUT=1s"}, args...)
		const want = "newswire: postgres.slot is missing: name the replication slot that newswire setup makes, such as newswire\n" +
			"newswire: NEWSWIRE_ACK_TIMOUT: unknown environment variable; did you mean NEWSWIRE_ACK_TIMEOUT?\n"
		if code != exitUsage || stdout != "" || stderr != want {
			t.Errorf("%v: code %d, stdout %q, stderr\n%swant\n%s", args, code, stdout, stderr, want)
		}
	}
}

func TestAFileThatCannotBeOpenedIsNamedWithWhatToDo(t *testing.T) {
	for command, remedy := range map[string]string{
		"restore": "name a file that `newswire backup` has made and that this account may read",
		"backup":  "name a file that this account may write, in a directory that is there",
	} {
		code, _, stderr := call(t, least, nil, command, "nowhere/x")
		if want := "newswire: " + command + ": open nowhere/x: no such file or directory: " + remedy + "\n"; code != exitFailed || stderr != want {
			t.Errorf("%s: code %d, %swant code 1 and %s", command, code, stderr, want)
		}
	}
}

func TestNoConfigurationIsOneSentence(t *testing.T) {
	code, _, stderr := call(t, "", []string{"PATH=/bin"}, "serve")
	const want = "newswire: no configuration: there is no newswire.yaml in this directory and no NEWSWIRE_ variable; name the file with --config\n"
	if code != exitUsage || stderr != want {
		t.Errorf("code %d, %s", code, stderr)
	}
}

func TestConfigCheck(t *testing.T) {
	code, stdout, stderr := call(t, least, nil, "config", "check")
	if code != exitDone || stdout != "The configuration from newswire.yaml can be served.\n" || stderr != "" {
		t.Errorf("code %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = call(t, "", []string{
		"NEWSWIRE_POSTGRES_DSN=postgres://newswire:hunter2@db/cms", "NEWSWIRE_POSTGRES_SLOT=s", "NEWSWIRE_POSTGRES_PUBLICATION=p",
		"NEWSWIRE_POSTGRES_TABLES=[{name: a.b, tags: {column: c}, data: [d]}]", "NEWSWIRE_GATEWAY_AUTH_HS256_SECRET_FILE=secret",
	}, "config", "check", "--print")
	if code != exitDone || stderr != "" || !strings.Contains(stdout, "dsn: postgres://newswire:xxxxx@db/cms\n") ||
		strings.Contains(stdout, "hunter2") || strings.Contains(stdout, secret) {
		t.Errorf("code %d, %q,\n%s", code, stderr, stdout)
	}
}

func TestConfigurationIsFoundByFlagThenVariableThenName(t *testing.T) {
	other := strings.Replace(least, "slot: newswire", "slot: other", 1)
	for _, c := range []struct {
		environ, args []string
		want          string
	}{
		{nil, nil, "slot: newswire\n"},
		{[]string{"NEWSWIRE_CONFIG=other.yaml"}, nil, "slot: other\n"},
		{[]string{"NEWSWIRE_CONFIG=nothing.yaml"}, []string{"--config", "other.yaml"}, "slot: other\n"},
		{[]string{"NEWSWIRE_POSTGRES_SLOT=variable"}, nil, "slot: variable\n"},
	} {
		dir := t.TempDir()
		t.Chdir(dir)
		for name, text := range map[string]string{"secret": secret, "newswire.yaml": least, "other.yaml": other} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"config", "check", "--print"}, c.args...), c.environ, &out, &errs)
		if code != exitDone || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v %v: code %d, no %q in\n%s%s", c.environ, c.args, code, c.want, &out, &errs)
		}
	}
}

func TestTokenSaysWhatWasAsked(t *testing.T) {
	configured := strings.Replace(least, "auth: {", "auth: {issuer: cms, audience: readers, ", 1)
	before := time.Now().Truncate(time.Second)
	code, stdout, stderr := call(t, configured, nil, "token", "--reader", "u1", "--ttl", "10m", "--tags", "tech,sport:*")
	if code != exitDone || stderr != "" {
		t.Fatalf("code %d, %s", code, stderr)
	}
	token, err := jwt.Parse(strings.TrimSpace(stdout), func(*jwt.Token) (any, error) { return []byte(secret), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("cms"), jwt.WithAudience("readers"),
		jwt.WithSubject("u1"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		t.Fatal(err)
	}
	claims := token.Claims.(jwt.MapClaims)
	if tags, _ := claims["tags"].([]any); !slices.Equal(tags, []any{"tech", "sport:*"}) {
		t.Errorf("tags = %v", claims["tags"])
	}
	if expires, _ := claims.GetExpirationTime(); expires.Sub(before) < 10*time.Minute || expires.Sub(before) > 11*time.Minute {
		t.Errorf("expires %s after %s, want 10m later", expires, before)
	}
}

func TestTokenWithoutTagsLimitsNothing(t *testing.T) {
	for _, c := range []struct {
		args []string
		want any
	}{
		{nil, nil},
		{[]string{"--tags", ""}, []any{}},
	} {
		_, stdout, stderr := call(t, least, nil, append([]string{"token", "--reader", "u1"}, c.args...)...)
		claims := make(jwt.MapClaims)
		if _, _, err := jwt.NewParser().ParseUnverified(strings.TrimSpace(stdout), claims); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		if got, want := fmt.Sprint(claims["tags"]), fmt.Sprint(c.want); got != want {
			t.Errorf("%v: tags = %s, want %s", c.args, got, want)
		}
	}
}

func TestTokenNeedsASecret(t *testing.T) {
	_, err := tokenRequest{reader: "u1", ttl: time.Hour}.sign(config.Auth{PublicKeyFile: "id.pem"}, time.Now())
	if err == nil || !strings.HasPrefix(err.Error(), "gateway.auth.hs256_secret_file is not set: ") {
		t.Errorf("sign without a secret: %v", err)
	}
}

func TestVersionNamesModuleRevisionAndGo(t *testing.T) {
	code, stdout, _ := call(t, "", nil, "version")
	if code != exitDone || !strings.HasPrefix(stdout, "newswire ") || !strings.Contains(stdout, " go1.") {
		t.Errorf("code %d, %q", code, stdout)
	}
	line := versionLine(&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"},
	}})
	if !strings.HasPrefix(line, "newswire v1.2.3 (revision abc, modified) go1.") {
		t.Errorf("version = %q", line)
	}
}

func TestHelpIsAsked(t *testing.T) {
	code, stdout, stderr := call(t, "", nil, "help", "serve")
	if code != exitDone || stderr != "" || !strings.Contains(stdout, "--config") {
		t.Errorf("code %d, %q, %q", code, stdout, stderr)
	}
}

func TestSentencesAreOnePerFault(t *testing.T) {
	joined := errors.Join(errors.New("a"), errors.Join(errors.New("b\n  more of b"), errors.New("c")))
	got := sentences(failure{usageError{joined}})
	if want := []string{"a", "b; more of b", "c"}; !slices.Equal(got, want) {
		t.Errorf("sentences = %q, want %q", got, want)
	}
	wrapped := fmt.Errorf("preflight: %w", joined)
	if got := sentences(wrapped); len(got) != 1 || got[0] != "preflight: a; b; more of b; c" {
		t.Errorf("sentences of a wrapped join = %q", got)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{failure{errors.New("server said no")}, exitFailed},
		{failure{usageError{errors.New("no such key")}}, exitUsage},
		{errors.New("what cobra refuses"), exitUsage},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestLoggerSpeaksAsConfigured(t *testing.T) {
	var errs bytes.Buffer
	p := &program{stderr: &errs}
	log := p.logger(config.Log{Level: "warn", Format: "json"})
	log.InfoContext(context.Background(), "unheard")
	log.WarnContext(context.Background(), "heard", "slot", "newswire", "lsn", journal.LSN(0x1980540))
	var line map[string]any
	if err := json.Unmarshal(errs.Bytes(), &line); err != nil || line["msg"] != "heard" || line["slot"] != "newswire" || line["lsn"] != "0/1980540" {
		t.Errorf("logged %q: %v", errs.String(), err)
	}
}
