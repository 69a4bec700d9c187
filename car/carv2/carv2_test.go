package carv2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	gocar "github.com/ipld/go-car/v2"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/car/carv2"
	"github.com/pdskit/pdskit/internal/dag"
)

func block(data string) car.Block {
	return car.Block{CID: dag.Sum(dag.CBOR, []byte(data)), Data: []byte(data)}
}

// someBlocks are blocks of many lengths; two of them have the same bytes under
// different codecs.
func someBlocks() []car.Block {
	var list []car.Block
	for i := range 200 {
		list = append(list, block(fmt.Sprintf("%0*d", i*i/10, i)))
	}
	twin := list[7]
	return append(list, car.Block{CID: dag.Sum(dag.Raw, twin.Data), Data: twin.Data}, block(""), list[3])
}

// wrap makes a file of version 2.
func wrap(t testing.TB, v1 []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := carv2.Wrap(&buf, bytes.NewReader(v1)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// padded is a file of version 2 without an index, with padding and a tail that
// nobody should look at.
func padded(v1 []byte, padding int) []byte {
	return slices.Concat(header(51+uint64(padding), uint64(len(v1)), 0), bytes.Repeat([]byte{0xff}, padding), v1, []byte("tail"))
}

func header(dataOffset, dataSize, indexOffset uint64) []byte {
	b := append(bytes.Clone(gocar.Pragma), make([]byte, 16)...)
	b = binary.LittleEndian.AppendUint64(b, dataOffset)
	b = binary.LittleEndian.AppendUint64(b, dataSize)
	return binary.LittleEndian.AppendUint64(b, indexOffset)
}

func TestVersions(t *testing.T) {
	blocks := someBlocks()
	roots := []cid.Cid{blocks[0].CID, blocks[5].CID}
	v1 := car.Append(nil, roots, blocks...)
	for name, c := range map[string]struct {
		file    []byte
		version int
	}{
		"version 1": {v1, 1}, "version 2": {wrap(t, v1), 2}, "padded": {padded(v1, 1000), 2}, "not padded": {padded(v1, 0), 2},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file.car")
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := carv2.Open(path, car.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Version() != c.version || !slices.Equal(f.Roots(), roots) {
				t.Errorf("version %d, %d roots", f.Version(), len(f.Roots()))
			}
			i := 0
			for b, err := range f.Blocks() {
				if err != nil || b.CID != blocks[i].CID || !bytes.Equal(b.Data, blocks[i].Data) {
					t.Fatalf("block %d: %v", i, err)
				}
				i++
			}
			if i != len(blocks) {
				t.Errorf("%d blocks", i)
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for i, b := range slices.Backward(blocks) {
						if data, err := f.Block(b.CID); err != nil || !bytes.Equal(data, b.Data) {
							t.Errorf("block %d: %v", i, err)
						}
					}
				})
			}
			wg.Wait()
			for _, missing := range []cid.Cid{block("nowhere").CID, dag.Sum(dag.Raw, blocks[1].Data)} {
				if _, err := f.Block(missing); !errors.Is(err, car.ErrNotFound) {
					t.Errorf("a block that is not there: %v", err)
				}
			}
			if _, err := f.Block(cid.NewCidV0(blocks[0].CID.Hash())); !errors.Is(err, car.ErrCID) {
				t.Errorf("a CID of version 0: %v", err)
			}
		})
		t.Run(name+", as a stream", func(t *testing.T) {
			r, err := carv2.NewReader(struct{ io.Reader }{bytes.NewReader(c.file)}, car.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			i := 0
			for b, err := range r.Blocks() {
				if err != nil || b.CID != blocks[i].CID || !bytes.Equal(b.Data, blocks[i].Data) {
					t.Fatalf("block %d: %v", i, err)
				}
				i++
			}
			if i != len(blocks) || !slices.Equal(r.Roots(), roots) {
				t.Errorf("%d blocks", i)
			}
		})
	}
}

