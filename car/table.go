package car

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"

	"github.com/pdskit/pdskit/internal/dag"
)

// table maps CIDs to places, with memory for a few of them. What does not fit is written to
// temporary files, as runs of entries in the order of their keys:
//
//	fresh (in memory) ──full──▶ run of level 0 ──eight of them──▶ run of level 1 ──…
//
// A look-up asks fresh and then each run, which takes one read of a page. After settle there is one
// run. Of each page, the first eight bytes of its first key are in memory.
type table struct {
	temp  Temp
	hold  func(n int64) error // see IndexOptions
	most  int                 // entries in memory
	fresh map[key]place
	runs  []*run // levels fall
}

type key struct {
	digest dag.Digest
	codec  dag.Codec
}

func (k *key) compare(o *key) int {
	if c := bytes.Compare(k.digest[:], o.digest[:]); c != 0 {
		return c
	}
	return int(k.codec) - int(o.codec)
}

// place is where a block's bytes are.
type place struct {
	off int64
	n   int32
}

const (
	// tableEntries is how many entries a table has in memory, some 8 MB.
	tableEntries = 64 << 10
	entryLen     = len(dag.Digest{}) + 1 + 8 + 4
	pageEntries  = 4096 / entryLen
	// fanIn is how many runs of one level are merged to one of the next.
	fanIn = 8
)

// run is a sorted file of entries.
type run struct {
	file  TempFile
	level int
	n     int64
	held  int64    // bytes that hold was asked for
	first []uint64 // how the first key of each page begins
}

func newTable(temp Temp, hold func(n int64) error) table {
	if temp == nil {
		temp = TempDir("")
	}
	if hold == nil {
		hold = func(int64) error { return nil }
	}
	return table{temp: temp, hold: hold, most: tableEntries, fresh: make(map[key]place)}
}

// add adds an entry. If there is one of the key already, either may be found later.
func (t *table) add(k key, p place) error {
	if _, ok := t.fresh[k]; ok {
		return nil
	}
	t.fresh[k] = p
	if len(t.fresh) < t.most {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(t.fresh), func(a, b key) int { return a.compare(&b) })
	i := 0
	r, err := t.write(0, int64(len(keys)), func() (k key, p place, ok bool, err error) {
		if i == len(keys) {
			return k, p, false, nil
		}
		k = keys[i]
		i++
		return k, t.fresh[k], true, nil
	})
	if err != nil {
		return err
	}
	clear(t.fresh)
	t.runs = append(t.runs, r)
	for {
		n := len(t.runs)
		if n < fanIn || t.runs[n-fanIn].level != t.runs[n-1].level {
			return nil
		}
		if err := t.merge(fanIn); err != nil {
			return err
		}
	}
}

// settle makes one run of all, for look-ups without further additions.
func (t *table) settle() error {
	if len(t.runs) < 2 {
		return nil
	}
	return t.merge(len(t.runs))
}

// get finds an entry.
func (t *table) get(k key) (p place, ok bool, err error) {
	if p, ok := t.fresh[k]; ok {
		return p, true, nil
	}
	for _, r := range t.runs {
		if p, ok, err = r.get(&k); ok || err != nil {
			return p, ok, err
		}
	}
	return place{}, false, nil
}

func (t *table) close() error {
	var failed error
	for _, r := range t.runs {
		failed = errors.Join(failed, t.drop(r))
	}
	t.runs, t.fresh = nil, nil
	return failed
}

// file opens a temporary file.
func (t *table) file(most int64) (TempFile, error) {
	f, err := t.temp(most)
	if err != nil {
		return nil, fmt.Errorf("car: index: %w", err)
	}
	return f, nil
}

// sequential writes to a file from its start.
func sequential(f TempFile) *bufio.Writer {
	return bufio.NewWriterSize(io.NewOffsetWriter(f, 0), writeSize)
}

// writeSize is how many bytes are written to a temporary file at a time.
const writeSize = 256 << 10

// drop removes the file of a run.
func (t *table) drop(r *run) error {
	_ = t.hold(-r.held)
	return r.file.Close()
}

