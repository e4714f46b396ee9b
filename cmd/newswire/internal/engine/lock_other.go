//go:build !unix

package engine

import "os"

func lock(*os.File) error { return nil }
