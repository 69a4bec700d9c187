package indexer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/mst"
)

func fuzzRecord(i int) car.Block {
	b, err := data.Encode(map[string]any{"n": i})
	if err != nil {
		panic(err)
	}
	return car.Block{CID: data.CID(b), Data: b}
}

// FuzzDifference reads files of what is new in a repository. Whatever is in them, a difference that
// is accepted leads to the root.
func FuzzDifference(f *testing.F) {
	b := mst.NewBuilder()
	for i := range 60 {
		if err := b.Add(fmt.Sprintf("com.example.note/%03d", i), fuzzRecord(i).CID); err != nil {
			f.Fatal(err)
		}
	}
	old, err := b.Tree()
	if err != nil {
		f.Fatal(err)
	}
	for _, ops := range [][]mst.Op{
		{{Key: "com.example.note/007"}},
		{{Key: "com.example.note/007", Value: fuzzRecord(100).CID}, {Key: "com.example.note/zzz", Value: fuzzRecord(100).CID}},
	} {
		change, err := old.Apply(ops)
		if err != nil {
			f.Fatal(err)
		}
		whole := car.Append(nil, []cid.Cid{change.Root}, append(slices.Clone(change.New), fuzzRecord(100))...)
		f.Add(whole)
		f.Add(whole[:len(whole)/2])
		f.Add(car.Append(nil, []cid.Cid{change.Root}, change.New[0]))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s := &spool{}
		defer s.close()
		if err := s.fill(bytes.NewReader(file), 1<<20, car.TempDir("")); err != nil {
			return
		}
		x, err := car.IndexFile(s.reader(), car.IndexOptions{Limits: car.Limits{TotalBytes: 1 << 20}})
		if err != nil {
			return
		}
		defer x.Close()
		for _, root := range x.Roots() {
			list, err := difference(old, x, root)
			if err != nil {
				continue
			}
			var ops []mst.Op
			for _, e := range list {
				ops = append(ops, mst.Op{Key: e.Key, Value: e.New})
				if e.New.Defined() {
					if _, err := x.Block(e.New); err != nil {
						t.Errorf("record %s: %v", e.Key, err)
					}
				}
			}
			if len(ops) == 0 {
				if root != old.Root() {
					t.Error("nothing differs, but the root")
				}
				continue
			}
			if change, err := old.Apply(ops); err != nil || change.Root != root {
				t.Errorf("the difference leads elsewhere: %v", err)
			}
		}
	})
}

// positionSink is a sink that knows a position.
type positionSink struct {
	Sink
	text string
}

func (s positionSink) Position(context.Context, string) (string, error) { return s.text, nil }

// FuzzPosition reads positions as a sink may have them. One that is accepted is written again as it
// was.
func FuzzPosition(f *testing.F) {
	for _, text := range []string{"", "0", "5", "5 listed", "-1", "9223372036854775808", "x", "5 x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := &source{run: &run{Indexer: &Indexer{Sink: positionSink{text: text}}}}
		if err := s.load(t.Context()); err != nil || text == "" {
			return
		}
		if s.done < 0 {
			t.Errorf("%q is %d", text, s.done)
		}
		first := s.position()
		again := &source{run: &run{Indexer: &Indexer{Sink: positionSink{text: first}}}}
		if err := again.load(t.Context()); err != nil || again.position() != first {
			t.Errorf("%q, then %q, then %q, %v", text, first, again.position(), err)
		}
	})
}

// FuzzFilter holds filters against each other: what is within another has nothing that the other
// has not.
func FuzzFilter(f *testing.F) {
	f.Add("com.example.note com.example.like", "com.example.*", "com.example.note/1")
	f.Add("*", "com.example.*", "com.example.note/1")
	f.Add("com.example.*", "com.*", "com.examples.note/1")
	f.Fuzz(func(t *testing.T, one, two, path string) {
		if checkCollections(strings.Fields(one)) != nil && one != "*" || checkCollections(strings.Fields(two)) != nil && two != "*" {
			return
		}
		a, b := newFilterOf(one), newFilterOf(two)
		if a.within(b.text) && a.hasPath(path) && !b.hasPath(path) {
			t.Errorf("%q is within %q, but for %q", one, two, path)
		}
		if again := newFilterOf(a.text); again.text != a.text || again.hasPath(path) != a.hasPath(path) {
			t.Errorf("%q is read as %q", a.text, again.text)
		}
	})
}
