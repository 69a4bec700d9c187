package account

import (
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Strangers who have keys reserved for ever do not fill the store: from some number on, the keys of a
// day are soon gone, and whoever moves meanwhile has theirs for long enough.
func TestReservedKeysDoNotFillTheStore(t *testing.T) {
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	read := func() time.Time { return now }
	k := NewKeys(KeysConfig{Store: memory.New(memory.Config{Now: read}), Box: box, Now: read})
	did := func(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:a%d.example.com", i)) }
	reserve := func(i int) {
		if _, err := k.Reserve(t.Context(), did(i)); err != nil {
			t.Fatal(err)
		}
	}
	there := func(i int) bool {
		key, err := k.Reserved(t.Context(), did(i))
		if err != nil {
			t.Fatal(err)
		}
		return key != nil
	}
	for i := range manyReserved + 2 {
		reserve(i)
	}
	now = now.Add(floodedLife - time.Minute)
	if first, last := there(0), there(manyReserved+1); !first || !last {
		t.Errorf("soon: %v, %v", first, last)
	}
	now = now.Add(2 * time.Minute)
	if first, last, flooded := there(0), there(manyReserved-1), there(manyReserved); !first || !last || flooded {
		t.Errorf("later: %v, %v, %v", first, last, flooded)
	}
	now = now.Add(24 * time.Hour)
	reserve(-1)
	now = now.Add(24 * time.Hour)
	if !there(-1) {
		t.Error("another day has no room of its own")
	}
}
