package site

import (
	"net/http"
	"time"
)

// mostPhones bounds one question.
const mostPhones = 50

// note is one notification as the page shows it.
type note struct {
	Title string    `json:"title"`
	Body  string    `json:"body,omitempty"`
	URL   string    `json:"url,omitempty"`
	Count int       `json:"count"`
	At    time.Time `json:"at"`
}

// listPhones gives what the telephones of the readers in question show, newest
// first.
func (s *Site) listPhones(w http.ResponseWriter, r *http.Request) {
	readers := r.URL.Query()["reader"]
	if len(readers) > mostPhones {
		readers = readers[:mostPhones]
	}
	phones := make(map[string][]note)
	for _, reader := range readers {
		notes := []note{}
		if s.cfg.Phone != nil {
			for _, n := range s.cfg.Phone(reader) {
				notes = append(notes, note{n.Title, n.Body, n.URL, n.Count, n.At})
			}
		}
		phones[reader] = notes
	}
	answer(w, http.StatusOK, map[string]any{"phones": phones})
}
