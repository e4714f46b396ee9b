package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"syscall"

	"newswire/cmd/newswire/internal/config"
	"newswire/gateway"
)

// Revoked is the answer to a revocation.
type Revoked struct {
	gateway.Revocation
	SessionsEnded int `json:"sessions_ended"`
}

// maxRevocationBody bounds what the admin listener reads.
const maxRevocationBody = 16 << 10

// revocationHandler serves /v1/revocations: POST makes one, GET lists those in
// force, DELETE takes one back.
func (e *engine) revocationHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/revocations", e.serveRevoke)
	mux.HandleFunc("GET /v1/revocations", func(w http.ResponseWriter, _ *http.Request) {
		all := e.gateway.Revocations()
		tell(w, http.StatusOK, map[string]any{"revocations": append([]gateway.Revocation{}, all...)})
	})
	mux.HandleFunc("DELETE /v1/revocations", func(w http.ResponseWriter, r *http.Request) {
		found, err := e.gateway.Unrevoke(r.Context(), gateway.Revocation{TokenID: r.FormValue("token_id"), Reader: r.FormValue("reader")})
		switch {
		case err != nil:
			tellFault(w, err)
		case !found:
			tellRefusal(w, http.StatusNotFound, "not_found", "no such revocation is in force")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

func (e *engine) serveRevoke(w http.ResponseWriter, r *http.Request) {
	var wanted gateway.Revocation
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRevocationBody))
	in.DisallowUnknownFields() // a misspelt condition must not revoke more than was meant
	if err := in.Decode(&wanted); err != nil {
		tellRefusal(w, http.StatusBadRequest, "bad_body", `want {"token_id":"…","expires":"<RFC 3339>"} or {"reader":"…","issued_before":"…","expires":"…"}`)
		return
	}
	made, ended, err := e.gateway.Revoke(r.Context(), wanted)
	if err != nil {
		tellFault(w, err)
		return
	}
	tell(w, http.StatusOK, Revoked{made, ended})
}

// tellFault answers with what is wrong with the wish, or with the journal.
func tellFault(w http.ResponseWriter, err error) {
	status, code := http.StatusServiceUnavailable, "unavailable"
	if wrong := new(gateway.ErrRevocation); errors.As(err, &wrong) {
		status, code = http.StatusBadRequest, "bad_revocation"
	}
	tellRefusal(w, status, code, err.Error())
}

func tellRefusal(w http.ResponseWriter, status int, code, text string) {
	tell(w, status, map[string]string{"code": code, "error": text})
}

func tell(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone, or has it
}

// Revoke has a running engine refuse tokens.
func Revoke(ctx context.Context, cfg config.Config, r gateway.Revocation) (made Revoked, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return made, fmt.Errorf("revoke: %w", err)
	}
	return made, askRevocations(ctx, cfg, http.MethodPost, "", body, &made)
}

// Unrevoke takes a revocation back.
func Unrevoke(ctx context.Context, cfg config.Config, r gateway.Revocation) error {
	query := url.Values{"token_id": {r.TokenID}, "reader": {r.Reader}}
	return askRevocations(ctx, cfg, http.MethodDelete, "?"+query.Encode(), nil, nil)
}

// Revocations gives those in force.
func Revocations(ctx context.Context, cfg config.Config) ([]gateway.Revocation, error) {
	var answer struct {
		Revocations []gateway.Revocation `json:"revocations"`
	}
	err := askRevocations(ctx, cfg, http.MethodGet, "", nil, &answer)
	return answer.Revocations, err
}

// askRevocations asks the engine on gateway.admin. Only a running one can end
// sessions, so none is done without.
func askRevocations(ctx context.Context, cfg config.Config, method, query string, body []byte, into any) error {
	at := cfg.Gateway.Admin
	req, err := http.NewRequestWithContext(ctx, method, "http://"+reachable(at)+"/v1/revocations"+query, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("revoke: no engine answers on gateway.admin %s; start it, and revoke then: it admits nobody meanwhile", at)
	}
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	var fault struct {
		Error string `json:"error"`
	}
	out := json.NewDecoder(resp.Body)
	if resp.StatusCode != http.StatusOK {
		if out.Decode(&fault) != nil || fault.Error == "" {
			return fmt.Errorf("revoke: what answers on gateway.admin %s is not this engine (%s); correct gateway.admin", at, resp.Status)
		}
		return fmt.Errorf("revoke: %s", fault.Error)
	}
	if err := out.Decode(into); err != nil {
		return fmt.Errorf("revoke: what answers on gateway.admin %s is not this engine (%s); correct gateway.admin", at, resp.Status)
	}
	return nil
}
