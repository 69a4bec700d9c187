package msttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
)

// Options sets the amount of testing. The zero value takes some seconds.
type Options struct {
	// Seed selects other random histories.
	Seed uint64
	// Histories is the number of random histories. Default 60.
	Histories int
	// Steps is the number of batches of one history. Default 60.
	Steps int
	// Batch is the maximum number of operations of one batch. Default 6.
	Batch int
	// Timeout bounds the time of one law; a law that takes longer is broken. Default 5 minutes.
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Histories == 0 {
		o.Histories = 60
	}
	if o.Steps == 0 {
		o.Steps = 60
	}
	if o.Batch == 0 {
		o.Batch = 6
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Minute
	}
	return o
}

// Law is something that every tree must or must not do.
type Law struct {
	Name string
	Doc  string

	needs []ability
	check func(c *checker) error
}

// ability is something that a library may have. It returns what is missing, or "".
type ability func(lib *Library) string

func has(ok func(lib *Library) bool, missing string) ability {
	return func(lib *Library) string {
		if ok(lib) {
			return ""
		}
		return missing
	}
}

// hasMethod looks at the trees of a library.
func hasMethod[T any](missing string) ability {
	return has(func(lib *Library) bool {
		t, err := lib.Empty()
		_, ok := t.(T)
		return err == nil && ok
	}, missing)
}

var (
	loads    = has(func(lib *Library) bool { return lib.Load != nil }, "Library.Load")
	builds   = has(func(lib *Library) bool { return lib.Build != nil }, "Library.Build")
	inverts  = has(func(lib *Library) bool { return lib.Invert != nil }, "Library.Invert")
	verifies = has(func(lib *Library) bool { return lib.VerifyProof != nil }, "Library.VerifyProof")
	diffs    = has(func(lib *Library) bool { return lib.Diff != nil }, "Library.Diff")
	values   = has(func(lib *Library) bool { return !lib.InPlace }, "trees that Apply does not change")
	changes  = hasMethod[Changer]("Changer")
	walks    = hasMethod[Walker]("Walker")
	proves   = hasMethod[Prover]("Prover")
)

// Laws returns all laws.
func Laws() []Law {
	return []Law{
		{"known trees", "Some trees have known roots.", nil, knownTrees},
		{"histories", "After random batches, the tree is that of the model: root, entries, values, nodes.", nil, histories},
		{"any order", "The order of operations leaves no trace.", nil, anyOrder},
		{"down to nothing", "A tree that was tall leaves no trace when it is emptied.", nil, downToNothing},
		{"pre-order", "Nodes come in pre-order.", nil, preOrder},
		{"illegal keys", "Keys that may not stand in a tree are refused.", nil, illegalKeys},
		{"illegal values", "Values that are not CIDs of the data model are refused.", nil, illegalValues},
		{"missing key", "Deleting a key that is not there is an error.", nil, missingKey},
		{"failed batches", "A batch that fails leaves the tree as it was.", nil, failedBatches},
		{"flat nodes", "What is written can be read again, however its keys were chosen.", []ability{loads}, flatNodes},
		{"values", "A tree stays as it was when another is made of it.", []ability{values}, treesAreValues},
		{"readers", "Any number of goroutines may read a tree, also one that is not loaded yet.", []ability{values}, manyReaders},
		{"reload", "A tree that is loaded again between all steps is the same.", []ability{loads}, reload},
		{"hostile trees", "Malformed trees are refused: with an error, in bounded time, and without a panic.", []ability{loads}, hostileTrees},
		{"lying source", "A source that answers everything with one block leads nowhere.", []ability{loads}, lyingSource},
		{"missing nodes", "A tree of which a node is missing cannot be read to its end.", []ability{loads}, missingNodes},
		{"faults", "An error of the source comes out, and is not the end of the tree.", []ability{loads}, faults},
		{"build", "A tree built in one pass is that of the model; entries out of order are refused.", []ability{builds}, build},
		{"walk", "A walk begins at any key.", []ability{walks}, walk},
		{"differences", "The differences of two trees lead from one to the other.", []ability{diffs}, differences},
		{"changes", "A change accounts for every node.", []ability{changes}, accounts},
		{"slices", "New nodes and proof together undo a change: at once, forward and backward.", []ability{changes}, slicesInvert},
		{"smallest slices", "The fewest nodes that undo a change one by one are enough, whatever the order; those that every order needs are needed.", []ability{inverts}, smallestSlices},
		{"false claims", "Operations that the tree does not show cannot be undone.", []ability{inverts}, falseClaims},
		{"proofs", "Proofs of present and of absent keys verify; incomplete ones do not.", []ability{proves, verifies}, proofs},
	}
}

// Missing returns the optional feature that the law needs and the library lacks, or "".
func (l Law) Missing(lib Library) string {
	for _, need := range l.needs {
		if missing := need(&lib); missing != "" {
			return missing
		}
	}
	return ""
}

