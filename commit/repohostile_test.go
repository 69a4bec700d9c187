package commit_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// Hostile files: all refused, whatever kind of reader they come from.
func TestReadRepoRefuses(t *testing.T) {
	a, bob := filled(t, "alice", 100), filled(t, "bob", 3)
	blocks := a.blocks(t)
	root := []cid.Cid{a.block.CID}
	files := func(list []car.Block) []byte { return car.Append(nil, root, list...) }
	without := func(i int) []byte { return files(slices.Delete(slices.Clone(blocks), i, i+1)) }
	lastRecord, someNode := len(blocks)-1, 0
	for i, b := range blocks[2:] {
		if a.records[recordPath(a, b)].CID != b.CID {
			someNode = i + 2
		}
	}
	// signed makes a file of a tree with a block of any bytes under some path.
	signed := func(data []byte) []byte {
		m := newAccount(t, "alice")
		b := car.Block{CID: dag.Sum(dag.CBOR, data), Data: data}
		m.write(t, map[string]string{"com.example.a/1": "x", "com.example.a/2": "y"})
		change, err := m.tree.Apply([]mst.Op{{Key: "com.example.a/1", Value: b.CID}})
		if err != nil {
			t.Fatal(err)
		}
		m.tree = change.Tree
		m.records["com.example.a/1"] = b
		m.sign(t, m.rev(1), change.Root)
		return m.export(t)
	}
	for name, c := range map[string]struct {
		file []byte
		opt  commit.RepoOptions
		want error // further to ErrRepo
	}{
		"nothing":                      {nil, commit.RepoOptions{}, car.ErrTruncated},
		"garbage":                      {[]byte("garbage"), commit.RepoOptions{}, nil},
		"no root":                      {car.Append(nil, nil, blocks...), commit.RepoOptions{}, nil},
		"two roots":                    {car.Append(nil, append(root, root...), blocks...), commit.RepoOptions{}, nil},
		"no blocks":                    {car.Append(nil, root), commit.RepoOptions{}, nil},
		"no commit":                    {without(0), commit.RepoOptions{}, nil},
		"no root node":                 {without(1), commit.RepoOptions{}, nil},
		"a node is missing":            {without(someNode), commit.RepoOptions{}, nil},
		"the last record is missing":   {without(lastRecord), commit.RepoOptions{}, nil},
		"a record for a commit":        {car.Append(nil, []cid.Cid{record("x").CID}, record("x")), commit.RepoOptions{}, commit.ErrCommit},
		"another account's repository": {bob.export(t), commit.RepoOptions{DID: a.did}, nil},
		"another key":                  {a.export(t), commit.RepoOptions{Key: bob.key.PublicKey()}, crypto.ErrSignature},
		"a record that is an array":    {signed([]byte{0x80}), commit.RepoOptions{}, nil},
		"a record of no bytes":         {signed(nil), commit.RepoOptions{}, nil},
		"a record with trailing bytes": {signed([]byte("\xa0\x00")), commit.RepoOptions{}, nil},
		"a record too large":           {signed(record(strings.Repeat("x", 1_000_000)).Data), commit.RepoOptions{}, nil},
		"a record over the own limit":  {a.export(t), commit.RepoOptions{Record: 10}, nil},
		"more records than allowed":    {a.export(t), commit.RepoOptions{Records: 100}, nil},
		"more blocks than allowed":     {a.export(t), commit.RepoOptions{CAR: car.Limits{Blocks: 50}}, car.ErrTooLarge},
		"more nodes than allowed":      {a.export(t), commit.RepoOptions{Tree: mst.Limits{Nodes: 2}}, mst.ErrTooLarge},
		"cut short":                    {a.export(t)[:len(a.export(t))-1], commit.RepoOptions{}, car.ErrTruncated},
		"a broken block behind it all": {append(a.export(t), 0xff, 0xff), commit.RepoOptions{}, nil},
		"a foreign block that is bad":  {append(a.export(t), car.AppendBlocks(nil, car.Block{CID: root[0], Data: []byte("x")})...), commit.RepoOptions{}, car.ErrHash},
	} {
		dir := t.TempDir()
		c.opt.Temp = car.TempDir(dir)
		for _, memory := range []int64{0, 1} {
			c.opt.Memory = memory
			for source, r := range map[string]io.Reader{"stream": once{bytes.NewReader(c.file)}, "memory": bytes.NewReader(c.file)} {
				if _, err := readRepo(r, c.opt); !errors.Is(err, commit.ErrRepo) || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s from %s: %v, want %v", name, source, err, c.want)
				}
			}
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: files left behind: %v", name, left)
		}
	}
}

