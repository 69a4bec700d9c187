package mst

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// FuzzNode checks that a node that is accepted, written again from its entries,
// gives the same bytes, and that what the trusted reader sees is what the strict one saw.
func FuzzNode(f *testing.F) {
	for _, n := range someNodes(f) {
		f.Add([]byte(n.data), int8(n.height), "", "")
	}
	f.Add([]byte(emptyNode), int8(-1), "", "")
	f.Add([]byte(someNodes(f)[1].data), int8(-1), "com.example.a/1", "com.example.a/9")
	f.Fuzz(func(t *testing.T, data []byte, height int8, lo, hi string) {
		d := decoder{lim: Limits{}.withDefaults()}
		h, links, fail := d.decode(string(data), bounds{lo, hi, max(-1, int(height))})
		if fail != nil {
			if fail.at < 0 || fail.at > len(data) || fail.err == nil {
				t.Fatalf("%+v of %d bytes", fail, len(data))
			}
			return
		}
		if err := cbor.Scan(data, cbor.Limits{}); err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		n := new(node)
		n.set(string(data), h, links)
		es, left := n.entries()
		digest := func(at int) string {
			if at == 0 {
				return ""
			}
			links--
			return n.linkID(at)
		}
		out := cbor.AppendArray([]byte(nodeStart), n.count())
		leftDigest := digest(left)
		key := ""
		for e, ok := es.next(); ok; e, ok = es.next() {
			next := key[:e.prefix] + e.suffix
			if next <= key || next <= lo || hi != "" && next >= hi || ValidKey(next) != nil || HeightForKey(next) != h {
				t.Fatalf("key %q after %q at height %d", next, key, h)
			}
			key = next
			out = appendLinks(appendKey(out, e.prefix, e.suffix), digest(e.tree), n.linkCID(e.value))
		}
		out = appendLink(append(out, keyLeft...), leftDigest)
		if !bytes.Equal(out, data) || links != 0 {
			t.Fatalf("%x came back as %x, with %d links more", data, out, links)
		}
	})
}

// someNodes are the nodes of a tree of several heights.
func someNodes(t testing.TB) (list []*node) {
	var b Builder
	b.keep = true
	for i, n := 0, 0; n < 60; i++ {
		key := "com.example." + string(rune('a'+i/20000)) + "/" + strings.Repeat("0", 5-len(itoa(i%20000))) + itoa(i%20000)
		if h := HeightForKey(key); h > 0 || i%40 == 0 {
			v := dag.Sum(dag.Codec([]dag.Codec{dag.CBOR, dag.Raw}[n%2]), []byte(key))
			if err := b.Add(key, v); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	tree, err := b.Tree()
	if err != nil {
		t.Fatal(err)
	}
	var add func(n *node)
	add = func(n *node) {
		list = append(list, n)
		for i := range n.kids() {
			add(n.kids()[i].Load())
		}
	}
	add(tree.root)
	return list
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// FuzzStream feeds a StreamVerifier any blocks. If it is content, the keys that it
// named, built into a tree, give the same nodes, but for the hashes of children, which
// the reader of blocks checks.
func FuzzStream(f *testing.F) {
	var feed []byte
	for _, n := range someNodes(f) {
		feed = append(feed, byte(len(n.data)>>8), byte(len(n.data)))
		feed = append(feed, n.data...)
	}
	f.Add(feed, []byte(nil), uint16(0))
	f.Add(feed[:2+int(feed[0])<<8+int(feed[1])], []byte{0xff}, uint16(20))
	f.Add([]byte("\x00\x0a"+emptyNode), []byte(nil), uint16(0))
	f.Fuzz(func(t *testing.T, feed, patch []byte, at uint16) {
		if int(at)+len(patch) <= len(feed) {
			feed = bytes.Clone(feed)
			copy(feed[at:], patch)
		}
		v, err := NewStreamVerifier(dag.Sum(dag.CBOR, nil), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var got [][]byte
		var entries []Entry
		for want, ok := v.Next(); ok; want, ok = v.Next() {
			if want.Key != "" {
				entries = append(entries, Entry{want.Key, want.CID})
				continue
			}
			if len(feed) < 2 || len(feed)-2 < int(feed[0])<<8|int(feed[1]) {
				return
			}
			n := int(feed[0])<<8 | int(feed[1])
			data := feed[2 : 2+n]
			feed = feed[2+n:]
			if err := v.Node(data); err != nil {
				var e *Error
				if !errors.As(err, &e) {
					t.Fatal(err)
				}
				return
			}
			got = append(got, data)
		}
		b := Builder{keep: true}
		for _, e := range entries {
			if err := b.Add(e.Key, e.Value); err != nil && !errors.Is(err, ErrTooManyEntries) {
				t.Fatalf("%q: %v", e.Key, err)
			} else if err != nil {
				return // readers are more generous than writers
			}
		}
		tree, err := b.Tree()
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for block := range tree.Nodes() {
			if i == len(got) || !bytes.Equal(masked(got[i]), masked(block.Data)) {
				t.Fatalf("node %d is not the one of the tree of its keys", i)
			}
			i++
		}
		if i != len(got) {
			t.Fatalf("%d nodes, want %d", len(got), i)
		}
	})
}

// masked is a node without the hashes of its children.
func masked(data []byte) []byte {
	var n node
	n.set(string(data), 0, 0)
	out := bytes.Clone(data)
	es, left := n.entries()
	for e, ok := es.next(); ok; e, ok = es.next() {
		if e.tree > 0 {
			clear(out[e.tree+len(linkStart) : e.tree+linkLen])
		}
	}
	if left > 0 {
		clear(out[left+len(linkStart) : left+linkLen])
	}
	return out
}