// Each file is named after what an attacker, or a careless writer, did to it. Both
// ways to read it must refuse it with the same error.
func TestHostileFiles(t *testing.T) {
	v1 := car.Append(nil, nil, block("one"), block("two"))
	n := uint64(len(v1))
	with := func(h, rest []byte) []byte { return slices.Concat(h, rest) }
	forged := bytes.Clone(v1)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"nothing":                        {nil, car.ErrTruncated},
		"garbage":                        {[]byte("garbage"), car.ErrTruncated},
		"pragma alone":                   {gocar.Pragma, car.ErrTruncated},
		"header cut short":               {header(51, n, 0)[:40], car.ErrTruncated},
		"header alone":                   {header(51, n, 0), car.ErrTruncated},
		"payload cut short":              {with(header(51, n, 0), v1[:n-1]), car.ErrTruncated},
		"payload that ends at a block":   {with(header(51, n+1000, 0), v1), car.ErrTruncated},
		"payload shorter than its block": {with(header(51, n-1, 0), v1), car.ErrTruncated},
		"payload of no bytes":            {with(header(51, 0, 0), v1), car.ErrHeader},
		"payload of 2^63 bytes":          {with(header(51, 1<<63, 0), v1), car.ErrHeader},
		"payload of 2^63-1 bytes":        {with(header(51, math.MaxInt64, 0), v1), car.ErrTruncated},
		"payload within the header":      {with(header(11, n, 0), v1), car.ErrHeader},
		"payload at 2^64-1":              {with(header(math.MaxUint64, n, 0), v1), car.ErrHeader},
		"payload behind the end":         {with(header(5000, n, 0), v1), car.ErrTruncated},
		"index at 2^63":                  {with(header(51, n, 1<<63), v1), car.ErrHeader},
		"block with a wrong hash":        {with(header(51, n, 0), forged), car.ErrHash},
		"a file of version 2 within":     {padded(padded(v1, 0), 0), car.ErrHeader},
		"version 3":                      {append([]byte("\x0a\xa1\x67version\x03"), v1...), car.ErrHeader},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := carv2.New(bytes.NewReader(c.file), int64(len(c.file)), car.Limits{})
			if !errors.Is(err, c.want) {
				t.Errorf("file: %v, want %v", err, c.want)
			}
			r, err := carv2.NewReader(bytes.NewReader(c.file), car.Limits{})
			for err == nil {
				_, err = r.Next()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("stream: %v, want %v", err, c.want)
			}
		})
	}
	huge := header(51+carv2.MaxPadding+1, n, 0)
	if _, err := carv2.NewReader(io.MultiReader(bytes.NewReader(huge), zeros{}), car.Limits{}); !errors.Is(err, car.ErrTooLarge) {
		t.Errorf("endless padding: %v", err)
	}
	if _, err := carv2.New(bytes.NewReader(v1), int64(n), car.Limits{Blocks: 1}); !errors.Is(err, car.ErrTooLarge) {
		t.Errorf("more blocks than allowed: %v", err)
	}
	if _, err := carv2.Open(filepath.Join(t.TempDir(), "none"), car.Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// The index of a file does not matter.
func TestLyingIndex(t *testing.T) {
	blocks := someBlocks()[:20]
	file := wrap(t, car.Append(nil, nil, blocks...))
	clear(file[binary.LittleEndian.Uint64(file[43:51]):])
	f, err := carv2.New(bytes.NewReader(file), int64(len(file)), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if data, err := f.Block(b.CID); err != nil || !bytes.Equal(data, b.Data) {
			t.Errorf("%s: %v", b.CID, err)
		}
	}
}

// A file that changes while it is open is noticed.
func TestFileThatChanges(t *testing.T) {
	b := block("some bytes of a block")
	file := car.Append(nil, nil, b)
	f, err := carv2.New(bytes.NewReader(file), int64(len(file)), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for at := len(file) - len(b.Data) - dag.CIDLen - 1; at < len(file); at++ {
		file[at] ^= 0x40
		if _, err := f.Block(b.CID); err == nil {
			t.Errorf("byte %d changed, and the block is still the same", at)
		}
		file[at] ^= 0x40
	}
}

func FuzzFile(f *testing.F) {
	v1 := car.Append(nil, nil, block("one"), block("two"))
	f.Add(v1)
	f.Add(wrap(f, v1))
	f.Add(padded(v1, 10))
	f.Fuzz(func(t *testing.T, in []byte) {
		file, err := carv2.New(bytes.NewReader(in), int64(len(in)), car.Limits{})
		r, err2 := carv2.NewReader(bytes.NewReader(in), car.Limits{})
		var blocks []car.Block
		for err2 == nil {
			var b car.Block
			if b, err2 = r.Next(); err2 == nil {
				blocks = append(blocks, b)
			}
		}
		if (err == nil) != (err2 == io.EOF) {
			t.Fatalf("file: %v, stream: %v", err, err2)
		}
		if err != nil {
			return
		}
		for _, b := range blocks {
			if data, err := file.Block(b.CID); err != nil || !bytes.Equal(data, b.Data) {
				t.Fatalf("%s: %v", b.CID, err)
			}
		}
		rd, err := file.Reader()
		if err != nil {
			t.Fatal(err)
		}
		for range rd.Blocks() {
		}
		if out := car.Append(nil, file.Roots(), blocks...); int64(len(out)) != rd.Offset() || !bytes.Contains(in, out) {
			t.Fatal("the payload, written again, is another one")
		}
	})
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "carv2")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "repo.car")
	b := block("\xa0")
	if err := os.WriteFile(name, car.Append(nil, []cid.Cid{b.CID}, b), 0o600); err != nil {
		panic(err)
	}
	f, err := carv2.Open(name, car.Limits{})
	if err != nil {
		panic(err)
	}
	defer f.Close()
	data, err := f.Block(f.Roots()[0])
	fmt.Printf("version %d: %x %v\n", f.Version(), data, err)
	// Output: version 1: a0 <nil>
}
