package msttest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// Vectors returns the hostile trees. They are always the same.
func Vectors() []Vector {
	f := new(forge)
	f.encodings()
	f.links()
	f.keysOfNodes()
	f.heights()
	f.ranges()
	f.sizes()
	return f.vectors
}

// encodings are blocks that are not the canonical CBOR of a node.
func (f *forge) encodings() {
	var miner Miner
	key := miner.Key(0)
	e := spelled(key)[0]
	plain := rawNode("", e)
	set := func(name, from, to string) {
		f.keys = []string{key}
		f.tree(name, strings.Replace(plain, from, to, 1))
	}
	f.tree("block of no bytes", "")
	f.tree("block of garbage", "garbage")
	f.tree("block of zeros", strings.Repeat("\x00", 100))
	f.tree("block is a record", "\xa1\x65$type\x6bcom.example")
	f.tree("trailing byte", plain+"\x00")
	f.tree("trailing node", plain+plain)
	f.tree("trailing bytes behind the empty node", rawNode("")+"\x00")
	f.tree("cut short", plain[:len(plain)-1])
	f.tree("node as an array", "\x82\x81"+e.encode()+nullLink)
	f.tree("node of indefinite length", "\xbf"+plain[1:]+"\xff")
	f.tree("node wrapped in a tag", "\xd8\x2a"+plain)
	f.tree("node wrapped in an array", "\x81"+plain)
	f.tree("node with its fields turned round", "\xa2\x61l\xf6\x61e\x81"+e.encode())
	f.tree("node with a repeated field", "\xa3\x61e\x80\x61e\x81"+e.encode()+"\x61l\xf6")
	f.tree("node with a field too many", "\xa3\x61e\x81"+e.encode()+"\x61l\xf6\x61z\xf6")
	f.tree("node with a field too many in front", "\xa3\x61a\xf6\x61e\x81"+e.encode()+"\x61l\xf6")
	f.tree("node with a longer field name", "\xa2\x62ee\x81"+e.encode()+"\x61l\xf6")
	f.tree("node without entries' field", "\xa1\x61l\xf6")
	f.tree("node without left link's field", "\xa1\x61e\x81"+e.encode())
	f.tree("node of no fields", "\xa0")
	f.tree("entries null", "\xa2\x61e\xf6\x61l\xf6")
	f.tree("entries of indefinite length", "\xa2\x61e\x9f"+e.encode()+"\xff\x61l\xf6")
	f.tree("entries counted in two bytes", "\xa2\x61e\x98\x01"+e.encode()+"\x61l\xf6")
	f.tree("more entries announced than there are", "\xa2\x61e\x82"+e.encode()+"\x61l\xf6")
	f.tree("fewer entries announced than there are", "\xa2\x61e\x80"+e.encode()+"\x61l\xf6")
	f.tree("four thousand million entries announced", "\xa2\x61e\x9a\xff\xff\xff\xff"+e.encode()+"\x61l\xf6")
	f.tree("2^64-1 entries announced", "\xa2\x61e\x9b\xff\xff\xff\xff\xff\xff\xff\xff"+e.encode()+"\x61l\xf6")

	enc := e.encode()
	entry := func(name, enc string) {
		f.keys = []string{key}
		f.tree(name, "\xa2\x61e\x81"+enc+"\x61l\xf6")
	}
	k := string(cbor.AppendBytes([]byte("\x61k"), []byte(key)))
	p, t, v := "\x61p\x00", "\x61t\xf6", "\x61v"+good(0)
	entry("entry as an array", "\x84"+k[2:]+"\x00\xf6"+good(0))
	entry("entry null", "\xf6")
	entry("entry of no fields", "\xa0")
	entry("entry of indefinite length", "\xbf"+enc[1:]+"\xff")
	entry("entry with its fields in another order", "\xa4"+p+k+t+v)
	entry("entry with a repeated field", "\xa5"+k+p+p+t+v)
	entry("entry with a field too many", "\xa5"+k+p+t+v+"\x61z\xf6")
	entry("entry without its key", "\xa3"+p+t+v)
	entry("entry without its prefix length", "\xa3"+k+t+v)
	entry("entry without its tree link", "\xa3"+k+p+v)
	entry("entry without its value", "\xa3"+k+p+t)
	set("key suffix as text", k[:2]+"\x58", k[:2]+"\x78")
	set("key suffix of indefinite length", k, "\x61k\x5f"+k[2:]+"\xff")
	set("key suffix length in three bytes", k[:4], "\x61k\x59\x00"+k[3:4])
	set("key suffix longer than the block", k[:4], "\x61k\x5b\x7f\xff\xff\xff\xff\xff\xff\xff")
	set("key suffix null", k, "\x61k\xf6")
	set("prefix length in two bytes", p, "\x61p\x18\x00")
	set("prefix length in nine bytes", p, "\x61p\x1b\x00\x00\x00\x00\x00\x00\x00\x00")
	set("negative prefix length", p, "\x61p\x20")
	set("prefix length of -2^63", p, "\x61p\x3b\x7f\xff\xff\xff\xff\xff\xff\xff")
	set("prefix length as a float", p, "\x61p\xfb\x00\x00\x00\x00\x00\x00\x00\x00")
	set("prefix length as text", p, "\x61p\x61\x30")
	set("prefix length null", p, "\x61p\xf6")
	set("tree link undefined", t, "\x61t\xf7")
	set("tree link false", t, "\x61t\xf4")
	set("tree link of empty bytes", t, "\x61t\x40")
	set("left link undefined", "\x61l\xf6", "\x61l\xf7")
	set("left link of an empty map", "\x61l\xf6", "\x61l\xa0")
}

