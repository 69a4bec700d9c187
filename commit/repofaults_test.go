package commit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

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
