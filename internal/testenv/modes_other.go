//go:build !unix

package testenv

import (
	"io/fs"
	"path/filepath"
	"testing"
)

// Umask does nothing: files have no modes here.
func Umask(testing.TB, int) {}

// Private returns how many files there are below a directory. Who can read them is not in their
// modes here.
func Private(t testing.TB, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