// links are CIDs of forms that no node has. In most of them the digest is right, so that
// a lenient reader finds the block.
func (f *forge) links() {
	var m Miner
	before, child, sibling, after := m.Key(1), m.Key(0), m.Key(0), m.Key(1)
	childNode := rawNode("", spelled(child)...)
	valid := dag.Sum(dag.CBOR, []byte(childNode))
	digest := valid.KeyString()[4:]
	link := func(where, form, link string) {
		f.node(childNode)
		f.blocks[dag.CID(dag.Raw, (*dag.Digest)([]byte(digest)))] = []byte(childNode)
		f.keys = []string{before, child, after}
		f.tree(where+" link: "+form, map[string]string{
			"left":  rawNode(link, spelled(after)...),
			"tree":  rawNode("", rawEntry{suffix: before, tree: link}),
			"value": rawNode("", rawEntry{suffix: before, value: link}),
		}[where])
	}
	for _, form := range []struct{ name, link string }{
		{"CID version 0", rawLink("\x12\x20" + digest)},
		{"CID version 2", rawLink("\x02\x71\x12\x20" + digest)},
		{"codec dag-pb", rawLink("\x01\x70\x12\x20" + digest)},
		{"codec dag-json", rawLink("\x01\xa9\x02\x12\x20" + digest)},
		{"identity hash", rawLink("\x01\x71\x00" + string(cbor.AppendHead(nil, 0, uint64(len(childNode)))) + childNode)},
		{"identity hash of 32 bytes", rawLink("\x01\x71\x00\x20" + digest)},
		{"identity hash of nothing", rawLink("\x01\x71\x00\x00")},
		{"hash SHA-512", rawLink("\x01\x71\x13\x40" + digest + digest)},
		{"hash SHA-256 cut to 20 bytes", rawLink("\x01\x71\x12\x14" + digest[:20])},
		{"hash SHA-3", rawLink("\x01\x71\x16\x20" + digest)},
		{"no zero byte in front", string(cbor.AppendBytes([]byte("\xd8\x2a"), []byte("\x01\x71\x12\x20"+digest)))},
		{"a byte too many", rawLink("\x01\x71\x12\x20" + digest + "\x00")},
		{"a byte too few", rawLink("\x01\x71\x12\x20" + digest[:31])},
		{"version in two bytes", rawLink("\x81\x00\x71\x12\x20" + digest)},
		{"length in three bytes", "\xd8\x2a\x59\x00\x25\x00\x01\x71\x12\x20" + digest},
		{"tag in three bytes", "\xd9\x00\x2a\x58\x25\x00\x01\x71\x12\x20" + digest},
		{"tag 43", "\xd8\x2b\x58\x25\x00\x01\x71\x12\x20" + digest},
		{"no tag", "\x58\x25\x00\x01\x71\x12\x20" + digest},
		{"text", string(cbor.AppendText([]byte("\xd8\x2a"), valid.String()))},
		{"CID of no bytes", "\xd8\x2a\x40"},
		{"undefined", "\xf7"},
		{"a map", "\xa0"},
	} {
		link("left", form.name, form.link)
		link("tree", form.name, form.link)
		link("value", form.name, form.link)
	}
	raw := rawLink("\x01\x55\x12\x20" + digest)
	link("left", "codec raw", raw)
	link("tree", "codec raw", raw)
	link("value", "null", nullLink)

	root := func(form string, c cid.Cid) {
		f.node(childNode)
		f.blocks[c] = []byte(childNode)
		f.keys = []string{child}
		f.cid("root: "+form, c)
	}
	root("CID version 0", cid.NewCidV0(valid.Hash()))
	root("codec raw", cid.NewCidV1(cid.Raw, valid.Hash()))
	root("codec dag-pb", cid.NewCidV1(cid.DagProtobuf, valid.Hash()))
	f.cid("root: no CID", cid.Undef)
	f.cid("root: not there", valid)

	other := rawNode("", spelled(child, sibling)...)
	f.blocks = mst.BlockMap{valid: []byte(other)}
	f.cid("block does not match its CID", valid)
	f.blocks = mst.BlockMap{valid: []byte(childNode + " ")}
	f.cid("block with a byte too many for its CID", valid)
	parent := rawNode(rawLink(valid.KeyString()), spelled(after)...)
	f.blocks = mst.BlockMap{valid: []byte(other)}
	f.tree("inner block does not match its CID", parent)
	f.tree("inner node is not there", parent)
}

