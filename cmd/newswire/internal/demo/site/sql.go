package site

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	statementTimeout = 5 * time.Second
	// sqlTimeout ends also what sets statement_timeout to something else.
	sqlTimeout  = statementTimeout + time.Second
	maxSQLBytes = 4 << 20
)

// sql runs exactly the text it is given, as the editor would in psql: several
// statements are one transaction unless they say otherwise.
func (s *Site) sql(w http.ResponseWriter, r *http.Request) {
	// A form of another site's page cannot send this type, whatever it is called.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, fault{Code: "not_json", Message: "Send application/json."})
		return
	}
	var body struct {
		SQL string `json:"sql"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSQLBytes)).Decode(&body); err != nil {
		problem(w, http.StatusBadRequest, fault{Code: "bad_body", Message: `Send {"sql": "…"} of at most 4 MiB.`})
		return
	}
	select {
	case s.editor <- struct{}{}:
		defer func() { <-s.editor }()
	case <-r.Context().Done():
		return
	}
	start := time.Now()
	tags, err := runSQL(r.Context(), s.cfg.EditorDSN, body.SQL)
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, explain(err))
		return
	}
	answer(w, http.StatusOK, struct {
		Tags []string `json:"tags"` // one for each statement, such as INSERT 0 1
		Ms   int64    `json:"ms"`
	}{tags, time.Since(start).Milliseconds()})
}

// runSQL uses a connection of its own, so that nothing set or left open by one
// text is there for the next.
func runSQL(ctx context.Context, dsn, sql string) (tags []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["application_name"] = "newswire demo editor"
	cfg.RuntimeParams["statement_timeout"] = statementTimeout.String()
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		// In a transaction left open this is the rollback.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	results, err := conn.Exec(ctx, sql).ReadAll()
	tags = []string{}
	for _, result := range results {
		if tag := result.CommandTag.String(); tag != "" { // an empty statement has none
			tags = append(tags, tag)
		}
	}
	return tags, err
}

// explain tells PostgreSQL's own words where it has said any.
func explain(err error) fault {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return fault{Code: refused.Code, Message: refused.Message, Detail: refused.Detail, Hint: refused.Hint}
	case errors.Is(err, context.DeadlineExceeded):
		return fault{Code: "timeout", Message: "PostgreSQL did not answer within " + sqlTimeout.String() + "."}
	}
	return fault{Code: "unreachable", Message: "PostgreSQL cannot be reached: " + err.Error()}
}
