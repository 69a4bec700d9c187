package lexicon_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// TestBuiltinIsWhatItsFilesAre: a document that is parsed when it is asked for is the one that is
// parsed at once, under the name of its file, and there are no others.
func TestBuiltinIsWhatItsFilesAre(t *testing.T) {
	var eager lexicon.Catalog
	if err := eager.AddFS(lexicon.BuiltinFS()); err != nil {
		t.Fatal(err)
	}
	lazy := lexicon.Builtin()
	n := 0
	for want := range eager.Documents() {
		if got, ok := lazy.Lookup(want.ID); !ok || !cmp.Equal(got, want) {
			t.Errorf("%s differs", want.ID)
		}
		n++
	}
	for doc := range lazy.Documents() {
		if n--; doc == nil {
			t.Error("a document is nil")
		}
	}
	if n != 0 {
		t.Errorf("%d documents too few", n)
	}
	for _, id := range []syntax.NSID{"", "com.atproto", "com/atproto.server.createSession", "com.atproto.repo.createRecord.json", "builtin.com.atproto.repo.createRecord"} {
		if doc, ok := lazy.Lookup(id); ok || doc != nil {
			t.Errorf("there is a document %q", id)
		}
	}
}

// What is added to one catalog is not in another, and takes the place of what was there.
func TestBuiltinCatalogsAreApart(t *testing.T) {
	doc, err := lexicon.ParseSchema([]byte(`{"lexicon":1,"id":"app.bsky.feed.post","defs":{"main":{"type":"token"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	changed := lexicon.Builtin()
	changed.Add(doc)
	if got, _ := changed.Lookup(doc.ID); got != doc {
		t.Error("the document was not replaced")
	}
	if got, _ := lexicon.Builtin().Lookup(doc.ID); got == doc {
		t.Error("the document of another catalog was replaced")
	}
}

// Many ask for the same documents at once, of one catalog and of several.
func TestBuiltinAtOnce(t *testing.T) {
	post := parse(t, typicalPost)
	shared := lexicon.Builtin()
	var wg sync.WaitGroup
	for i := range 16 {
		c := shared
		if i%2 == 0 {
			c = lexicon.Builtin()
		}
		wg.Go(func() {
			if err := c.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", post); err != nil {
				t.Error(err)
			}
			if _, err := c.Method("com.atproto.repo.listRecords"); err != nil {
				t.Error(err)
			}
			for range c.Documents() {
			}
		})
	}
	wg.Wait()
}

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
