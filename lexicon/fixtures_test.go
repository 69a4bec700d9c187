package lexicon_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func fixture(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(testenv.Shared(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func TestInteropSchemas(t *testing.T) {
	type test struct {
		Name    string
		Lexicon json.RawMessage
	}
	var valid, invalid []test
	fixture(t, "interop/lexicon/lexicon-valid.json", &valid)
	fixture(t, "interop/lexicon/lexicon-invalid.json", &invalid)
	for _, c := range valid {
		if _, err := lexicon.ParseSchema(c.Lexicon); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, c := range invalid {
		_, err := lexicon.ParseSchema(c.Lexicon)
		var e *lexicon.SchemaError
		if !errors.As(err, &e) || !errors.Is(err, lexicon.ErrSchema) {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func TestInteropRecords(t *testing.T) {
	var catalog lexicon.Catalog
	if err := catalog.AddFS(os.DirFS(testenv.Shared(t, "interop/lexicon/catalog"))); err != nil {
		t.Fatal(err)
	}
	type test struct {
		Name string
		Rkey syntax.RecordKey
		Data json.RawMessage
	}
	var valid, invalid []test
	fixture(t, "interop/lexicon/record-data-valid.json", &valid)
	fixture(t, "interop/lexicon/record-data-invalid.json", &invalid)
	for _, c := range valid {
		v, err := data.FromJSON(c.Data, data.Limits{})
		if err == nil {
			err = catalog.ValidateRecord("example.lexicon.record", c.Rkey, v)
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, c := range invalid {
		v, err := data.FromJSON(c.Data, data.Limits{})
		if err != nil {
			continue // invalid in the data model already
		}
		err = catalog.ValidateRecord("example.lexicon.record", c.Rkey, v)
		var e *lexicon.Error
		if !errors.As(err, &e) || e.Path == "" || e.Rule == "" {
			t.Errorf("%s: %v", c.Name, err)
		}
		all := lexicon.Validator{Catalog: &catalog, AllErrors: true}.Record("example.lexicon.record", c.Rkey, v)
		if !errors.Is(all, lexicon.ErrInvalid) {
			t.Errorf("%s: %v", c.Name, all)
		}
	}
}

// official returns a catalog of the reference schemas.
func official(t testing.TB) *lexicon.Catalog {
	t.Helper()
	var catalog lexicon.Catalog
	if err := catalog.AddFS(os.DirFS(testenv.Shared(t, "lexicons"))); err != nil {
		t.Fatal(err)
	}
	return &catalog
}

func TestOfficialSchemasParseAndResolve(t *testing.T) {
	catalog := official(t)
	n := 0
	for doc := range catalog.Documents() {
		n++
		if doc.Main() == nil {
			continue
		}
		if _, ok := doc.Main().(*lexicon.PermissionSet); ok {
			grants, ignored := doc.Main().(*lexicon.PermissionSet).Grants(doc.ID, "did:web:example.com#service")
			if len(grants) == 0 || len(ignored) > 0 {
				t.Errorf("%s: %d grants, ignored %v", doc.ID, len(grants), ignored)
			}
		}
	}
	files := 0
	err := filepath.WalkDir(testenv.Shared(t, "lexicons"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".json" {
			files++
		}
		return err
	})
	if err != nil || n != files || n < 300 {
		t.Errorf("%d documents of %d files, %v", n, files, err)
	}
	if err := catalog.Check(); err != nil {
		t.Error(err)
	}
}
