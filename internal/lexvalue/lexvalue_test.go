package lexvalue

import (
	"math/rand/v2"
	"testing"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// TestValuesAreValid makes values of every schema in the binary, and validates them.
func TestValuesAreValid(t *testing.T) {
	catalog := lexicon.Builtin()
	m := &Maker{Catalog: catalog, Rand: rand.New(rand.NewPCG(1, 2)), Empty: true}
	methods, records := 0, 0
	for doc := range catalog.Documents() {
		for range 20 {
			switch main := doc.Main().(type) {
			case *lexicon.Record:
				v := m.Value(main).(map[string]any)
				v["$type"] = string(doc.ID)
				key, ok := main.Key.Literal()
				if !ok {
					key = "3jzfcijpj2z2a"
				}
				if main.Key == "nsid" {
					key = "com.example.note"
				}
				if err := catalog.ValidateRecord(doc.ID, key, v); err != nil {
					t.Errorf("%v: %v", v, err)
				}
				records++
			case *lexicon.Procedure:
				check(t, doc, main.Input, m, catalog.ValidateInput)
				check(t, doc, main.Output, m, catalog.ValidateOutput)
				methods++
			case *lexicon.Query:
				check(t, doc, main.Output, m, catalog.ValidateOutput)
				query, given := m.Params(main.Parameters)
				got, err := catalog.Params(doc.ID, query)
				if err != nil {
					t.Errorf("%s: %v: %v", doc.ID, query, err)
				}
				for name := range given {
					if got[name] == nil && len(query[name]) > 0 {
						t.Errorf("%s: %v: %s is lost", doc.ID, query, name)
					}
				}
				methods++
			}
		}
	}
	if methods == 0 || records == 0 {
		t.Error(methods, records)
	}
}

func check(t *testing.T, doc *lexicon.Document, b *lexicon.Body, m *Maker, validate func(syntax.NSID, any) error) {
	if b == nil || b.Schema == nil {
		return
	}
	if v := m.Value(b.Schema); validate(doc.ID, v) != nil {
		t.Errorf("%s: %v: %v", doc.ID, v, validate(doc.ID, v))
	}
}
