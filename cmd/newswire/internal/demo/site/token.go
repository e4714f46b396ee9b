package site

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenTTL       = 10 * time.Minute // short, so that the page shows tokens being replaced
	maxReaderBytes = 256              // the wire protocol's limit
)

// token signs a token for whoever the page says it is: here the page plays all
// readers, so it is trusted with their names.
func (s *Site) token(w http.ResponseWriter, r *http.Request) {
	reader := r.URL.Query().Get("reader")
	if reader == "" || len(reader) > maxReaderBytes || !utf8.ValidString(reader) || strings.ContainsFunc(reader, unicode.IsControl) {
		problem(w, http.StatusBadRequest, fault{
			Code:    "bad_reader",
			Message: fmt.Sprintf("A reader's name has 1 to %d bytes and no control characters.", maxReaderBytes),
		})
		return
	}
	now := time.Now()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   reader,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(tokenTTL)),
	}).SignedString(s.cfg.Secret)
	if err != nil {
		s.log.ErrorContext(r.Context(), "token not signed", "err", err)
		problem(w, http.StatusInternalServerError, fault{Code: "not_signed", Message: "The token could not be signed."})
		return
	}
	answer(w, http.StatusOK, map[string]string{"token": signed})
}
