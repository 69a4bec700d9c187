package slim

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// All names in pdskit's templates may be called as methods.
func TestMethodsOfTemplates(t *testing.T) {
	action, name := regexp.MustCompile(`\{\{[^}]*\}\}`), regexp.MustCompile(`\.([A-Z][A-Za-z0-9]*)`)
	files := 0
	err := filepath.WalkDir("../../xrpc", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".html") {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for _, a := range action.FindAllString(string(text), -1) {
			for _, n := range name.FindAllStringSubmatch(a, -1) {
				if n[1] != "Method" && !slices.Contains(methods, n[1]) { // Method is a field: reflect has methods of that name
					t.Errorf("%s: .%s is missing in methods.go", path, n[1])
				}
			}
		}
		return err
	})
	if err != nil || files < 10 {
		t.Fatal(files, err)
	}
}
