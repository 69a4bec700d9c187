package msttest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// Miner finds keys of given heights, in ascending order. The zero value is ready to use.
type Miner struct {
	// Collection is the part of the keys before the slash. Default "com.example.mined".
	Collection string
	next       int
}

// Key returns the next key of exactly the given height; it is greater than all previous keys. Each
// height takes four times as long as the one below: some 2 ms for 6.
func (m *Miner) Key(height int) string {
	if m.Collection == "" {
		m.Collection = "com.example.mined"
	}
	for {
		m.next++
		if key := fmt.Sprintf("%s/%09d", m.Collection, m.next); Height(key) == height {
			return key
		}
	}
}

// Keys returns n different keys in random order that make interesting trees: heights from 0 to
// about 6, with far more tall keys than random ones would have; many keys with long common
// prefixes; some that are prefixes of others.
func Keys(rng *rand.Rand, n int) []string {
	keys := make([]string, 0, n)
	seen := make(map[string]bool, n)
	for len(keys) < n {
		key := fmt.Sprintf("com.example.%c/%s%d", 'a'+rng.IntN(4), strings.Repeat("k", rng.IntN(3)), rng.IntN(1_000_000))
		if len(keys) > 0 && rng.IntN(8) == 0 {
			key = keys[rng.IntN(len(keys))] + fmt.Sprint(rng.IntN(10))
		}
		if Height(key) >= rng.IntN(6)-rng.IntN(2) && !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// RealisticKeys returns n keys in ascending order like those of real repositories: a few
// collections, mostly likes, with TIDs for record keys.
func RealisticKeys(n int) []string {
	rng := rand.New(rand.NewPCG(uint64(n), 5))
	collections := []string{
		"app.bsky.actor.profile", "app.bsky.feed.like", "app.bsky.feed.post", "app.bsky.feed.repost",
		"app.bsky.feed.threadgate", "app.bsky.graph.block", "app.bsky.graph.follow", "app.bsky.graph.listitem",
	}
	share := []int{0, 55, 15, 10, 1, 3, 15, 1}
	keys := make([]string, 0, n)
	for i, c := range collections {
		count := n * share[i] / 100
		if i == len(collections)-1 {
			count = n - len(keys)
		}
		micros := uint64(1_600_000_000_000_000)
		for range count {
			micros += 1 + rng.Uint64N(60_000_000)
			keys = append(keys, c+"/"+tid(micros<<10|rng.Uint64N(1024)))
		}
	}
	return keys
}

func tid(v uint64) string {
	const alphabet = "234567abcdefghijklmnopqrstuvwxyz"
	var b [13]byte
	for i := range b {
		b[12-i] = alphabet[v&31]
		v >>= 5
	}
	return string(b[:])
}

// Value returns the CID of the i-th record of a made-up series.
func Value(i int) cid.Cid { return dag.Sum(dag.CBOR, fmt.Appendf(nil, "value %d", i)) }

// Step returns a random batch of up to most operations on some of the keys, and the operations that
// undo it. It applies the batch to the model. One batch in 40 empties the tree.
func Step(rng *rand.Rand, keys []string, m Model, most int) (ops []mst.Op, inverse []mst.InvertOp) {
	add := func(key string, v cid.Cid) {
		ops = append(ops, mst.Op{Key: key, Value: v})
		inverse = append(inverse, mst.InvertOp{Key: key, Value: v, Prev: m[key]})
	}
	if rng.IntN(40) == 0 && len(m) > 0 {
		for _, key := range m.Keys() {
			add(key, cid.Undef)
		}
	} else {
		for _, i := range rng.Perm(len(keys))[:min(1+rng.IntN(most), len(keys))] {
			if m[keys[i]].Defined() && rng.IntN(2) == 0 {
				add(keys[i], cid.Undef)
			} else {
				add(keys[i], Value(rng.IntN(1000)))
			}
		}
	}
	_ = m.Apply(ops) // deletes are of keys that are there
	return ops, inverse
}
