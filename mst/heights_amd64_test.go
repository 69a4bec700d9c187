//go:build !purego

package mst

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/blockhash"
)

// Blocks, damaged or not, are judged alike whether heights are hashed two at a time or one by one:
// the same fault at the same place.
func TestTwoHeightsFindTheSameFaults(t *testing.T) {
	if !blockhash.Able {
		t.Skip("the processor has no SHA extensions")
	}
	defer func() { blockhash.Able = true }()
	r := rand.New(rand.NewPCG(1, 2))
	var es []Entry
	for i := range 300 {
		k := "app.bsky.feed.post/" + strings.Repeat("k", r.IntN(60)) + string(rune('a'+i%26)) + string(rune('a'+i/26))
		es = append(es, Entry{k, Empty().Root()})
	}
	b := map[string]cid.Cid{}
	for _, e := range es {
		b[e.Key] = e.Value
	}
	var ops []Op
	for k, v := range b {
		ops = append(ops, Op{k, v})
	}
	ch, err := Empty().Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	d1, d2 := decoder{lim: Limits{}.withDefaults()}, decoder{lim: Limits{}.withDefaults()}
	for range 200 {
		for _, blk := range ch.New {
			data := append([]byte(nil), blk.Data...)
			for range r.IntN(3) {
				data[r.IntN(len(data))] ^= byte(1 << r.IntN(8))
			}
			for _, h := range []int{-1, 0, 1, 2} {
				blockhash.Able = true
				a1, l1, f1 := d1.decode(string(data), bounds{height: h})
				blockhash.Able = false
				a2, l2, f2 := d2.decode(string(data), bounds{height: h})
				blockhash.Able = true
				if (f1 == nil) != (f2 == nil) || f1 == nil && (a1 != a2 || l1 != l2) || f1 != nil && *f1 != *f2 {
					t.Fatalf("height %d: two at a time %d, %d, %v; one by one %d, %d, %v", h, a1, l1, f1, a2, l2, f2)
				}
			}
		}
	}
}
