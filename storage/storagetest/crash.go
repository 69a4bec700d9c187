package storagetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// crashDir is the environment variable that tells a process started by RunCrash
// where to write.
const crashDir = "PDSKIT_STORAGETEST_CRASH_DIR"

// crashTimes is the environment variable for the number of kills.
const crashTimes = "PDSKIT_CRASHES"

// RunCrash checks that a backend survives the death of its process. It repeatedly runs the calling
// test in a separate process that writes to several accounts concurrently, kills that process at a
// random moment, and examines what is stored. Every acknowledged step must be there, with its
// events, once and in order. No step may be there partly. At most the step that was running may be
// there without having been acknowledged.
//
// It must be the only content of a top-level test, with a backend that is not volatile. The
// environment variable PDSKIT_CRASHES, if set, replaces times. With -short it kills at most 4
// times.
func RunCrash(t *testing.T, b Backend, times int) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashWriter(t, b, dir)
		return
	}
	if v := os.Getenv(crashTimes); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("%s: %v", crashTimes, err)
		}
		times = n
	} else if testing.Short() {
		times = min(times, 4)
	}
	crash(t, b, times)
}

func crash(tb testing.TB, b Backend, times int) {
	rng := rand.New(rand.NewPCG(1, 2))
	acknowledged, unknown := 0, 0
	for i := 0; i < times; {
		// A new store now and then, since all of it is examined after each kill.
		c := &crashed{tb: tb, dir: tb.TempDir(), rng: rng, steps: map[syntax.DID]int{}, known: map[syntax.DID]int{}, seqs: map[int64]syntax.DID{}}
		for end := min(i+20, times); i < end; i++ {
			c.killOnce()
			if c.examine(b); tb.Failed() {
				tb.Fatalf("after kill %d", i+1)
			}
		}
		acknowledged += len(c.seqs)
		unknown += c.unknown
	}
	tb.Logf("killed %d times; %d steps acknowledged, %d more carried out", times, acknowledged, unknown)
}

// crashed is what the process that examines knows of one store.
type crashed struct {
	tb      testing.TB
	dir     string
	rng     *rand.Rand
	steps   map[syntax.DID]int   // last step of each account that was acknowledged
	seqs    map[int64]syntax.DID // events that were acknowledged
	known   map[syntax.DID]int   // steps that were there the last time
	unknown int                  // steps that were there without having been acknowledged
}

const crashAccounts = 4

func crashDID(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:crash%d.example", i)) }

// killOnce runs a writer and kills it after a random number of steps.
func (c *crashed) killOnce() {
	exe, err := os.Executable()
	if err != nil {
		c.tb.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+c.tb.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), crashDir+"="+c.dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.tb.Fatal(err)
	}
	lines, log := bufio.NewScanner(out), ""
	read := func() bool {
		if !lines.Scan() {
			return false
		}
		var did syntax.DID
		var step int
		var seq int64
		if n, _ := fmt.Sscanf(lines.Text(), "stored %s %d %d", &did, &step, &seq); n == 3 {
			c.steps[did], c.seqs[seq] = step, did
		} else {
			log += lines.Text() + "\n"
		}
		return true
	}
	for range 1 + c.rng.IntN(40) {
		if !read() {
			_ = cmd.Wait()
			c.tb.Fatalf("the writer ended by itself:\n%s%s", log, stderr.String())
		}
	}
	time.Sleep(time.Duration(c.rng.IntN(2000)) * time.Microsecond)
	_ = cmd.Process.Kill()
	for read() { // what it said before it died
	}
	_ = cmd.Wait()
}

