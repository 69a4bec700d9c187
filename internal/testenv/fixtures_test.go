package testenv

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The reference data is what .ci/fixtures fetches, byte for byte.
func TestFixtures(t *testing.T) {
	root := filepath.Dir(Shared(t, "interop"))
	mod, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.Open(filepath.Join(mod, ".ci", "fixtures.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	files := 0
	for lines := bufio.NewScanner(list); lines.Scan(); files++ {
		want, name, _ := strings.Cut(lines.Text(), "  ")
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s is not the file that .ci/fixtures fetches", name)
		}
	}
	if files < 300 {
		t.Errorf("only %d files", files)
	}
}
