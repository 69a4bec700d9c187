package relay

import (
	"context"
	"testing"

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
