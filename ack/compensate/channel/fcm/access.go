package fcm

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

const (
	scope         = "https://www.googleapis.com/auth/firebase.messaging"
	assertionLife = time.Hour   // the longest that Google takes
	spare         = time.Minute // a token is renewed before it ends
	mostTokenLife = 12 * time.Hour
)

// account is a service account.
type account struct {
	project  string
	email    string
	keyID    string
	key      *rsa.PrivateKey
	tokenURL string
}

// readAccount reads the JSON that Google gives for a service account.
func readAccount(file string) (account, error) {
	text, err := wire.ReadSecret("credentials_file", file)
	if err != nil {
		return account{}, err
	}
	var f struct {
		Type         string `json:"type"`
		ProjectID    string `json:"project_id"`
		PrivateKeyID string `json:"private_key_id"`
		PrivateKey   string `json:"private_key"`
		ClientEmail  string `json:"client_email"`
		TokenURI     string `json:"token_uri"`
	}
	if json.Unmarshal(text, &f) != nil { // its error would quote the key
		return account{}, fmt.Errorf("credentials_file %s is no JSON: put the service account's file there", file)
	}
	if f.Type != "service_account" || f.ClientEmail == "" {
		return account{}, fmt.Errorf("credentials_file %s is of no service account: create a key for one in the Firebase console", file)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(f.PrivateKey))
	if err != nil {
		return account{}, fmt.Errorf("credentials_file %s holds no RSA key: download it again", file)
	}
	if f.TokenURI == "" {
		f.TokenURI = "https://oauth2.googleapis.com/token"
	}
	if u, err := url.Parse(f.TokenURI); err != nil || u.Scheme != "https" || u.Host == "" {
		return account{}, fmt.Errorf("credentials_file %s: token_uri is no https address", file)
	}
	return account{f.ProjectID, f.ClientEmail, f.PrivateKeyID, key, f.TokenURI}, nil
}

// access keeps one access token for all requests.
type access struct {
	account account          // fixed
	client  *wire.Client     // fixed
	now     func() time.Time // fixed

	turn  chan struct{} // holds one: who has taken it owns the rest
	value string
	made  time.Time
	until time.Time
}

func newAccess(a account, client *wire.Client, now func() time.Time) *access {
	x := &access{account: a, client: client, now: now, turn: make(chan struct{}, 1)}
	x.turn <- struct{}{}
	return x
}

// token gives a token that is good for a while, and fetches one where there is
// none. Requests wait for one exchange together, each no longer than its own
// context. Without a token, the result says why.
func (x *access) token(ctx context.Context) (string, *channel.Result) {
	select {
	case <-x.turn:
	case <-ctx.Done():
		return "", &channel.Result{Outcome: channel.Temporary, Reason: "oauth_timeout", Detail: "no access token in time", Everybody: true}
	}
	defer func() { x.turn <- struct{}{} }()
	if now := x.now(); x.value != "" && now.Before(x.until) && !now.Before(x.made) {
		return x.value, nil
	}
	value, life, refused := x.fetch(ctx)
	if refused != nil {
		return "", refused
	}
	x.value, x.made = value, x.now()
	x.until = x.made.Add(max(life-spare, life/2))
	return value, nil
}

// forget throws a token away that Google did not take. Another request may
// have fetched a new one meanwhile, which stays.
func (x *access) forget(token string) {
	<-x.turn
	defer func() { x.turn <- struct{}{} }()
	if x.value == token {
		x.value = ""
	}
}

// fetch exchanges a signed assertion for an access token: RFC 7523.
func (x *access) fetch(ctx context.Context) (string, time.Duration, *channel.Result) {
	now := x.now()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": x.account.email, "scope": scope, "aud": x.account.tokenURL, "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	t.Header["kid"] = x.account.keyID
	assertion, err := t.SignedString(x.account.key)
	if err != nil {
		return "", 0, refusal("oauth_key", "sign the assertion: "+err.Error())
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	a, lost := x.client.Do(ctx, wire.Request{
		Method: http.MethodPost, URL: x.account.tokenURL, Body: []byte(form.Encode()),
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}},
	})
	if lost != nil { // no message was sent yet: nothing is in doubt
		return "", 0, refusal("oauth_"+lost.Reason, "fetch the access token: "+lost.Detail)
	}
	value, life, err := parseToken(a)
	if err != nil {
		r := refusal("oauth_refused", err.Error())
		r.RetryAfter = a.RetryAfter(now)
		return "", 0, r
	}
	return value, life, nil
}

func refusal(reason, detail string) *channel.Result {
	return &channel.Result{Outcome: channel.Temporary, Reason: reason, Detail: wire.Words(detail), Everybody: true}
}

// parseToken reads the answer of the token endpoint: RFC 6749 §5.
func parseToken(a wire.Answer) (string, time.Duration, error) {
	var body struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int64  `json:"expires_in"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	whole := a.JSON(&body)
	if a.Status != http.StatusOK {
		return "", 0, fmt.Errorf("the token endpoint answered %d %s %s", a.Status, body.Error, body.Description)
	}
	if !whole || body.AccessToken == "" || !visible(body.AccessToken) {
		return "", 0, errors.New("the token endpoint's answer holds no access token")
	}
	life := time.Duration(min(max(body.ExpiresIn, 0), int64(mostTokenLife/time.Second))) * time.Second
	return body.AccessToken, life, nil
}

// visible tells whether a token may stand in a header.
func visible(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}