// keysOfNodes are nodes whose keys are not what they must be.
func (f *forge) keysOfNodes() {
	leaf := func(name string, entries ...rawEntry) { f.tree(name, rawNode("", entries...)) }
	of := func(prefix int64, suffix string) rawEntry { return rawEntry{prefix: prefix, suffix: suffix} }
	var miner Miner
	a, b, c := miner.Key(0), miner.Key(0), miner.Key(0)
	shared := spelled(a, b)[1].prefix

	leaf("prefix longer than the key before it", of(0, a), of(int64(len(a)+1), "x"))
	leaf("prefix much longer than the key before it", of(0, a), of(65_535, "x"))
	leaf("prefix of 2^40", of(0, a), of(1<<40, "x"))
	leaf("prefix in the first entry", of(5, a))
	leaf("prefix shorter than it could be", of(0, a), of(shared-1, b[shared-1:]))
	leaf("no prefix where there could be one", of(0, a), of(0, b))
	leaf("prefix shorter by all but one byte", of(0, a), of(1, b[1:]))
	leaf("prefix too short in the third key", append(spelled(a, b), of(0, c))...)

	leaf("keys in descending order", spelled(b, a)...)
	leaf("keys not in order at the end", spelled(a, c, b)...)
	leaf("repeated key", of(0, a), of(int64(len(a)), ""))
	leaf("repeated key, spelled out", of(0, a), of(0, a))
	leaf("key that is a prefix of the one before it", of(0, extend(a)), of(int64(len(a)), ""))

	// A root may have any height, so that nothing but the key is wrong here.
	for _, c := range []struct{ name, key string }{
		{"empty key", ""},
		{"key without a slash", "com.example.a"},
		{"key of a slash", "/"},
		{"key without a collection", "/self"},
		{"key without a record key", "com.example.a/"},
		{"key with two slashes", "com.example.a/b/c"},
		{"key with two slashes in a row", "com.example.a//c"},
		{"key with a space", "com.example.a/b c"},
		{"key with a line break", "com.example.a/b\n"},
		{"key with a zero byte", "com.example.a/\x00b"},
		{"key with a per cent sign", "com.example.a/b%20"},
		{"key with a hash sign", "com.example.a/b#c"},
		{"key with an @", "com.example.a/@b"},
		{"key with a character beyond ASCII", "com.example.a/é"},
		{"key that is not UTF-8", "com.example.a/\xff"},
		{"key of 1,025 bytes", "com.example.a/" + strings.Repeat("x", 1011)},
		{"key of 5,000 bytes", "com.example.a/" + strings.Repeat("x", 4986)},
		{"key of 70,000 bytes", "com.example.a/" + strings.Repeat("x", 69_986)},
	} {
		leaf(c.name, of(0, c.key))
	}
	// Each key is the one before it and a byte more.
	long := a
	grown := []rawEntry{of(0, a)}
	for len(long) < 1030 {
		longer := extend(long)
		grown = append(grown, of(int64(len(long)), longer[len(long):]))
		long = longer
	}
	leaf("key that grows beyond 1,024 bytes by its prefixes", grown...)
}