// Records may have as many bytes as the limits say, each of them and all together.
func TestReadRepoAtItsLimits(t *testing.T) {
	a := newAccount(t, "alice")
	a.write(t, map[string]string{"com.example.a/1": "x", "com.example.a/2": "longer", "com.example.a/3": "y"})
	longest, all := 0, int64(0)
	for _, r := range a.records {
		longest, all = max(longest, len(r.Data)), all+int64(len(r.Data))
	}
	for name, c := range map[string]struct {
		opt commit.RepoOptions
		ok  bool
	}{
		"the longest record":      {commit.RepoOptions{Record: longest}, true},
		"a longer record":         {commit.RepoOptions{Record: longest - 1}, false},
		"all records":             {commit.RepoOptions{Records: all}, true},
		"one byte too many":       {commit.RepoOptions{Records: all - 1}, false},
		"a stream that is kept":   {commit.RepoOptions{Stream: true, Memory: 1, Temp: func(int64) (car.TempFile, error) { return nil, syscall.ENOSPC }}, true},
		"nodes that are too long": {commit.RepoOptions{Tree: mst.Limits{NodeBytes: 10}}, false},
	} {
		for _, r := range []io.Reader{once{bytes.NewReader(a.export(t))}, bytes.NewReader(a.export(t))} {
			if got, err := readRepo(r, c.opt); c.ok && (err != nil || len(got) != 3) || !c.ok && !errors.Is(err, commit.ErrRepo) {
				t.Errorf("%s: %d records, %v", name, len(got), err)
			}
		}
	}
}

func recordPath(a *account, b car.Block) string {
	for p, r := range a.records {
		if r.CID == b.CID {
			return p
		}
	}
	return ""
}

// ReadRepo itself says that the commit cannot be read.
func TestReadRepoOfAnUnreadableCommit(t *testing.T) {
	a := filled(t, "alice", 3)
	file := a.export(t)
	bad := bytes.Clone(file)
	bad[bytes.Index(bad, []byte(a.commit.Rev))]++
	boom := errors.New("boom")
	start := file[:len(car.Append(nil, []cid.Cid{a.block.CID}))+50]
	header := car.Append(nil, []cid.Cid{a.block.CID})
	for name, c := range map[string]struct {
		r    io.Reader
		want error
	}{
		"damaged file":   {bytes.NewReader(bad), commit.ErrRepo},
		"damaged stream": {once{bytes.NewReader(bad)}, car.ErrHash},
		"no commit":      {bytes.NewReader(header), commit.ErrRepo},
		"a mere stream":  {once{bytes.NewReader(header)}, commit.ErrRepo},
		"cut short":      {once{bytes.NewReader(start)}, car.ErrTruncated},
		"failing source": {io.MultiReader(bytes.NewReader(start), iotest.ErrReader(boom)), boom},
	} {
		if x, err := commit.ReadRepo(c.r, commit.RepoOptions{}); x != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A file that shrinks between the first and the second reading is no surprise.
func TestReadRepoOfAChangingFile(t *testing.T) {
	a := filled(t, "alice", 50)
	blocks := shuffled(a, a.blocks(t))["in any order"]
	file := car.Append(nil, []cid.Cid{a.block.CID}, slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID == a.commit.Data })...)
	header := car.Append(nil, []cid.Cid{a.block.CID})
	for _, second := range [][]byte{nil, header, header[:5]} {
		if _, err := readRepo(&changing{first: bytes.NewReader(file), second: bytes.NewReader(second)}, commit.RepoOptions{}); !errors.Is(err, commit.ErrRepo) {
			t.Error(err)
		}
	}
}

