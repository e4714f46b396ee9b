package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, printed and read as people write it: 900 MiB.
type Size int64

var sizeUnits = []string{"B", "KiB", "MiB", "GiB", "TiB"}

// String gives about three digits.
func (s Size) String() string {
	if s < 0 {
		return "-" + (-s).String()
	}
	n, last := float64(s), len(sizeUnits)-1
	for i, unit := range sizeUnits {
		switch {
		case n < 1024 && (i == 0 || n >= 100 && i < last):
			return fmt.Sprintf("%.0f %s", n, unit)
		case n < 1024 || i == last:
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		n /= 1024
	}
	panic("unreachable")
}

// MarshalYAML gives what ParseSize reads, nothing lost.
func (s Size) MarshalYAML() (any, error) {
	for i := len(sizeUnits) - 1; i > 0; i-- {
		if unit := Size(1) << (10 * i); s != 0 && s%unit == 0 {
			return fmt.Sprintf("%d%s", s/unit, sizeUnits[i]), nil
		}
	}
	return int64(s), nil
}

// ParseSize reads a number of bytes with or without a unit, such as 512MiB or
// 2 GB.
func ParseSize(text string) (Size, error) {
	digits := strings.TrimRight(text, "BbKkMmGgTtIi ")
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	factor, known := map[string]float64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[unit]
	if err != nil || !known || !(n >= 0 && n*factor < 1<<62) {
		return 0, fmt.Errorf("%.40q is no size, such as 512MiB", text)
	}
	return Size(n * factor), nil
}
