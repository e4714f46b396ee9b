package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// held is ErrHeld with the number of the process, which Badger writes down.
func held(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "LOCK"))
	if pid := strings.TrimSpace(string(raw)); err == nil && pid != "" {
		return fmt.Errorf("%w, pid %s", ErrHeld, pid)
	}
	return ErrHeld // somebody looks at it, and writes nothing
}
