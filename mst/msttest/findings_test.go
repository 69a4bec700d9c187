package msttest

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
)

func lawOf(t *testing.T, name string) Law {
	t.Helper()
	for _, l := range Laws() {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no law %q", name)
	return Law{}
}

// badReader is a tree that panics when it is read, with a message of two lines.
type badReader struct{ Tree }

func (badReader) Get(string) (cid.Cid, error) { panic(errors.New("of\ntwo lines")) }

// A panic is one line that says where it was, from whichever goroutine.
func TestPanicsAreOneLine(t *testing.T) {
	lib := PackageMST(false)
	lib.Load = func(src mst.Source, root cid.Cid) (Tree, error) {
		t, err := PackageMST(false).Load(src, root)
		return badReader{t}, err
	}
	for _, name := range []string{"readers", "faults"} {
		err := lawOf(t, name).Check(lib, Options{Histories: 2})
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("%s: %v", name, err)
		}
		for _, part := range []string{"panic: of two lines", "badReader.Get", "findings_test.go:"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q lacks %q", name, err, part)
			}
		}
	}
}

// Each hostile tree that is not refused is a line, also where the reader panics.
func TestHostileTreesAreOneLineEach(t *testing.T) {
	lib := PackageMST(false)
	lib.Load = func(mst.Source, cid.Cid) (Tree, error) {
		var nowhere []int
		return nil, errors.New(strings.Repeat("x", nowhere[3]))
	}
	err := lawOf(t, "hostile trees").Check(lib, Options{})
	if err == nil {
		t.Fatal("the law is kept")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(Vectors()) {
		t.Fatalf("%d lines for %d trees: %.300q", len(lines), len(Vectors()), err)
	}
	for i, v := range Vectors() {
		if !strings.HasPrefix(lines[i], v.Name+": panic: runtime error: index out of range") {
			t.Errorf("%q is not about %q", lines[i], v.Name)
		}
	}
}

// An error of the library that has several lines is one finding.
func TestErrorsAreOneLine(t *testing.T) {
	lib := PackageMST(false)
	lib.Load = func(mst.Source, cid.Cid) (Tree, error) { return nil, errors.New("two\nlines") }
	err := lawOf(t, "reload").Check(lib, Options{})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "two lines") {
		t.Errorf("%q", err)
	}
}

// A law that does not end is broken, and its error says what it was about.
func TestLawsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		lib := PackageMST(false)
		lib.Load = func(mst.Source, cid.Cid) (Tree, error) {
			<-stop
			return nil, errors.New("stopped")
		}
		start := time.Now()
		err := lawOf(t, "hostile trees").Check(lib, Options{Timeout: time.Hour})
		if want := "takes longer than 1h0m0s, with " + Vectors()[0].Name; err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
		if d := time.Since(start); d != time.Hour {
			t.Errorf("after %v", d)
		}
		close(stop)
		synctest.Wait()
	})
}
