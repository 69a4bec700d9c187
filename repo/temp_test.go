package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/tempfile/temptest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

// temp gives files of a test to a host.
func temp(t *temptest.Temps) car.Temp {
	return func(most int64) (car.TempFile, error) {
		f, err := t.Open(most)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// slowly is a reader's end that takes its time for each piece.
type slowly struct {
	bytes.Buffer
	each time.Duration
}

func (w *slowly) Write(b []byte) (int, error) {
	time.Sleep(w.each)
	return w.Buffer.Write(b)
}

// Whichever call of a temporary file fails, an import is stored as a whole or not at all, is never
// called invalid, and leaves no file.
func TestImportOverFailingFiles(t *testing.T) {
	k := &keys{}
	blocks := map[string]car.Block{}
	for _, key := range []string{"a", "b", "c", "d"} {
		blocks["com.example.note/"+key] = block(note(t, key))
	}
	root, made := madeRepo(t, alice, k.key(alice), aTime, blocks)
	content := file(root, made)
	backwards := slices.Clone(made)
	slices.Reverse(backwards)
	run := func(temps *temptest.Temps, content []byte) error {
		h := repo.NewHost(repo.Config{Store: memoryStore(), Signer: k.signer, Temp: temp(temps)})
		res, err := h.Import(t.Context(), alice, bytes.NewReader(content), repo.Import{Unverified: true})
		temps.Check(t)
		if h.SpoolBytes() != 0 {
			t.Errorf("%d bytes are left", h.SpoolBytes())
		}
		head, missing := h.Head(t.Context(), alice)
		if err == nil && head != res.Head || err != nil && !errors.Is(missing, repo.ErrRepoNotFound) {
			t.Errorf("%v, but the head is %v, %v", err, head, missing)
		}
		return err
	}
	for name, content := range map[string][]byte{"in order": content, "backwards": file(root, backwards)} {
		good := new(temptest.Temps)
		if err := run(good, content); err != nil || good.Peak() < int64(len(content)) {
			t.Fatal(err, good.Peak())
		}
		for at := 1; at <= good.Calls(); at++ {
			if err := run(&temptest.Temps{FailAt: at, Broken: at%2 == 0}, content); err != nil && (!errors.Is(err, temptest.ErrFault) || errors.Is(err, repo.ErrInvalidImport)) {
				t.Errorf("%s, call %d: %v", name, at, err)
			}
		}
	}
	long := new(temptest.Temps) // a file longer than allowed is not longer than was said
	h := repo.NewHost(repo.Config{Store: memoryStore(), Signer: k.signer, Temp: temp(long)})
	for limit, want := range map[int64]error{100: repo.ErrInvalidImport, math.MaxInt64: nil} {
		_, err := h.Import(t.Context(), alice, bytes.NewReader(content), repo.Import{Unverified: true, Limits: repo.ImportLimits{CAR: car.Limits{TotalBytes: limit}}})
		if !errors.Is(err, want) {
			t.Errorf("at most %d bytes: %v", limit, err)
		}
	}
	long.Check(t)
	full := &temptest.Temps{FailAt: 2, Err: syscall.ENOSPC}
	if err := run(full, content); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("no room: %v", err)
	}
}

// An export to a slow reader over temporary files that fail is whole at the reader's pace, or ends
// with an error: it is never cut off in silence. Everything is closed and given back.
func TestExportOverFailingFiles(t *testing.T) {
	var want bytes.Buffer
	store := memoryStore()
	h := filled(t, store, 60, repo.Config{}, alice)
	for i := range 40 {
		b := repo.Batch{Writes: []repo.Write{{
			Action: repo.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("large-", i)), Record: note(t, strings.Repeat(string(rune('a'+i)), 50_000)),
		}}}
		if _, err := h.Apply(t.Context(), alice, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Export(t.Context(), alice, "", &want); err != nil {
		t.Fatal(err)
	}
	calls := 0
	whole, ended := 0, 0
	for at := 0; at <= calls; at++ {
		synctest.Test(t, func(t *testing.T) {
			temps := &temptest.Temps{FailAt: at, Broken: at%2 == 0}
			h := repo.NewHost(repo.Config{Store: store, Signer: new(keys).signer, Temp: temp(temps), CacheBytes: 1 << 20})
			out := &slowly{each: 100 * time.Millisecond}
			err := h.Export(t.Context(), alice, "", out)
			temps.Check(t)
			switch {
			case err == nil && bytes.Equal(out.Bytes(), want.Bytes()):
				whole++
			case errors.Is(err, temptest.ErrFault):
				ended++
			default:
				t.Errorf("call %d: %v, %d of %d bytes", at, err, out.Len(), want.Len())
			}
			if h.SpoolBytes() != 0 {
				t.Errorf("call %d: %d bytes are left", at, h.SpoolBytes())
			}
			if at == 0 {
				if calls = temps.Calls(); err != nil || calls < 10 {
					t.Errorf("%v, %d calls", err, calls)
				}
			}
		})
	}
	if whole < 2 || ended == 0 {
		t.Errorf("%d exports were whole, %d ended", whole, ended)
	}
}

// Exports that wait for their readers use no files and little memory, let other exports go on
// meanwhile, and are whole however slow the reader is.
func TestExportsThatWaitForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temps := new(temptest.Temps)
		h := filled(t, memoryStore(), 0, repo.Config{Temp: temp(temps), WaitForReaders: true}, alice)
		for i := range 60 {
			b := repo.Batch{Writes: []repo.Write{{
				Action: repo.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint(i)), Record: note(t, strings.Repeat(string(rune('a'+i)), 50_000)),
			}}}
			if _, err := h.Apply(t.Context(), alice, b); err != nil {
				t.Fatal(err)
			}
		}
		var want bytes.Buffer
		if err := h.Export(t.Context(), alice, "", &want); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 * max(4, runtime.GOMAXPROCS(0)) { // more than read at a time
			wg.Go(func() {
				out := &slowly{each: 3 * time.Second} // some minutes
				if err := h.Export(t.Context(), alice, "", out); err != nil || !bytes.Equal(out.Bytes(), want.Bytes()) {
					t.Errorf("%v, %d of %d bytes", err, out.Len(), want.Len())
				}
			})
		}
		begin := time.Now()
		time.Sleep(time.Second)
		var out bytes.Buffer
		if err := h.Export(t.Context(), alice, "", &out); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("another export: %v after %v", err, time.Since(begin))
		}
		wg.Wait()
		if temps.Calls() != 0 || time.Since(begin) < time.Minute {
			t.Error(temps.Calls(), time.Since(begin))
		}
		// A reader that takes nothing more does not hold its snapshot for ever.
		if err := h.Export(t.Context(), alice, "", &slowly{each: time.Hour}); !errors.Is(err, repo.ErrBusy) {
			t.Error(err)
		}
	})
}
