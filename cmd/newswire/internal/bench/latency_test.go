//go:build linux

package bench

import (
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// Every article is found once in what pg_recvlogical prints, wherever the pipe
// breaks, and those from before the measurement are left out.
func TestArticlesAreFoundInThePipe(t *testing.T) {
	const count = 50
	from := time.Now().UnixNano()
	var printed strings.Builder
	for n := range count + 1 {
		at := from + int64(n)
		if n == 0 {
			at = from - 1
		}
		fmt.Fprintf(&printed, "I\x00\x00news and more "+titleFormat+" https://news.example.com/a\n", n, at)
	}
	d, err := readPipe(iotest.OneByteReader(strings.NewReader(printed.String())), from, count)
	if err != nil || len(d) != count {
		t.Errorf("found %d articles, %v; want %d", len(d), err, count)
	}
	if _, err := readPipe(strings.NewReader(printed.String()), from, count+1); err == nil {
		t.Error("a pipe that ends early is no error")
	}
}
