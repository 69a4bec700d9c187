package msttest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	canonical "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// The checks that a reader makes. Without one of them, it is a mutant.
var checks = []string{
	"hash", "canonical CBOR", "trailing bytes", "fields", "links", "record links", "root link", "prefix exists", "prefix is the longest",
	"order in a node", "bounds", "legal keys", "one height in a node", "layers", "no empty nodes", "no links below the lowest layer", "root has keys",
}

func (n *naive) load(src mst.Source, root cid.Cid) (Tree, error) {
	l := &naiveLoader{n: n, src: src, m: make(Model)}
	if !n.has("unchecked: root link") && root.Prefix() != Value(0).Prefix() {
		return nil, errors.New("illegal root")
	}
	if root == (Model{}).Root() && !n.has("the empty tree is read") {
		return n.tree(nil), nil
	}
	read := func() error {
		_, err := l.node(root, "", "", -1)
		if err != nil && n.has("errors are hidden") {
			err = errors.New("something went wrong")
		}
		return err
	}
	if n.has("a fault lasts") || n.has("a fault ends the tree") {
		t := n.tree(l.m)
		var first error
		done := false
		t.source = func() error {
			if !done {
				done = true
				first = read()
			}
			return first
		}
		return t, nil
	}
	if err := read(); err != nil {
		return nil, err
	}
	if n.has("flat nodes are written that cannot be read") && len(l.m) > 1000 {
		return nil, errors.New("too many keys for me")
	}
	if n.has("the last entry is lost when loaded") && len(l.m) > 0 {
		delete(l.m, l.m.Keys()[len(l.m)-1])
	}
	return n.tree(l.m), nil
}

type naiveLoader struct {
	n   *naive
	src mst.Source
	m   Model
}

// check reports whether a check is made.
func (l *naiveLoader) check(name string) bool { return !l.n.has("unchecked: " + name) }

type naiveNode struct {
	Entries []struct {
		Key    []byte          `cbor:"k"`
		Prefix *int            `cbor:"p"`
		Tree   cbor.RawMessage `cbor:"t"`
		Value  cbor.RawMessage `cbor:"v"`
	} `cbor:"e"`
	Left cbor.RawMessage `cbor:"l"`
}

func (l *naiveLoader) node(c cid.Cid, lo, hi string, height int) (int, error) {
	data, err := l.src.Block(c)
	if err != nil {
		if l.n.has("a fault ends the tree") {
			return height, nil
		}
		return 0, fmt.Errorf("node %s: %w", c, err)
	}
	refuse := func(why string) (int, error) { return 0, fmt.Errorf("node %s: %s", c, why) }
	if len(data) > 1_000_000 {
		return refuse("too many keys for me")
	}
	if l.check("hash") && sha256.Sum256(data) != [32]byte([]byte(c.Hash())[2:]) {
		return refuse("hash")
	}
	var n naiveNode
	rest, err := cbor.UnmarshalFirst(data, &n)
	if err != nil {
		return refuse(err.Error())
	}
	if l.check("trailing bytes") && len(rest) > 0 {
		return refuse("trailing bytes")
	}
	if l.check("canonical CBOR") {
		var e *canonical.Error
		err := canonical.Scan(data[:len(data)-len(rest)], canonical.Limits{})
		if errors.As(err, &e) && !errors.Is(err, canonical.ErrLink) {
			return refuse(err.Error())
		}
	}
	if l.check("fields") && !exactFields(data) {
		return refuse("fields")
	}
	type link struct {
		c      cid.Cid
		lo, hi string
	}
	var links []link
	add := func(raw cbor.RawMessage, lo string) error {
		if len(raw) == 0 || len(raw) == 1 && raw[0] == 0xf6 {
			return nil
		}
		c, err := l.link(raw, "links", dag.CBOR)
		if err == nil {
			links = append(links, link{c: c, lo: lo})
		}
		return err
	}
	if err := add(n.Left, lo); err != nil {
		return 0, err
	}
	prev := ""
	for i, e := range n.Entries {
		p := 0
		if e.Prefix != nil {
			p = *e.Prefix
		}
		if l.check("prefix exists") && p > len(prev) {
			return refuse("prefix")
		}
		key := prev[:p] + string(e.Key)
		if l.check("prefix is the longest") && p < min(len(prev), len(key)) && prev[p] == key[p] {
			return refuse("prefix is too short")
		}
		if l.check("legal keys") && mst.ValidKey(key) != nil {
			return refuse("illegal key")
		}
		if l.check("order in a node") && i > 0 && key <= prev {
			return refuse("order")
		}
		if l.check("bounds") && (lo != "" && key <= lo || hi != "" && key >= hi) {
			return refuse("bounds")
		}
		if len(links) > 0 && links[len(links)-1].hi == "" {
			links[len(links)-1].hi = key
		}
		if i == 0 && height < 0 {
			height = Height(key)
		}
		if l.check("one height in a node") && i > 0 && Height(key) != height {
			return refuse("heights")
		}
		if l.check("layers") && i == 0 && Height(key) != height {
			return refuse("layers")
		}
		v, err := l.link(e.Value, "record links", 0)
		if err != nil {
			return 0, err
		}
		l.m[strings.Clone(key)] = v
		prev = key
		if err := add(e.Tree, key); err != nil {
			return 0, err
		}
	}
	if l.check("no empty nodes") && len(n.Entries) == 0 && len(links) == 0 {
		return refuse("empty node")
	}
	if l.check("root has keys") && len(n.Entries) == 0 && height < 0 {
		return refuse("root without keys")
	}
	if l.check("no links below the lowest layer") && height == 0 && len(links) > 0 {
		return refuse("links at height 0")
	}
	for i, k := range links {
		if k.hi == "" {
			k.hi = hi
		}
		if i > 0 && k.lo == "" {
			k.lo = lo
		}
		below := height - 1
		if height < 0 || !l.check("layers") {
			below = -1
		}
		if _, err := l.node(k.c, k.lo, k.hi, below); err != nil {
			return 0, err
		}
	}
	return height, nil
}

// link reads a link. Where it is not checked, the last 32 bytes are believed to be
// the digest.
func (l *naiveLoader) link(raw cbor.RawMessage, check string, codec dag.Codec) (cid.Cid, error) {
	if b := []byte(raw); len(b) == 41 && string(b[:5]) == "\xd8\x2a\x58\x25\x00" {
		if got, digest, ok := dag.SplitBytes(b[5:]); ok && (codec == 0 || got == codec) {
			return dag.CID(got, &digest), nil
		}
	}
	if l.check(check) {
		return cid.Undef, fmt.Errorf("link %x", []byte(raw))
	}
	if len(raw) < 32 {
		return Value(0), nil
	}
	digest := dag.Digest(raw[len(raw)-32:])
	return dag.CID(dag.CBOR, &digest), nil
}

// exactFields reports whether maps have the fields that they must have.
func exactFields(data []byte) bool {
	var n map[string]cbor.RawMessage
	if data[0]>>5 != canonical.MajorMap {
		return false
	}
	if _, err := cbor.UnmarshalFirst(data, &n); err != nil || len(n) != 2 || n["e"] == nil || n["l"] == nil || n["e"][0] == 0xf6 {
		return false
	}
	var entries []map[string]cbor.RawMessage
	if err := cbor.Unmarshal(n["e"], &entries); err != nil {
		return false
	}
	for _, e := range entries {
		if len(e) != 4 || e["k"] == nil || e["p"] == nil || e["t"] == nil || e["v"] == nil || e["k"][0]>>5 != 2 || e["p"][0]>>5 != 0 {
			return false
		}
	}
	return true
}