// extend makes a key of height 0 that is a byte or two longer.
func extend(key string) string {
	const bytes = "abcdefghijklmnopqrstuvwxyz"
	for _, c := range bytes {
		if longer := key + string(c); Height(longer) == 0 {
			return longer
		}
	}
	return extend(key + "a")
}

// heights are trees whose nodes have the wrong layers.
func (f *forge) heights() {
	var miner Miner
	leaf := func(keys ...string) string { return f.node(join("", keys)) }
	f.tree("keys of two heights in one node", join("", []string{miner.Key(0), miner.Key(1)}))
	f.tree("a taller key first", join("", []string{miner.Key(2), miner.Key(0)}))
	f.tree("a leaf with all keys, whatever their heights", join("", []string{miner.Key(0), miner.Key(1), miner.Key(0), miner.Key(3), miner.Key(0)}))

	l, r := miner.Key(0), miner.Key(0)
	f.keys = []string{l, r}
	f.tree("child of its parent's own height", join(leaf(l), []string{r}))
	low, high := miner.Key(1), miner.Key(0)
	f.keys = []string{low, high}
	f.tree("child taller than its parent", join(leaf(low), []string{high}))
	low, high = miner.Key(0), miner.Key(2)
	f.keys = []string{low, high}
	f.tree("a layer left out", join(leaf(low), []string{high}))
	low, high = miner.Key(0), miner.Key(4)
	f.tree("three layers left out", join(leaf(low), []string{high}))
	low, high = miner.Key(0), miner.Key(1)
	f.tree("a layer too many", join(f.node(rawNode(leaf(low))), []string{high}))
	low = miner.Key(0)
	f.keys = []string{low}
	f.tree("root without keys above a leaf", rawNode(leaf(low)))
	low = miner.Key(2)
	f.tree("two roots without keys above a node", rawNode(f.node(rawNode(leaf(low)))))
	f.tree("root without keys above the empty node", rawNode(f.node(rawNode(""))))
	high = miner.Key(1)
	f.keys = []string{high}
	f.tree("empty node below a key", join(f.node(rawNode("")), []string{high}))
	high = miner.Key(2)
	f.tree("node without keys above the empty node", join(f.node(rawNode(f.node(rawNode("")))), []string{high}))
	high = miner.Key(0)
	f.tree("link below the lowest layer", join(leaf(miner.Key(0)), []string{high}))

	// A chain of nodes without keys. Every reader that goes down without counting
	// goes down with it.
	for _, n := range []int{200, 5000} {
		low = miner.Key(0)
		f.keys = []string{low, "com.example.a/a"}[:400/n]
		link := leaf(low)
		for range n {
			link = f.node(rawNode(link))
		}
		f.tree(fmt.Sprintf("deep chain of %d nodes", n), rawNode(link))
		link = leaf(low)
		for range n {
			link = f.node(rawNode(link))
		}
		f.tree(fmt.Sprintf("deep chain of %d nodes below a key", n), join(link, []string{miner.Key(3)}))
	}
	// A chain in which every node has a key, so that it looks like a tree.
	link := ""
	for range 1000 {
		link = f.node(join(link, []string{miner.Key(0)}))
	}
	f.keys = []string{"com.example.a/a"}
	f.tree("deep chain of leaves", join(link, []string{miner.Key(0)}))
}

