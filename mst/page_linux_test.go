package mst

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/pdskit/pdskit/internal/blockhash"
)

// atPageEnd copies bytes to the end of a page behind which no memory may be read.
func atPageEnd(t *testing.T, b []byte) []byte {
	t.Helper()
	page := os.Getpagesize()
	size := (len(b) + page) / page * page
	m, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(m[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	at := m[size-len(b) : size : size]
	copy(at, b)
	return at
}

// Nothing is read or written behind the end of keys, nodes and blocks of hashes: a program that does
// so dies in this test.
func TestNothingBehindTheEnd(t *testing.T) {
	for n := range 130 {
		key := atPageEnd(t, bytes.Repeat([]byte{byte(n)}, n))
		sum := sha256.Sum256(key)
		if got, want := HeightForKey(stringOf(key)), bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:]))/2; got != want {
			t.Errorf("%d bytes: height %d, want %d", n, got, want)
		}
	}
	if blockhash.Able {
		blocks := (*[2][64]byte)(unsafe.Pointer(&atPageEnd(t, make([]byte, 128))[0]))
		heads := (*[2]uint64)(unsafe.Pointer(&atPageEnd(t, make([]byte, 16))[0]))
		pad(&blocks[0], []byte("one"))
		pad(&blocks[1], []byte("two"))
		blockhash.Heads(blocks, heads)
		for i, key := range []string{"one", "two"} {
			if sum := sha256.Sum256([]byte(key)); heads[i] != binary.BigEndian.Uint64(sum[:]) {
				t.Errorf("%s: %016x, want %x", key, heads[i], sum[:8])
			}
		}
	}
	tree, entries := treeAtPageEnds(t)
	i := 0
	for e, err := range tree.Walk("") {
		if err != nil || e != entries[i] {
			t.Fatalf("%v, %v; want %v", e, err, entries[i])
		}
		i++
		key := stringOf(atPageEnd(t, []byte(e.Key)))
		if v, ok, err := tree.Get(key); v != e.Value || !ok || err != nil {
			t.Fatalf("%s: %v, %t, %v", key, v, ok, err)
		}
		for range tree.Walk(key) {
			break
		}
	}
	if i != len(entries) {
		t.Errorf("%d keys, want %d", i, len(entries))
	}
}

// treeAtPageEnds loads a tree whose nodes lie at the ends of pages.
func treeAtPageEnds(t *testing.T) (*Tree, []Entry) {
	t.Helper()
	var entries []Entry
	for i := range 200 {
		key := "com.example.a/" + string(bytes.Repeat([]byte{byte('a' + i/20)}, i%20*3+1))
		entries = append(entries, Entry{key, emptyCID})
	}
	tree, err := BuildSorted(entries)
	if err != nil {
		t.Fatal(err)
	}
	src := BlockMap{}
	for b := range tree.Nodes() {
		src[b.CID] = atPageEnd(t, b.Data)
	}
	loaded, err := Load(src, tree.Root(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return loaded, entries
}
