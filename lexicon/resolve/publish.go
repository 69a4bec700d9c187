package resolve

import (
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Collection is the collection in which schemas are published.
const Collection = "com.atproto.lexicon.schema"

// TXTName returns the name of the DNS record that names the publisher of an NSID and its group:
// "_lexicon.example.app" for app.example.note.
func TXTName(id syntax.NSID) string { return "_lexicon." + id.Authority() }

// TXTValue returns the text of that record.
func TXTValue(did syntax.DID) string { return "did=" + string(did) }

// Record checks a schema in JSON, and returns the record to publish it, with its record key. Fields
// that the language does not define are kept.
func Record(schema []byte) (syntax.RecordKey, map[string]any, error) {
	doc, err := lexicon.ParseSchema(schema)
	if err != nil {
		return "", nil, err
	}
	v, err := data.FromJSON(schema, data.Limits{})
	if err != nil {
		return "", nil, err
	}
	record := v.(map[string]any)
	record["$type"] = Collection
	return syntax.RecordKey(doc.ID), record, nil
}
