package commit_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
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
	"github.com/pdskit/pdskit/internal/tempfile/temptest"
	"github.com/pdskit/pdskit/mst"
)

// once hides everything but Read.
type once struct{ io.Reader }

// readRepo reads a file to its end and returns its records.
func readRepo(r io.Reader, opt commit.RepoOptions) (map[string][]byte, error) {
	x, err := commit.ReadRepo(r, opt)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	m := make(map[string][]byte)
	last := ""
	for rec, err := range x.Records() {
		if err != nil {
			return nil, err
		}
		if rec.Path <= last {
			return nil, fmt.Errorf("%s after %s", rec.Path, last)
		}
		if !dag.Matches(rec.CID, rec.Data) {
			return nil, fmt.Errorf("%s is %x", rec.Path, rec.Data)
		}
		last = rec.Path
		m[rec.Path] = bytes.Clone(rec.Data)
	}
	return m, nil
}

// shuffled are ways in which the blocks of a repository may come.
func shuffled(a *account, blocks []car.Block) map[string][]car.Block {
	rng := rand.New(rand.NewPCG(3, 3))
	any := slices.Clone(blocks)
	rng.Shuffle(len(any), func(i, j int) { any[i], any[j] = any[j], any[i] })
	backward := slices.Clone(blocks)
	slices.Reverse(backward)
	twice := append(slices.Clone(blocks), blocks...)
	var stuttering, unique, foreign []car.Block
	seen := make(map[cid.Cid]bool)
	for i, b := range blocks {
		stuttering = append(stuttering, b, b)
		foreign = append(foreign, record(fmt.Sprintf("foreign %d", i)), b)
		if !seen[b.CID] {
			seen[b.CID] = true
			unique = append(unique, b)
		}
	}
	sorted := slices.Clone(unique)
	slices.SortFunc(sorted, func(a, b car.Block) int { return strings.Compare(a.CID.KeyString(), b.CID.KeyString()) })
	return map[string][]car.Block{
		"in pre-order": blocks, "in any order": any, "backward": backward, "twice": twice, "each twice": stuttering,
		"each once": unique, "by CID": sorted, "with foreign blocks": foreign, "foreign blocks last": append(slices.Clone(blocks), record("foreign")),
	}
}

func TestReadRepo(t *testing.T) {
	a := newAccount(t, "alice")
	texts := make(map[string]string)
	for i, p := range somePaths(200) {
		texts[p] = fmt.Sprintf("text %d", i%150) // some records are the same
	}
	a.write(t, texts)
	want := make(map[string][]byte)
	for p, b := range a.records {
		want[p] = b.Data
	}
	dir := t.TempDir()
	base := commit.RepoOptions{DID: a.did, Key: a.key.PublicKey(), Temp: car.TempDir(dir)}
	for name, blocks := range shuffled(a, a.blocks(t)) {
		file := car.Append(nil, []cid.Cid{a.block.CID}, blocks...)
		path := filepath.Join(t.TempDir(), "repo.car")
		if err := os.WriteFile(path, append([]byte("ahead"), file...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, memory := range []int64{0, 1} {
			for source, open := range map[string]func() io.Reader{
				"stream": func() io.Reader { return once{bytes.NewReader(file)} },
				"memory": func() io.Reader { return bytes.NewReader(file) },
				"file": func() io.Reader {
					f, err := os.Open(path)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { f.Close() })
					if _, err := f.Seek(5, io.SeekStart); err != nil {
						t.Fatal(err)
					}
					return f
				},
				"pipe": func() io.Reader {
					if runtime.GOOS == "js" { // there are none
						return once{bytes.NewReader(file)}
					}
					r, w, err := os.Pipe()
					if err != nil {
						t.Fatal(err)
					}
					go func() {
						w.Write(file)
						w.Close()
					}()
					t.Cleanup(func() { r.Close() })
					return r
				},
			} {
				opt := base
				opt.Memory = memory
				got, err := readRepo(open(), opt)
				if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("%s from %s, %d bytes in memory: %d records, %v", name, source, memory, len(got), err)
				}
			}
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("files left behind: %v", left)
	}
	// The promise of a stream in which everything comes when it is wanted.
	opt := base
	opt.Stream = true
	if got, err := readRepo(once{bytes.NewReader(a.export(t))}, opt); err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("stream: %v", err)
	}
	once := shuffled(a, a.blocks(t))["each once"]
	if _, err := readRepo(io.MultiReader(bytes.NewReader(car.Append(nil, []cid.Cid{a.block.CID}, once...))), opt); !errors.Is(err, commit.ErrRepo) {
		t.Errorf("a promise that was broken: %v", err)
	}
}

