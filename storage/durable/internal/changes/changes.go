// Package changes makes small histories of accounts, for tests of package durable and its objects.
package changes

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Accounts.
const (
	Alice = syntax.DID("did:web:alice.example")
	Bob   = syntax.DID("did:web:bob.example")
)

// Head is an account's head after its nth change.
func Head(n int) storage.Head {
	b := fmt.Append(nil, n)
	return storage.Head{Commit: dag.Sum(dag.CBOR, b), Data: dag.Sum(dag.CBOR, append(b, 'd')), Rev: syntax.NewTID(time.UnixMicro(int64(n)), 0)}
}

// Nth is the nth change of an account: one record, one event.
func Nth(did syntax.DID, n int, kv ...storage.KVWrite) *storage.Change {
	data := fmt.Append(nil, "record ", n)
	c := &storage.Change{
		Head: Head(n), Commit: fmt.Append(nil, n), KV: kv,
		Records: []storage.RecordChange{{Path: "com.example.note/a", CID: dag.Sum(dag.CBOR, data), Data: data}},
		Events:  []storage.Event{{DID: did, Kind: commit.KindCommit, Time: time.UnixMilli(int64(n)), Payload: fmt.Append(nil, did, n)}},
	}
	if n > 1 {
		c.Prev = Head(n - 1)
	}
	return c
}

// Apply makes the nth change of an account.
func Apply(t testing.TB, s storage.Store, did syntax.DID, n int, kv ...storage.KVWrite) {
	t.Helper()
	if _, err := s.Repos.Apply(t.Context(), did, Nth(did, n, kv...)); err != nil {
		t.Fatal(err)
	}
}

// Replace replaces an account's records by n others, as its change number to, which follows number
// from. during, if not nil, is called before the last of them.
func Replace(t testing.TB, s storage.Store, did syntax.DID, from, to, n int, during func()) error {
	c := Nth(did, to)
	c.Records, c.Prev = nil, storage.Head{}
	if from > 0 {
		c.Prev = Head(from)
	}
	_, err := s.Repos.Replace(t.Context(), did, func(yield func(storage.RecordChange, error) bool) {
		for i := range n {
			if i == n-1 && during != nil {
				during()
			}
			data := fmt.Append(nil, "record ", i)
			if !yield(storage.RecordChange{Path: fmt.Sprintf("com.example.note/%06d", i), CID: dag.Sum(dag.CBOR, data), Data: data}, nil) {
				return
			}
		}
	}, func() (*storage.Change, error) { return c, nil })
	return err
}

// Events are the payloads of an account's events in the log.
func Events(t testing.TB, s storage.Store, did syntax.DID) (list []string) {
	t.Helper()
	for ev, err := range s.Events.Since(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.DID == did {
			list = append(list, string(ev.Payload))
		}
	}
	return list
}

// WantEvents checks that the log has the events of an account's first n changes.
func WantEvents(t testing.TB, s storage.Store, did syntax.DID, n int) {
	t.Helper()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(did, i+1))
	}
	if got := Events(t, s, did); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// WantHead checks that an account has made n changes.
func WantHead(t testing.TB, s storage.Store, did syntax.DID, n int) {
	t.Helper()
	if h, err := s.Repos.Head(t.Context(), did); err != nil || h != Head(n) {
		t.Errorf("head %v, %v; want that of change %d", h.Rev, err, n)
	}
}
