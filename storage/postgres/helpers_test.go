//go:build unix

package postgres_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var testContext = context.Background()

func keyOf(did syntax.DID) *crypto.PrivateKey {
	seed := sha256.Sum256([]byte(did))
	key, err := crypto.ParsePrivateKey(crypto.K256, seed[:])
	if err != nil {
		panic(err) // for one seed of 2^128
	}
	return key
}

// newHost makes a host that signs with keys made of the DIDs.
func newHost(tb testing.TB, s storage.Store) *repo.Host {
	s.Blobs = openBlobs(tb, tb.TempDir()) // no test of these has blobs
	return repo.NewHost(repo.Config{Store: s, Signer: func(_ context.Context, did syntax.DID) (crypto.Signer, error) { return keyOf(did), nil }})
}

func didOf(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:account%d.example", i)) }

// post makes a batch that writes one record.
func post(rkey, text string) repo.Batch {
	record, err := data.Encode(map[string]any{"$type": "com.example.note", "text": text})
	if err != nil {
		panic(err)
	}
	return repo.Batch{Writes: []repo.Write{{Action: repo.Put, Collection: "com.example.note", RKey: syntax.RecordKey(rkey), Record: record}}}
}

// checkStore examines everything that is stored.
func checkStore(tb testing.TB, s storage.Store) {
	tb.Helper()
	err := storagetest.CheckStore(testContext, s, storagetest.Options{Key: func(did syntax.DID) *crypto.PublicKey { return keyOf(did).PublicKey() }})
	if err != nil {
		tb.Errorf("check of the whole store: %v", err)
	}
}

// replay reads the whole log.
func replay(tb testing.TB, s storage.Store) (list []storage.Event) {
	tb.Helper()
	for e, err := range s.Events.Since(testContext, 0) {
		if err != nil {
			tb.Fatal(err)
		}
		if n := len(list); n > 0 && list[n-1].Seq >= e.Seq {
			tb.Errorf("event %d comes after %d", e.Seq, list[n-1].Seq)
		}
		list = append(list, e)
	}
	return list
}

// revOf makes the end of a revision, increasing with i.
func revOf(i int) syntax.TID {
	const digits = "234567abcdefghijklmnopqrstuvwxyz"
	return syntax.TID([]byte{digits[i/32], digits[i%32]})
}

func cidOf(data []byte) cid.Cid { return dag.Sum(dag.CBOR, data) }

// heap returns how much memory is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
