package commit_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// proofOf returns the root and the blocks with which a server answers getRecord.
func (a *account) proofOf(t testing.TB, path string) (root cid.Cid, blocks []car.Block) {
	t.Helper()
	nodes, err := a.tree.Proof(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks = append([]car.Block{a.block}, nodes...)
	if r, ok := a.records[path]; ok {
		blocks = append(blocks, r)
	}
	return a.block.CID, blocks
}

func (a *account) proofFile(t testing.TB, path string) []byte {
	root, blocks := a.proofOf(t, path)
	return car.Append(nil, []cid.Cid{root}, blocks...)
}

// ask is the options that ask for a record of an account.
func (a *account) ask(path string) commit.RecordOptions {
	collection, rkey, _ := strings.Cut(path, "/")
	return commit.RecordOptions{DID: a.did, Key: a.key.PublicKey(), Collection: syntax.NSID(collection), RKey: syntax.RecordKey(rkey)}
}

// wantRule fails unless an error is a *RuleError of a rule.
func wantRule(t testing.TB, name string, err, rule error) {
	t.Helper()
	var e *commit.RuleError
	if !errors.As(err, &e) || e.Rule != rule || !errors.Is(err, rule) {
		t.Errorf("%s: %v, want %v", name, err, rule)
	}
}

func TestVerifyRecord(t *testing.T) {
	for _, n := range []int{1, 2, 40, 700} {
		a := filled(t, "alice", n)
		paths := somePaths(n)
		for _, path := range []string{paths[0], paths[n/2], paths[n-1]} {
			p, err := commit.VerifyRecord(a.proofFile(t, path), a.ask(path))
			if err != nil || p.CID != a.records[path].CID || !bytes.Equal(p.Data, a.records[path].Data) || p.Root != a.block.CID || p.Commit.Rev != a.commit.Rev {
				t.Errorf("%d records, %s: %+v, %v", n, path, p, err)
			}
		}
		// In any order, with foreign blocks, and some twice, it is the same proof.
		root, blocks := a.proofOf(t, paths[0])
		slices.Reverse(blocks)
		blocks = append(append(blocks, record("foreign")), blocks...)
		if p, err := commit.VerifyRecord(car.Append(nil, []cid.Cid{root}, blocks...), a.ask(paths[0])); err != nil || p.CID != a.records[paths[0]].CID {
			t.Errorf("%d records, reversed: %v", n, err)
		}
		// The whole repository proves each of its records.
		if p, err := commit.VerifyRecord(a.export(t), commit.RecordOptions{DID: a.did, Key: a.key.PublicKey(), Collection: "com.example.a", RKey: "0000000000000",
			CAR: car.Limits{Blocks: 1 << 20}}); err != nil || p.CID != a.records[paths[0]].CID {
			t.Errorf("%d records, export: %v", n, err)
		}
	}
}

func TestAbsenceIsProven(t *testing.T) {
	a := newAccount(t, "alice")
	a.write(t, nil)
	b := filled(t, "bob", 300)
	for _, c := range []struct {
		a    *account
		path string
	}{
		{a, "com.example.a/self"},                                          // in an empty repository
		{b, "aaa.aaa.aaa/0"}, {b, "zzz.zzz.zzz/0"}, {b, "com.example.b/0"}, // before, after and between its records
		{b, "com.example.a/0000000000000x"}, {b, "com.example.d/0000000000003"},
	} {
		p, err := commit.VerifyRecord(c.a.proofFile(t, c.path), c.a.ask(c.path))
		wantRule(t, c.path, err, commit.ErrNoRecord)
		if p.CID.Defined() || p.Data != nil || p.Root != c.a.block.CID || p.Commit.Rev != c.a.commit.Rev || p.Commit.DID != c.a.did {
			t.Errorf("%s: %+v", c.path, p)
		}
	}
}

// Absence is proven by the nodes of the path alone. A server that leaves one out, or that answers
// with the path of another key, has not shown that a record is not there.
func TestRecordHiddenByLeavingNodesOut(t *testing.T) {
	a := filled(t, "alice", 700)
	for _, path := range []string{somePaths(700)[3], somePaths(700)[350], "com.example.b/absent"} {
		root, blocks := a.proofOf(t, path)
		inTree := a.records[path].CID.Defined()
		last := len(blocks)
		if inTree {
			last--
		}
		for i := 1; i < last; i++ {
			rest := slices.Delete(slices.Clone(blocks), i, i+1)
			p, err := commit.VerifyRecord(car.Append(nil, []cid.Cid{root}, rest...), a.ask(path))
			if !inTree && errors.Is(err, commit.ErrNoRecord) {
				continue // the key could not be in the nodes further down
			}
			wantRule(t, fmt.Sprintf("%s without node %d", path, i), err, commit.ErrTree)
			if p.CID.Defined() || p.Commit.DID != "" {
				t.Errorf("%+v", p)
			}
		}
		_, err := commit.VerifyRecord(car.Append(nil, []cid.Cid{root}, blocks[0]), a.ask(path))
		wantRule(t, path+" with the commit alone", err, commit.ErrTree)
	}
}

func TestForgedRecordProofs(t *testing.T) {
	a, mallory := filled(t, "alice", 300), filled(t, "mallory", 299)
	path := somePaths(300)[150]
	other := testKey(t, crypto.P256, "another")
	build := func(roots []cid.Cid, blocks ...car.Block) []byte { return car.Append(nil, roots, blocks...) }
	root, blocks := a.proofOf(t, path)
	record1 := a.records[path]
	without := func(c cid.Cid) []car.Block {
		return slices.DeleteFunc(slices.Clone(blocks), func(b car.Block) bool { return b.CID == c })
	}
	// signed is a proof under a commit of alice's own making.
	signed := func(did syntax.DID, data cid.Cid, key *crypto.PrivateKey, more ...car.Block) []byte {
		_, head, err := commit.Sign(t.Context(), did, a.commit.Rev, data, key)
		if err != nil {
			t.Fatal(err)
		}
		return build([]cid.Cid{head.CID}, append([]car.Block{head}, more...)...)
	}
	// holding is a proof of a repository whose only record is the block.
	holding := func(value car.Block) []byte {
		tree, err := mst.BuildSorted([]mst.Entry{{Key: path, Value: value.CID}})
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := tree.Proof(path)
		if err != nil {
			t.Fatal(err)
		}
		return signed(a.did, tree.Root(), a.key, append(nodes, value)...)
	}
	raw := []byte("\xa1\x61a\x01")
	object := func(codec dag.Codec, b string) car.Block {
		return car.Block{CID: dag.Sum(codec, []byte(b)), Data: []byte(b)}
	}
	flipped := bytes.Clone(build([]cid.Cid{root}, blocks...))
	flipped[len(flipped)-1] ^= 1
	changed := bytes.Clone(a.block.Data)
	changed[bytes.Index(changed, []byte(a.commit.Rev))] ^= 1 // another revision under the same signature
	rootAs := func(codec dag.Codec) []byte {
		_, digest, _ := dag.Split(root)
		c := dag.CID(codec, &digest)
		return build([]cid.Cid{c}, append([]car.Block{{CID: c, Data: a.block.Data}}, blocks[1:]...)...)
	}
	for name, c := range map[string]struct {
		file []byte
		rule error
	}{
		"nothing":                              {nil, commit.ErrBlocks},
		"garbage":                              {[]byte("garbage"), commit.ErrBlocks},
		"an HTML page":                         {[]byte("<!doctype html>"), commit.ErrBlocks},
		"a file that ends early":               {flipped[:len(flipped)-2], commit.ErrBlocks},
		"a record with a flipped bit":          {flipped, commit.ErrBlocks},
		"no root":                              {build(nil, blocks...), commit.ErrBlocks},
		"two roots":                            {build([]cid.Cid{root, root}, blocks...), commit.ErrBlocks},
		"a root that is not there":             {build([]cid.Cid{root}, blocks[1:]...), commit.ErrBlocks},
		"a commit of raw bytes":                {rootAs(dag.Raw), commit.ErrBlocks},
		"the record as the root":               {build([]cid.Cid{record1.CID}, blocks...), commit.ErrCommitBlock},
		"the tree as the root":                 {build([]cid.Cid{a.commit.Data}, blocks...), commit.ErrCommitBlock},
		"another account's repository":         {mallory.proofFile(t, path), commit.ErrFields},
		"another account's commit, same key":   {signed("did:web:mallory.test", a.commit.Data, a.key, blocks[1:]...), commit.ErrFields},
		"a commit by a stranger":               {signed(a.did, a.commit.Data, mallory.key, blocks[1:]...), commit.ErrBadSignature},
		"a commit by another kind of key":      {signed(a.did, a.commit.Data, other, blocks[1:]...), commit.ErrBadSignature},
		"an older signature on a new revision": {build([]cid.Cid{dag.Sum(dag.CBOR, changed)}, append([]car.Block{{CID: dag.Sum(dag.CBOR, changed), Data: changed}}, blocks[1:]...)...), commit.ErrBadSignature},
		"the commit without a tree":            {build([]cid.Cid{root}, a.block), commit.ErrTree},
		"another repository's tree":            {build([]cid.Cid{root}, append([]car.Block{a.block}, mallory.blocks(t)[1:]...)...), commit.ErrTree},
		"a tree that is the record":            {signed(a.did, record1.CID, a.key, record1), commit.ErrTree},
		"the record withheld":                  {build([]cid.Cid{root}, without(record1.CID)...), commit.ErrRecord},
		"another record in its place":          {build([]cid.Cid{root}, append(without(record1.CID), record("forged"))...), commit.ErrRecord},
		"a record of raw bytes":                {holding(object(dag.Raw, string(raw))), commit.ErrRecord},
		"a record that is no map":              {holding(object(dag.CBOR, "\x81\x01")), commit.ErrRecord},
		"a record of unsorted fields":          {holding(object(dag.CBOR, "\xa2\x61b\x01\x61a\x01")), commit.ErrRecord},
		"a record with a field twice":          {holding(object(dag.CBOR, "\xa2\x61a\x01\x61a\x01")), commit.ErrRecord},
		"a record with bytes after it":         {holding(object(dag.CBOR, "\xa0\x00")), commit.ErrRecord},
		"an empty record block":                {holding(object(dag.CBOR, "")), commit.ErrRecord},
		"a record over the limit":              {holding(record(strings.Repeat("x", commit.MaxRecord))), commit.ErrRecord},
		"a file over the limit":                {build([]cid.Cid{root}, append(slices.Clone(blocks), record(strings.Repeat("x", 1_900_000)), record(strings.Repeat("y", 1_900_000)))...), commit.ErrSize},
		"a block over the limit":               {build([]cid.Cid{root}, append(slices.Clone(blocks), record(strings.Repeat("x", 2<<20)))...), commit.ErrSize},
		"thousands of blocks":                  {build([]cid.Cid{root}, append(slices.Clone(blocks), slices.Repeat([]car.Block{record("x")}, 1024)...)...), commit.ErrSize},
		"a length that nothing could hold":     {append(build([]cid.Cid{root}), bytes.Repeat([]byte{0xff}, 9)...), commit.ErrBlocks},
		"a tree without its root":              {signed(a.did, a.commit.Data, a.key, slices.Delete(slices.Clone(blocks), 1, 2)[1:]...), commit.ErrTree},
	} {
		p, err := commit.VerifyRecord(c.file, a.ask(path))
		wantRule(t, name, err, c.rule)
		if p.CID.Defined() || p.Data != nil || p.Root.Defined() || p.Commit.DID != "" {
			t.Errorf("%s: the result is %+v", name, p)
		}
	}
}

func TestRecordProofWithWrongQuestions(t *testing.T) {
	a := filled(t, "alice", 5)
	path := somePaths(5)[2]
	file := a.proofFile(t, path)
	for name, c := range map[string]struct {
		change func(*commit.RecordOptions)
		rule   error
	}{
		"no DID":          {func(o *commit.RecordOptions) { o.DID = "" }, commit.ErrFields},
		"another DID":     {func(o *commit.RecordOptions) { o.DID = "did:web:bob.test" }, commit.ErrFields},
		"no key":          {func(o *commit.RecordOptions) { o.Key = nil }, commit.ErrNoKey},
		"no collection":   {func(o *commit.RecordOptions) { o.Collection = "" }, commit.ErrOp},
		"no record key":   {func(o *commit.RecordOptions) { o.RKey = "" }, commit.ErrOp},
		"a key of dots":   {func(o *commit.RecordOptions) { o.RKey = ".." }, commit.ErrOp},
		"two slashes":     {func(o *commit.RecordOptions) { o.RKey = "a/b" }, commit.ErrOp},
		"a small record":  {func(o *commit.RecordOptions) { o.Record = 5 }, commit.ErrRecord},
		"a small file":    {func(o *commit.RecordOptions) { o.CAR.TotalBytes = 100 }, commit.ErrSize},
		"few blocks":      {func(o *commit.RecordOptions) { o.CAR.Blocks = 1 }, commit.ErrSize},
		"small nodes":     {func(o *commit.RecordOptions) { o.Tree.NodeBytes = 10 }, commit.ErrTree},
		"another record":  {func(o *commit.RecordOptions) { o.RKey = "0000000000009" }, commit.ErrNoRecord},
		"as it should be": {func(o *commit.RecordOptions) {}, nil},
	} {
		o := a.ask(path)
		c.change(&o)
		_, err := commit.VerifyRecord(file, o)
		if c.rule == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantRule(t, name, err, c.rule)
	}
}

// Whatever a server answers, the record that comes out is the account's, or none does.
func FuzzVerifyRecord(f *testing.F) {
	a := filled(f, "alice", 40)
	path := somePaths(40)[7]
	f.Add(a.proofFile(f, path))
	f.Add(a.proofFile(f, "com.example.a/absent"))
	f.Add(filled(f, "mallory", 3).proofFile(f, path))
	f.Add(a.export(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := commit.VerifyRecord(file, a.ask(path))
		var e *commit.RuleError
		switch {
		case err == nil && (p.CID != a.records[path].CID || !bytes.Equal(p.Data, a.records[path].Data) || p.Commit.Rev != a.commit.Rev):
			t.Fatalf("a forged record: %+v", p)
		case err != nil && !errors.As(err, &e):
			t.Fatal(err)
		case errors.Is(err, commit.ErrNoRecord):
			t.Fatal("the absence of a record that is there was proven")
		}
	})
}