// examine compares what is stored with what was acknowledged.
func (c *crashed) examine(b Backend) {
	ctx := context.Background()
	s, closeIt := b.Open(c.tb, c.dir)
	defer func() {
		if err := closeIt(); err != nil {
			c.tb.Errorf("close: %v", err)
		}
	}()
	commits := map[syntax.DID]int{}
	found := map[int64]syntax.DID{}
	for ev, err := range s.Events.Since(ctx, 0) {
		if err != nil {
			c.tb.Fatalf("Since: %v", err)
		}
		if ev.Kind == commit.KindCommit || ev.Kind == commit.KindSync {
			commits[ev.DID]++
		}
		found[ev.Seq] = ev.DID
	}
	for seq, did := range c.seqs {
		if found[seq] != did {
			c.tb.Errorf("event %d of %s was acknowledged, but is not in the log (%q is)", seq, did, found[seq])
		}
	}
	for i := range crashAccounts {
		did := crashDID(i)
		step, acknowledged := crashStep(ctx, c.tb, s, did), c.steps[did]
		least := max(acknowledged, c.known[did])
		if step < least || step > least+1 {
			c.tb.Errorf("%s is at step %d; %d were acknowledged, and %d were there before", did, step, acknowledged, c.known[did])
		}
		if commits[did] != step {
			c.tb.Errorf("%s is at step %d, but the log has %d commits of it", did, step, commits[did])
		}
		if step > least {
			c.unknown++
		}
		c.known[did] = step
	}
	if err := CheckStore(ctx, s, Options{Key: keyOf}); err != nil {
		c.tb.Errorf("check of the whole store: %v", err)
	}
}

// crashStep returns the number of the last step of an account, which is in a
// record and in a key.
func crashStep(ctx context.Context, tb testing.TB, s storage.Store, did syntax.DID) (step int) {
	if _, err := s.Repos.Head(ctx, did); err != nil {
		return 0
	}
	err := s.Repos.View(ctx, did, func(r storage.Reader) error {
		b, err := r.Get(ctx, "step")
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(b), &step); err != nil {
			return err
		}
		rec, err := r.Record(ctx, path("step"))
		if err != nil {
			return err
		}
		if want := note("step", string(b)).record; string(rec.Data) != string(want) {
			tb.Errorf("%s: the key says that step %s was the last, the record says otherwise", did, b)
		}
		return nil
	})
	if err != nil {
		tb.Errorf("%s: %v", did, err)
	}
	return step
}

// crashWriter writes until it is killed.
func crashWriter(t *testing.T, b Backend, dir string) {
	s, _ := b.Open(t, dir)
	out := &lockedWriter{w: os.Stdout}
	var wg sync.WaitGroup
	for i := range crashAccounts {
		wg.Go(func() {
			if err := crashAccount(t, s, crashDID(i), out); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// loadAccount makes an account that goes on from what is stored.
func loadAccount(ctx context.Context, s storage.Store, did syntax.DID) (*account, error) {
	a := newAccount(did)
	err := s.Repos.View(ctx, did, func(r storage.Reader) (err error) {
		a.head = r.Head()
		a.ticks = int(a.head.Rev.Time().Sub(start) / time.Millisecond)
		a.tree, err = mst.Build(func(yield func(mst.Entry, error) bool) {
			for rec, err := range r.Records(ctx, storage.Range{KeysOnly: true}) {
				if !yield(mst.Entry{Key: rec.Path, Value: rec.CID}, err) {
					return
				}
			}
		})
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return a, err
}

// crashAccount writes to one account, from where it is.
func crashAccount(t *testing.T, s storage.Store, did syntax.DID, out io.Writer) error {
	ctx := context.Background()
	step := crashStep(ctx, t, s, did)
	a, err := loadAccount(ctx, s, did)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(uint64(step), uint64(len(did))))
	blobs := blobInfos(3)
	for {
		step++
		last := note("step", fmt.Sprint(step))
		kv := []storage.KVWrite{{Key: "step", Value: fmt.Append(nil, step)}}
		var seq int64
		var err error
		if rng.IntN(12) == 0 {
			records, st := a.replacement(append(notes(5+rng.IntN(20)), last)...)
			st.KV = kv
			seq, err = s.Repos.Replace(ctx, did, stream(records, nil), func() (*storage.Change, error) { return &st.Change, nil })
			a.took(st)
		} else {
			st := a.change(note(rng.IntN(50), fmt.Sprint("text ", step), blobs[rng.IntN(3)]), last)
			st.KV = kv
			seq, err = s.Repos.Apply(ctx, did, &st.Change)
			a.took(st)
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "stored %s %d %d\n", did, step, seq); err != nil {
			return err
		}
	}
}
