//go:build !unix

package engine

// foreignOwner cannot be told here.
func foreignOwner(string) (string, bool) { return "", false }