// Check returns an error if a library breaks the law. Each line of its text is one finding.
//
// A panic breaks the law, and so does exceeding [Options].Timeout. In the latter case the call
// continues in a goroutine, since it cannot be stopped.
func (l Law) Check(lib Library, opt Options) error {
	c := &checker{lib: lib, opt: opt.withDefaults()}
	done := make(chan error, 1)
	go func() { done <- recovered(func() error { return l.check(c) }) }()
	timeout := time.NewTimer(c.opt.Timeout)
	defer timeout.Stop()
	select {
	case err := <-done:
		var list findings
		if err != nil && !errors.As(err, &list) {
			return findings{err}
		}
		return err
	case <-timeout.C:
		return fmt.Errorf("takes longer than %v%s", c.opt.Timeout, c.where())
	}
}

// recovered calls do, and makes an error of a panic: one line, with the place of it.
func recovered(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %s%s", oneLine(p), panicPlace())
		}
	}()
	return do()
}

// findings are errors of one line each.
type findings []error

func (f findings) Error() string {
	lines := make([]string, len(f))
	for i, err := range f {
		lines[i] = oneLine(err)
	}
	return strings.Join(lines, "\n")
}

func (f findings) Unwrap() []error { return f }

// oneLine prints a value without line breaks.
func oneLine(v any) string {
	isBreak := func(r rune) bool { return r == '\n' || r == '\r' }
	return strings.Join(strings.FieldsFunc(fmt.Sprint(v), isBreak), " ")
}

// panicPlace says where a deferred function's panic comes from: the first function that is not
// of package runtime. A panic of a goroutine without one, as by runtime.Goexit, has no place.
func panicPlace() string {
	pcs := make([]uintptr, 50)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf(", in %s, %s:%d", f.Function, path.Base(f.File), f.Line)
		}
		if !more {
			return ""
		}
	}
}

// Run tests a library. Every law is a subtest, so go test's -run and -skip select among them. Each
// finding is one line.
func Run(t *testing.T, lib Library, opt Options) {
	opt = opt.withDefaults()
	if testing.Short() {
		opt.Histories = max(1, opt.Histories/6)
	}
	for _, l := range Laws() {
		t.Run(l.Name, func(t *testing.T) {
			if missing := l.Missing(lib); missing != "" {
				t.Skipf("the library does not offer %s", missing)
			}
			err := l.Check(lib, opt)
			if err == nil {
				return
			}
			t.Log(l.Doc)
			for finding := range strings.SplitSeq(err.Error(), "\n") {
				t.Error(finding)
			}
		})
	}
}

// checker checks a law.
type checker struct {
	lib Library
	opt Options

	at atomic.Pointer[string] // what is being tested
}

// testing says what is being tested from now on, for the case that it does not end.
func (c *checker) testing(what string) { c.at.Store(&what) }

func (c *checker) where() string {
	if at := c.at.Load(); at != nil {
		return ", with " + *at
	}
	return ""
}

// rng returns random numbers that depend on the seed and what they are for.
func (c *checker) rng(n int, what uint64) *rand.Rand {
	return rand.New(rand.NewPCG(c.opt.Seed<<32+uint64(n), what))
}

// of makes a tree with the entries of a model, by Apply.
func (c *checker) of(m Model) (Tree, error) {
	t, err := c.lib.Empty()
	if err != nil || len(m) == 0 {
		return t, err
	}
	return t.Apply(puts(m))
}

// randomModel is a model of up to n interesting keys.
func randomModel(rng *rand.Rand, n int) (m Model, keys []string) {
	keys = Keys(rng, n)
	m = make(Model)
	for _, k := range keys[:rng.IntN(n+1)] {
		m[k] = Value(rng.IntN(1000))
	}
	return m, keys
}

// same compares a tree with a model, as far as both can be seen.
func same(t Tree, m Model) error {
	want := m.Nodes()
	if err := sameRoot(t, want[0].CID); err != nil {
		return err
	}
	if err := sameEntries(t, m); err != nil {
		return err
	}
	got, err := nodes(t)
	if err != nil {
		return err
	}
	if len(got) == 0 || got[0].CID != want[0].CID {
		return errors.New("Nodes does not begin with the root")
	}
	have := make(map[cid.Cid]bool, len(got))
	for _, b := range got {
		if have[b.CID] {
			return fmt.Errorf("node %s comes twice", b.CID)
		}
		have[b.CID] = true
	}
	for _, b := range want {
		if !have[b.CID] {
			return fmt.Errorf("node %s is missing", b.CID)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d nodes, want %d", len(got), len(want))
	}
	return nil
}

func sameRoot(t Tree, want cid.Cid) error {
	root, err := t.Root()
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if root != want {
		return fmt.Errorf("root is %s, want %s", root, want)
	}
	return nil
}

func sameEntries(t Tree, m Model) error {
	want := m.Entries()
	for e, err := range t.Entries() {
		if err != nil {
			return fmt.Errorf("entries: %w", err)
		}
		if len(want) == 0 || e != want[0] {
			return fmt.Errorf("entry %q is not the next", e.Key)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		return fmt.Errorf("%d entries are missing at the end, from %q", len(want), want[0].Key)
	}
	return nil
}

// nodes collects a tree's nodes and checks their hashes.
func nodes(t Tree) (list []car.Block, err error) {
	for b, err := range t.Nodes() {
		if err != nil {
			return nil, fmt.Errorf("nodes: %w", err)
		}
		if c, err := b.CID.Prefix().Sum(b.Data); err != nil || c != b.CID {
			return nil, fmt.Errorf("node %s has the bytes of another", b.CID)
		}
		list = append(list, b)
	}
	return list, nil
}
