package lex

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/gen"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

// TestUpToDate: the generated files are those of the schemas.
func TestUpToDate(t *testing.T) {
	c, err := catalog()
	if err != nil {
		t.Fatal(err)
	}
	files, err := gen.Generate(c, gen.Config{
		Package: "lex", Schemas: []string{"org.pdskit.agent.*"}, Trim: []string{"org.pdskit.agent", "com.atproto.repo"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: run go generate", name)
		}
	}
}

// TestRecords: what is written is read as it was; what breaks the schema is neither.
func TestRecords(t *testing.T) {
	now := Now(time.Unix(1_800_000_000, 0))
	ref := NewRef("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", TaskNSID, "3jzfcijpj2z2a", "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a")
	tid := syntax.RecordKey("3jzfcijpj2z2a")
	for collection, c := range map[syntax.NSID]struct {
		rkey      syntax.RecordKey
		good, bad any
	}{
		ProfileNSID:     {"self", Profile{Name: "Ada", Capabilities: []string{"plan"}, MessageKey: make([]byte, 32), CreatedAt: now}, Profile{Name: "Ada", MessageKey: make([]byte, 31), CreatedAt: now}},
		TaskNSID:        {tid, Task{Kind: "count", Text: "a", CreatedAt: now}, Task{Kind: "count", CreatedAt: now}},
		ClaimNSID:       {KeyFor(ref), Claim{Task: ref, Attempt: 1, Until: now, CreatedAt: now}, Claim{Task: ref, Until: now, CreatedAt: now}},
		ResultNSID:      {KeyFor(ref), Result{Task: ref, Status: "done", Output: "b", CreatedAt: now}, Result{Task: ref, CreatedAt: now}},
		AcceptanceNSID:  {tid, Acceptance{Task: ref, Result: ref, CreatedAt: now}, Acceptance{Task: ref, CreatedAt: now}},
		ObservationNSID: {tid, Observation{Text: "c", CreatedAt: now}, Observation{Text: strings.Repeat("c", 8001), CreatedAt: now}},
		MessageNSID:     {tid, Message{To: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", About: ref, Encapsulated: make([]byte, 32), Sealed: make([]byte, 300), CreatedAt: now}, Message{To: "nobody", About: ref, CreatedAt: now}},
	} {
		w, err := Write(repo.Create, collection, c.rkey, c.good)
		if err != nil {
			t.Errorf("%s: %v", collection, err)
			continue
		}
		if _, err := Read(collection, c.rkey, w.Record); err != nil {
			t.Errorf("%s: %v", collection, err)
		}
		if _, err := Write(repo.Create, collection, c.rkey, c.bad); err == nil {
			t.Errorf("%s: a record that breaks its schema is written", collection)
		}
		if _, err := Read(collection, c.rkey, append(w.Record, 0)); err == nil {
			t.Errorf("%s: a damaged record is read", collection)
		}
	}
	if did, collection, rkey, ok := Parts(ref); !ok || did != "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" || collection != TaskNSID || rkey != tid {
		t.Error(did, collection, rkey, ok)
	}
}
