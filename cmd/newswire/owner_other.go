//go:build !unix

package main

import "os"

// owns tells whether the file exists.
func owns(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