type changing struct {
	first, second io.Reader
	seeks         int
}

func (c *changing) Read(b []byte) (int, error) {
	if c.seeks < 2 {
		return c.first.Read(b)
	}
	return c.second.Read(b)
}

func (c *changing) Seek(int64, int) (int64, error) {
	c.seeks++
	return 0, nil
}

// A small file of many paths to one large record ends at a limit.
func TestRepeatedRecordBombInARepository(t *testing.T) {
	a := newAccount(t, "alice")
	large := record(strings.Repeat("x", 900_000))
	var ops []mst.Op
	for _, p := range somePaths(1000) {
		ops = append(ops, mst.Op{Key: p, Value: large.CID})
	}
	change, err := a.tree.Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	a.sign(t, a.rev(1), change.Root)
	file := car.Append(nil, []cid.Cid{a.block.CID}, append(append([]car.Block{a.block}, change.New...), large)...)
	n := 0
	x, err := commit.ReadRepo(bytes.NewReader(file), commit.RepoOptions{Records: 20_000_000})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for _, err = range x.Records() {
		n++
	}
	if !errors.Is(err, commit.ErrRepo) || n > 24 {
		t.Errorf("%d records: %v", n, err)
	}
}

// TestRecordIsNotCanonical: a record in CBOR that is not DAG-CBOR is refused, and named.
func TestRecordIsNotCanonical(t *testing.T) {
	a := filled(t, "alice", 20)
	loose := []byte("\xa1\x61a\x18\x01")
	block := car.Block{CID: dag.Sum(dag.CBOR, loose), Data: loose}
	change, err := a.tree.Apply([]mst.Op{{Key: "com.example.loose/1", Value: block.CID}})
	if err != nil {
		t.Fatal(err)
	}
	a.tree = change.Tree
	a.records["com.example.loose/1"] = block
	a.sign(t, a.rev(1), change.Root)
	for name, file := range map[string]io.Reader{"stream": once{bytes.NewReader(a.export(t))}, "file": bytes.NewReader(a.export(t))} {
		x, err := commit.ReadRepo(file, commit.RepoOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, recErr := range x.Records() {
			err = recErr
		}
		x.Close()
		if !errors.Is(err, commit.ErrRepo) || !strings.Contains(err.Error(), "com.example.loose/1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rawRecord is a repository in which a record has the CID of raw bytes.
func rawRecord(t *testing.T) []byte {
	a := filled(t, "alice", 20)
	data := record("raw").Data
	raw := car.Block{CID: dag.Sum(dag.Raw, data), Data: data}
	change, err := a.tree.Apply([]mst.Op{{Key: "com.example.raw/1", Value: raw.CID}})
	if err != nil {
		t.Fatal(err)
	}
	a.tree = change.Tree
	a.records["com.example.raw/1"] = raw
	a.sign(t, a.rev(1), change.Root)
	return a.export(t)
}

// TestRecordWithCodecOfBlobs: a record whose CID has another codec than dag-cbor is none, whatever
// its bytes are.
func TestRecordWithCodecOfBlobs(t *testing.T) {
	for _, check := range []func(string, []byte) error{nil, func(string, []byte) error { return nil }} {
		if _, err := readRepo(bytes.NewReader(rawRecord(t)), commit.RepoOptions{CheckRecord: check}); !errors.Is(err, commit.ErrRepo) || !strings.Contains(err.Error(), "com.example.raw/1") {
			t.Error(err)
		}
	}
}
