package lexicon_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon"
)

func TestBuiltinResolves(t *testing.T) {
	c := lexicon.Builtin()
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	for doc := range c.Documents() {
		path := strings.ReplaceAll(string(doc.ID), ".", "/") + ".json"
		if _, err := fs.Stat(lexicon.BuiltinFS(), path); err != nil {
			t.Errorf("%s is not in its file: %v", doc.ID, err)
		}
		if main := doc.Main(); main != nil && describe(main) == "" {
			t.Errorf("%s has no description", doc.ID)
		}
	}
}

func describe(t lexicon.Type) string {
	switch t := t.(type) {
	case *lexicon.Record:
		return t.Description
	case *lexicon.Query:
		return t.Description
	case *lexicon.Procedure:
		return t.Description
	case *lexicon.Subscription:
		return t.Description
	case *lexicon.Object:
		return t.Description
	}
	return ""
}

// TestBuiltinEqualsReference compares structure with the reference schemas.
// Descriptions are our own, and must be.
func TestBuiltinEqualsReference(t *testing.T) {
	reference := testenv.Shared(t, "lexicons")
	read := func(b []byte, err error) (v any, descriptions []string) {
		t.Helper()
		if err == nil {
			err = json.Unmarshal(b, &v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return v, stripDescriptions(v)
	}
	err := fs.WalkDir(lexicon.BuiltinFS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		ours, own := read(fs.ReadFile(lexicon.BuiltinFS(), path))
		theirs, foreign := read(os.ReadFile(filepath.Join(reference, path)))
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("%s: reference -, ours +\n%s", path, diff)
		}
		for _, s := range own {
			if slices.Contains(foreign, s) {
				t.Errorf("%s: %q is the reference's description", path, s)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of com.atproto and no record may be missing.
	builtin := lexicon.Builtin()
	for doc := range official(t).Documents() {
		_, record := doc.Main().(*lexicon.Record)
		if _, ok := builtin.Lookup(doc.ID); !ok && (record || strings.HasPrefix(string(doc.ID), "com.atproto.")) {
			t.Errorf("%s is missing", doc.ID)
		}
	}
}

// stripDescriptions removes the descriptions of all schema objects. A property
// that is called "description" is an object and stays.
func stripDescriptions(v any) (list []string) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			list = append(list, stripDescriptions(x)...)
		}
	case map[string]any:
		if s, ok := v["description"].(string); ok {
			list = append(list, s)
			delete(v, "description")
		}
		for _, x := range v {
			list = append(list, stripDescriptions(x)...)
		}
	}
	return list
}
