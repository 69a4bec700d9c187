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

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
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