func TestReadRepoOfNoRecords(t *testing.T) {
	a := newAccount(t, "alice")
	a.write(t, nil)
	if got, err := readRepo(bytes.NewReader(a.export(t)), commit.RepoOptions{}); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}

func TestRecordsCanBeReadOnce(t *testing.T) {
	a := filled(t, "alice", 10)
	x, err := commit.ReadRepo(bytes.NewReader(a.export(t)), commit.RepoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if x.Root() != a.block.CID || x.Commit().Rev != a.commit.Rev {
		t.Error(x.Root(), x.Commit())
	}
	for range x.Records() {
		break
	}
	for _, err := range x.Records() {
		if err == nil {
			t.Error("the records can be read again")
		}
	}
}

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

// Close closes the temporary files, also those of the places of many blocks.
func TestReadRepoClosesItsFiles(t *testing.T) {
	a := filled(t, "alice", 20)
	blocks := a.blocks(t)
	slices.Reverse(blocks)
	for i := range 70_000 {
		data := []byte(fmt.Sprint("foreign ", i))
		blocks = append(blocks, car.Block{CID: dag.Sum(dag.Raw, data), Data: data})
	}
	file := car.Append(nil, []cid.Cid{a.block.CID}, blocks...)
	for name, r := range map[string]io.Reader{"file": bytes.NewReader(file), "stream": once{bytes.NewReader(file)}} {
		var temps temptest.Temps
		got, err := readRepo(r, commit.RepoOptions{Memory: 1, Temp: func(most int64) (car.TempFile, error) { return temps.Open(most) }})
		if err != nil || len(got) != 20 || temps.Opened() == 0 {
			t.Errorf("%s: %d records, %v, %d temporary files", name, len(got), err, temps.Opened())
		}
		temps.Check(t)
	}
}

// noStart is a file that cannot be read from its start again.
type noStart struct{ *bytes.Reader }

var errNoStart = errors.New("no way back")

func (r noStart) Seek(off int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		return 0, errNoStart
	}
	return r.Reader.Seek(off, whence)
}

