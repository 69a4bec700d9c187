package testenv

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var variable = regexp.MustCompile(`PDSKIT_[A-Z0-9_]*[A-Z0-9]`)

// CONTRIBUTING.md lists the variables of the environment that the source knows, and no others.
func TestVariablesAreListed(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	where := map[string]string{} // a file that has a variable
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := e.Name(); e.IsDir() {
			if name == ".git" || name == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		script := strings.Contains(filepath.ToSlash(path), "/.ci/") || e.Name() == "build"
		if !e.Type().IsRegular() || !script && filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, name := range variable.FindAllString(string(text), -1) {
			where[name] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## Variables\n")
	list, _, _ := strings.Cut(rest, "\n## ")
	listed := variable.FindAllString(list, -1)
	if !found || len(where) < 50 {
		t.Fatalf("%d variables in the source; a list: %v", len(where), found)
	}
	for name, file := range where {
		if !slices.Contains(listed, name) {
			t.Errorf("%s, in %s, is not listed", name, file)
		}
	}
	for _, name := range listed {
		if where[name] == "" {
			t.Errorf("nothing knows %s", name)
		}
	}
}