// write writes a run from at most so many entries in ascending order. Of equal keys it takes the
// first.
func (t *table) write(level int, most int64, next func() (key, place, bool, error)) (r *run, err error) {
	held := most * int64(entryLen)
	if err := t.hold(held); err != nil {
		return nil, fmt.Errorf("car: index: %w", err)
	}
	f, err := t.file(held)
	if err != nil {
		_ = t.hold(-held)
		return nil, err
	}
	r = &run{file: f, level: level, held: held}
	defer func(made *run) {
		if err != nil {
			_ = t.drop(made)
		}
	}(r)
	w := sequential(f)
	var last key
	buf := make([]byte, 0, entryLen)
	for {
		k, p, ok, err := next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if r.n > 0 && k == last {
			continue
		}
		last = k
		if r.n%int64(pageEntries) == 0 {
			r.first = append(r.first, binary.BigEndian.Uint64(k.digest[:]))
		}
		r.n++
		buf = append(append(buf[:0], k.digest[:]...), byte(k.codec))
		buf = binary.BigEndian.AppendUint64(buf, uint64(p.off))
		buf = binary.BigEndian.AppendUint32(buf, uint32(p.n))
		if _, err := w.Write(buf); err != nil {
			return nil, fmt.Errorf("car: index: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("car: index: %w", err)
	}
	return r, nil
}

func decodeEntry(b []byte) (k key, p place) {
	copy(k.digest[:], b)
	k.codec = dag.Codec(b[len(k.digest)])
	b = b[len(k.digest)+1:]
	return k, place{int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[8:]))}
}

// merge makes one run of the last n.
func (t *table) merge(n int) error {
	type source struct {
		r    *bufio.Reader
		left int64
		key  key
		at   place
	}
	from := t.runs[len(t.runs)-n:]
	var open []*source
	// step reads a source's next entry, or drops the source.
	step := func(i int) error {
		s := open[i]
		if s.left == 0 {
			open = slices.Delete(open, i, i+1)
			return nil
		}
		s.left--
		var buf [entryLen]byte
		if _, err := io.ReadFull(s.r, buf[:]); err != nil {
			return fmt.Errorf("car: index: %w", err)
		}
		s.key, s.at = decodeEntry(buf[:])
		return nil
	}
	level, total := 0, int64(0)
	for _, r := range from {
		total += r.n
		level = max(level, r.level+1)
		open = append(open, &source{r: bufio.NewReaderSize(io.NewSectionReader(r.file, 0, r.n*int64(entryLen)), 64<<10), left: r.n})
		if err := step(len(open) - 1); err != nil {
			return err
		}
	}
	merged, err := t.write(level, total, func() (k key, p place, ok bool, err error) {
		if len(open) == 0 {
			return k, p, false, nil
		}
		least := 0
		for i := range open {
			if open[i].key.compare(&open[least].key) < 0 {
				least = i
			}
		}
		k, p = open[least].key, open[least].at
		return k, p, true, step(least)
	})
	if err != nil {
		return err
	}
	for _, r := range from {
		_ = t.drop(r) // nothing in it is needed any more
	}
	t.runs = append(t.runs[:len(t.runs)-n], merged)
	return nil
}

// get finds an entry of the run.
func (r *run) get(k *key) (p place, ok bool, err error) {
	want := binary.BigEndian.Uint64(k.digest[:])
	page := sort.Search(len(r.first), func(i int) bool { return r.first[i] > want }) - 1
	var buf [pageEntries * entryLen]byte
	for ; page >= 0; page-- {
		from := int64(page) * int64(pageEntries)
		n := int(min(int64(pageEntries), r.n-from))
		b := buf[:n*entryLen]
		if m, err := r.file.ReadAt(b, from*int64(entryLen)); m < len(b) {
			return place{}, false, fmt.Errorf("car: index: %w", err)
		}
		i, found := sort.Find(n, func(i int) int {
			e, _ := decodeEntry(b[i*entryLen:])
			return k.compare(&e)
		})
		if found {
			_, p = decodeEntry(b[i*entryLen:])
			return p, true, nil
		}
		if r.first[page] != want { // else it may be on the page before
			break
		}
	}
	return place{}, false, nil
}
