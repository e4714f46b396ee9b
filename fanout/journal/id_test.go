package journal

import (
	"cmp"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawID(t *rapid.T, label string) ID {
	return ID{
		Epoch:   rapid.Uint16().Draw(t, label+" epoch"),
		LSN:     LSN(rapid.Uint64().Draw(t, label+" lsn")),
		Ordinal: rapid.Uint32().Draw(t, label+" ordinal"),
	}
}

func TestIDSurvivesItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID(t, "id")
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Fatalf("ParseID(%q) = %v, %v, want %v", id, got, err, id)
		}
		text, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var got ID
		if err := json.Unmarshal(text, &got); err != nil || got != id {
			t.Fatalf("Unmarshal(%s) = %v, %v, want %v", text, got, err, id)
		}
	})
}

func TestIDTextHasTheDocumentedForm(t *testing.T) {
	id := ID{Epoch: 1, LSN: 0x16_B374D848, Ordinal: 2}
	if got, want := id.String(), "0001"+"00000016b374d848"+"00000002"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if id.IsZero() || !(ID{}).IsZero() {
		t.Error("IsZero tells another ID than the zero one")
	}
}

// The text and the key of an ID must sort as commits do: clients compare texts
// and the database compares keys.
func TestIDsSortInCommitOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawID(t, "a"), drawID(t, "b")
		if rapid.Bool().Draw(t, "same epoch") {
			b.Epoch = a.Epoch
		}
		if rapid.Bool().Draw(t, "same LSN") {
			b.LSN = a.LSN
		}
		want := a.Compare(b)
		if got := strings.Compare(a.String(), b.String()); got != want {
			t.Fatalf("texts of %v and %v compare %d, IDs %d", a, b, got, want)
		}
		if got := cmp.Compare(string(idKey(a)), string(idKey(b))); got != want {
			t.Fatalf("keys of %v and %v compare %d, IDs %d", a, b, got, want)
		}
	})
	order := []ID{{}, {0, 0, 1}, {0, 1, 0}, {0, 1, 9}, {1, 0, 0}}
	for i, id := range order[1:] {
		if id.Compare(order[i]) <= 0 || order[i].Compare(id) >= 0 || id.Compare(id) != 0 {
			t.Errorf("%v does not come right behind %v", id, order[i])
		}
	}
}

func TestParseIDRefusesWhatStringDoesNotPrint(t *testing.T) {
	good := ID{Epoch: 1, LSN: 0xABCDEF, Ordinal: 3}.String()
	for name, text := range map[string]string{
		"empty":        "",
		"short":        good[1:],
		"long":         good + "0",
		"upper case":   strings.ToUpper(good),
		"no digit":     "g" + good[1:],
		"space":        " " + good[1:],
		"wide letters": strings.Repeat("é", 14),
	} {
		if _, err := ParseID(text); !errors.Is(err, ErrMalformedID) {
			t.Errorf("%s: ParseID(%q) = %v, want ErrMalformedID", name, text, err)
		}
		id := ID{Ordinal: 7}
		if err := id.UnmarshalText([]byte(text)); !errors.Is(err, ErrMalformedID) || id != (ID{Ordinal: 7}) {
			t.Errorf("%s: UnmarshalText(%q) = %v and left %v", name, text, err, id)
		}
	}
}

func TestLSNSurvivesItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lsn := LSN(rapid.Uint64().Draw(t, "lsn"))
		if got, err := ParseLSN(lsn.String()); err != nil || got != lsn {
			t.Fatalf("ParseLSN(%q) = %v, %v, want %v", lsn, got, err, lsn)
		}
	})
	if got, err := ParseLSN("16/b374d848"); err != nil || got.String() != "16/B374D848" {
		t.Errorf("ParseLSN in lower case = %v, %v", got, err)
	}
}

func TestParseLSNRefusesWhatPostgreSQLDoesNotPrint(t *testing.T) {
	for _, text := range []string{
		"", "/", "16", "16/", "/B374D848", "x/y", "-1/2", "16/B374D848 ", " 16/B374D848", "16/B374D848zz",
		"16/B374D848/1", "123456789/0", "0/123456789", "16 / B374D848", "0x16/0xB3",
	} {
		if got, err := ParseLSN(text); err == nil {
			t.Errorf("ParseLSN(%q) = %s, want an error", text, got)
		}
	}
}