// What has to be kept until it is wanted, and cannot be, is an error.
func TestReadRepoWithoutRoom(t *testing.T) {
	a := filled(t, "alice", 50)
	blocks := a.blocks(t)
	for name, list := range shuffled(a, blocks) {
		file := car.Append(nil, []cid.Cid{a.block.CID}, list...)
		full := func(int64) (car.TempFile, error) { return nil, syscall.ENOSPC }
		if _, err := readRepo(once{bytes.NewReader(file)}, commit.RepoOptions{Temp: full, Memory: 1}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s, without a temporary file: %v", name, err)
		}
		// Without an index, there is nothing to put into a file.
		_, err := readRepo(noStart{bytes.NewReader(file)}, commit.RepoOptions{Temp: full, Memory: 1})
		if want := errNoStart; name == "in pre-order" || name == "foreign blocks last" || name == "twice" || name == "each once" {
			if err != nil {
				t.Errorf("%s, which is read once: %v", name, err)
			}
		} else if !errors.Is(err, want) {
			t.Errorf("%s, without a way back: %v", name, err)
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

// FuzzReadRepo checks that whatever is accepted is what its commit says: the
// records, sorted, give its tree.
func FuzzReadRepo(f *testing.F) {
	a := filled(f, "alice", 30)
	for _, blocks := range shuffled(a, a.blocks(f)) {
		f.Add(car.Append(nil, []cid.Cid{a.block.CID}, blocks...), []byte(nil), uint16(0))
	}
	f.Add(a.export(f), []byte("\xff"), uint16(500))
	f.Fuzz(func(t *testing.T, file, patch []byte, at uint16) {
		if int(at)+len(patch) <= len(file) {
			file = bytes.Clone(file)
			copy(file[at:], patch)
		}
		for _, r := range []io.Reader{bytes.NewReader(file), once{bytes.NewReader(file)}} {
			x, err := commit.ReadRepo(r, commit.RepoOptions{Memory: 500, Temp: car.TempDir(t.TempDir())})
			if err != nil {
				if !errors.Is(err, commit.ErrRepo) {
					t.Fatal(err)
				}
				continue
			}
			var entries []mst.Entry
			for rec, recErr := range x.Records() {
				if err = recErr; err == nil {
					entries = append(entries, mst.Entry{Key: rec.Path, Value: rec.CID})
				}
			}
			x.Close()
			if err != nil {
				if !errors.Is(err, commit.ErrRepo) {
					t.Fatal(err)
				}
				continue
			}
			if tree, err := mst.BuildSorted(entries); err != nil || tree.Root() != x.Commit().Data {
				t.Fatalf("%d records are not the tree of the commit: %v", len(entries), err)
			}
		}
	})
}

// BenchmarkReadRepo verifies a whole repository of 10,000 records, as a stream. The floor is SHA-256
// of all blocks and keys.
func BenchmarkReadRepo(b *testing.B) {
	a := filled(b, "alice", 10_000)
	file := a.export(b)
	_, blocks, err := car.ReadAll(file, car.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, fn func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				fn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/record")
		})
	}
	run("floor", func() {
		for _, block := range blocks {
			sha256.Sum256(block.Data)
		}
		for path := range a.records {
			sha256.Sum256([]byte(path))
		}
	})
	run("stream", func() {
		x, err := commit.ReadRepo(once{bytes.NewReader(file)}, commit.RepoOptions{Stream: true})
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range x.Records() {
			if err != nil {
				b.Fatal(err)
			}
		}
	})
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

// TestFaultsOfARepository: all faults of records, nodes and blocks are told, not the first alone,
// and what is sound is read.
func TestFaultsOfARepository(t *testing.T) {
	a := newAccount(t, "alice")
	texts := map[string]string{}
	for i := range 190 {
		texts[fmt.Sprintf("com.example.a/%04d", i)] = fmt.Sprint(i)
	}
	a.write(t, texts)
	blocks := a.blocks(t)
	var faulty []car.Block
	missing, damaged := map[string]bool{}, map[string]bool{}
	node := cid.Undef
	for i, b := range blocks {
		p := recordPath(a, b)
		switch {
		case i > 1 && p != "" && i%30 == 0:
			missing[p] = true
			continue
		case i > 1 && p != "" && i%40 == 0:
			damaged[p] = true
			b.Data = append([]byte("x"), b.Data...)
		case i > 20 && p == "" && !node.Defined():
			node = b.CID
			continue
		}
		faulty = append(faulty, b)
	}
	if len(missing) < 2 || len(damaged) < 2 || !node.Defined() {
		t.Fatal("no faults were made")
	}
	refused := "com.example.a/0189"
	file := car.Append(nil, []cid.Cid{a.block.CID}, faulty...)
	var faults []string
	opt := commit.RepoOptions{
		Temp: car.TempDir(t.TempDir()),
		Fault: func(err error) bool {
			if !errors.Is(err, commit.ErrRepo) {
				t.Error(err)
			}
			faults = append(faults, err.Error())
			return true
		},
		CheckRecord: func(path string, _ []byte) error {
			if path == refused {
				return errors.New("refused")
			}
			return nil
		},
	}
	got, err := readRepo(bytes.NewReader(file), opt)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(faults, "\n")
	for p := range missing {
		if !strings.Contains(text, p) && got[p] == nil && !strings.Contains(text, node.String()) {
			t.Errorf("the loss of %s is not told", p)
		}
	}
	for p := range damaged {
		if !strings.Contains(text, a.records[p].CID.String()) {
			t.Errorf("the damage of %s is not told", p)
		}
	}
	if !strings.Contains(text, refused) || !strings.Contains(text, node.String()) || len(faults) < 5 {
		t.Errorf("faults:\n%s", text)
	}
	if len(got) < 100 {
		t.Errorf("%d records were read", len(got))
	}
	// Blocks that nobody wants have faults too.
	foreign := record("foreign")
	faults, foreign.Data = nil, append([]byte("x"), foreign.Data...)
	behind := car.Append(nil, []cid.Cid{a.block.CID}, append(slices.Clone(blocks), foreign)...)
	opt.CheckRecord = nil
	if got, err := readRepo(bytes.NewReader(behind), opt); err != nil || len(got) != len(texts) || len(faults) != 1 || !strings.Contains(faults[0], foreign.CID.String()) {
		t.Errorf("%d records, %v, faults: %q", len(got), err, faults)
	}
	// Whoever has enough gets the error.
	opt.Fault = func(error) bool { return false }
	if _, err := readRepo(bytes.NewReader(file), opt); !errors.Is(err, commit.ErrRepo) {
		t.Error(err)
	}
	// What does not concern a single block ends the reading.
	opt.Fault = func(error) bool { return true }
	if _, err := readRepo(bytes.NewReader(file[:len(file)-1]), opt); !errors.Is(err, car.ErrTruncated) {
		t.Error(err)
	}
	if _, err := readRepo(once{bytes.NewReader(file[:len(file)-1])}, opt); !errors.Is(err, commit.ErrRepo) {
		t.Errorf("a stream that is cut short: %v", err)
	}
	if _, err := readRepo(once{bytes.NewReader(behind)}, opt); !errors.Is(err, car.ErrHash) {
		t.Errorf("a stream with damage, behind which nobody can look: %v", err)
	}
	few := opt
	few.Tree.Nodes = 1
	if _, err := readRepo(bytes.NewReader(a.export(t)), few); !errors.Is(err, mst.ErrTooLarge) {
		t.Errorf("a tree that is too large: %v", err)
	}
	opt.Records = 500
	if _, err := readRepo(bytes.NewReader(a.export(t)), opt); !errors.Is(err, commit.ErrRepo) {
		t.Error(err)
	}
}

// meter samples the memory that is in use while a file is read.
type meter struct {
	io.ReadSeeker
	reads int
	most  uint64
}

func (m *meter) Read(b []byte) (int, error) {
	if m.reads++; m.reads%128 == 0 {
		runtime.GC()
		var st runtime.MemStats
		runtime.ReadMemStats(&st)
		m.most = max(m.most, st.HeapAlloc)
	}
	return m.ReadSeeker.Read(b)
}

// TestTinyBlocks: a file of tiny blocks, in an order that demands an index, takes no more memory
// than any other, read from a file or from a stream.
func TestTinyBlocks(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a large file")
	}
	a := filled(t, "alice", 100)
	path := filepath.Join(t.TempDir(), "tiny.car")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := car.NewWriter(f, a.block.CID)
	if err != nil {
		t.Fatal(err)
	}
	const n = 600_000
	for i := range n {
		data := []byte{0xa1, 0x60, 0x1a, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
		if err := w.Write(car.Block{CID: dag.Sum(dag.CBOR, data), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	blocks := a.blocks(t)
	slices.Reverse(blocks)
	for _, b := range blocks {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, stream := range map[string]bool{"file": false, "stream": true} {
		m := &meter{ReadSeeker: f}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		var r io.Reader = m
		if stream {
			r = once{m}
		}
		got, err := readRepo(r, commit.RepoOptions{Temp: car.TempDir(t.TempDir()), Memory: 1 << 20})
		if err != nil || len(got) != 100 {
			t.Fatalf("%s: %d records, %v", name, len(got), err)
		}
		used := int64(m.most) - int64(before.HeapAlloc)
		t.Logf("%s: %d MB of blocks, %.1f MB of memory", name, n*44>>20, float64(used)/(1<<20))
		if used > 24<<20 {
			t.Errorf("%s: %d bytes of memory", name, used)
		}
	}
}
