package publication

import (
	"encoding/json"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A slot can have no comment, and PostgreSQL does not keep where it was made.
// So its publication's comment tells, behind Mark, in the object that setup
// keeps there: "slots" has the position at which each was made, by its name.

// SlotMade reads from a publication's comment at which position setup made the
// slot; ok is false when it does not say.
func SlotMade(comment, slot string) (lsn string, ok bool) {
	text, ok := strings.CutPrefix(comment, Mark)
	var record struct {
		Slots map[string]string `json:"slots"`
	}
	if !ok || json.Unmarshal([]byte(text), &record) != nil {
		return "", false
	}
	lsn, ok = record.Slots[slot]
	return lsn, ok
}

// NoteSlot is the SQL that notes where the slot stands, which must have been
// made just now, with a publication that setup has made. Only its owner may.
func NoteSlot(publication, slot string) string {
	return `DO $note$
DECLARE
  mark text := ` + literal(Mark) + `;
  told text := (SELECT pg_catalog.obj_description(oid, 'pg_publication') FROM pg_catalog.pg_publication WHERE pubname = ` + literal(publication) + `);
  known jsonb := '{}';
BEGIN
  IF told LIKE mark || ' {%' THEN
    known := substr(told, length(mark) + 1)::jsonb;
  END IF;
  known := known || jsonb_build_object('slots', coalesce(known -> 'slots', '{}') ||
    (SELECT jsonb_build_object(slot_name, confirmed_flush_lsn) FROM pg_catalog.pg_replication_slots WHERE slot_name = ` + literal(slot) + `));
  EXECUTE format('COMMENT ON PUBLICATION %s IS %L', ` + literal(pgx.Identifier{publication}.Sanitize()) + `, mark || ' ' || known);
END $note$`
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
