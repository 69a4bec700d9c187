package relay

import (
	"context"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/memory"
)

// TestEnrolAgain: an account was moved to a host in the counts, and then its change was not carried
// out. It is moved again from where it no longer counts.
func TestEnrolAgain(t *testing.T) {
	l := &ledger{kv: memory.New(memory.Config{}).KV}
	ctx := context.Background()
	const did = "did:web:alice.example"
	for i := range 3 {
		if i == 0 {
			if _, _, err := l.enrol(ctx, did, "", "one.example", -1); err != nil {
				t.Fatal(err)
			}
		}
		as, counts, err := l.enrol(ctx, did, "one.example", "two.example", -1)
		if err != nil || as != counted || counts["two.example"].Accounts != 1 || counts["one.example"].Accounts != 0 {
			t.Fatalf("%d: %q, %+v, %v", i, as, counts, err)
		}
	}
	if _, counts, err := l.enrol(ctx, did, "one.example", "", -1); err != nil || counts["one.example"].Accounts != 0 {
		t.Fatalf("%+v, %v", counts, err)
	}
}

// TestCountsInAnyOrder: two accounts are enrolled at once, and the relay is told of the counts of the
// first one last.
func TestCountsInAnyOrder(t *testing.T) {
	const name = "one.example"
	l := &ledger{kv: memory.New(memory.Config{}).KV}
	var told []map[string]countRow
	for _, did := range []syntax.DID{"did:web:alice.example", "did:web:bob.example"} {
		_, counts, err := l.enrol(t.Context(), did, "", name, -1)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, counts)
	}
	r := &Relay{}
	h := &host{r: r, name: name}
	r.hosts = map[string]*host{name: h}
	for i := len(told) - 1; i >= 0; i-- {
		r.counted(told[i])
		if n := h.row.count.Accounts; n != 2 {
			t.Errorf("%d accounts", n)
		}
	}
}