// ranges are trees in which keys are where they do not belong, or in two places.
func (f *forge) ranges() {
	leaf := func(keys ...string) string { return f.node(join("", keys)) }

	for _, above := range []int{1, 2, 3} {
		depth := []string{"", "", " two layers down", " three layers down"}[above]
		down := func(link string) string { // through nodes without keys
			for range above - 1 {
				link = f.node(rawNode(link))
			}
			return link
		}
		var m Miner
		high, low := m.Key(above), m.Key(0)
		f.keys = []string{high, low}
		f.tree("key of a left subtree after its parent"+depth, join(down(leaf(low)), []string{high}))
		before := m.Key(0)
		high = m.Key(above)
		f.keys = []string{before, high}
		f.tree("key of a right subtree before its parent"+depth, join("", []string{high}, down(leaf(before))))
		h1 := m.Key(above)
		h2 := m.Key(above)
		after := m.Key(0)
		f.keys = []string{h1, h2, after}
		f.tree("key between two others after both"+depth, join("", []string{h1, h2}, down(leaf(after))))
		l0 := m.Key(0)
		h1 = m.Key(above)
		l1 := m.Key(0)
		f.tree("last key of a left subtree after its parent"+depth, join(down(leaf(l0, l1)), []string{h1}))
		l0 = m.Key(0)
		h1 = m.Key(above)
		l1 = m.Key(0)
		f.tree("first key of a right subtree before its parent"+depth, join("", []string{h1}, down(leaf(l0, l1))))
	}
	// Right between its own node's keys, but beyond the key of the node above.
	var m Miner
	a := m.Key(1)
	top := m.Key(2)
	between := m.Key(0)
	f.keys = []string{a, top, between}
	f.tree("key beyond the grandparent", join(f.node(join("", []string{a}, leaf(between))), []string{top}))
	early := m.Key(0)
	top = m.Key(2)
	b := m.Key(1)
	f.keys = []string{early, top, b}
	f.tree("key before the grandparent", join("", []string{top}, f.node(join(leaf(early), []string{b}))))

	k := m.Key(0)
	h := m.Key(1)
	f.keys = []string{k, h}
	f.tree("one subtree on both sides of a key", join(leaf(k), []string{h}, leaf(k)))
	k = m.Key(0)
	h1, h2 := m.Key(1), m.Key(1)
	f.tree("one subtree behind two keys", join("", []string{h1, h2}, leaf(k), leaf(k)))
	same := m.Key(1)
	f.tree("the key of a node again below it", join(f.node(join("", []string{same})), []string{m.Key(2)}, f.node(join("", []string{same}))))

	// Shared-subtree bombs: some blocks stand for a tree without end. In the first,
	// heights are wrong too; in the second, only the ranges are.
	var bomb Miner
	link := leaf(bomb.Key(0))
	for range 60 {
		link = f.node(join(link, []string{bomb.Key(0)}, link))
	}
	f.keys = []string{"com.example.a/a", "com.example.z/z"}
	f.tree("shared-subtree bomb", join(link, []string{bomb.Key(0)}, link))
	link = leaf(bomb.Key(0))
	for height := 1; height < 6; height++ {
		var keys []string
		for range 40 {
			keys = append(keys, bomb.Key(height))
		}
		data := join(link, keys, slices.Repeat([]string{link}, len(keys))...)
		if height == 5 {
			f.keys = []string{"com.example.a/a", "com.example.z/z"}
			f.tree("shared-subtree bomb of the right heights", data)
			return
		}
		link = f.node(data)
	}
}

// sizes are well-formed trees that are too large to be honest.
func (f *forge) sizes() {
	var m Miner
	keys := make([]string, 40_000)
	for i := range keys {
		keys[i] = m.Key(0)
	}
	for _, n := range []int{9, 12, 40} {
		f.keys = keys[:1]
		f.tree(fmt.Sprintf("flat node of %d,000 keys", n), rawNode("", spelled(keys[:n*1000]...)...))
		f.vectors[len(f.vectors)-1].Valid = true
	}
}
