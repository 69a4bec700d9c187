package indexer_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// largeRepo is a repository whose records are made as they are read.
type largeRepo struct {
	did    syntax.DID
	size   int // of a record
	tree   *mst.Tree
	commit car.Block
	rev    syntax.TID
}

func (l *largeRepo) record(path string) []byte {
	b, err := data.Encode(map[string]any{"$type": string(notes), "text": path, "more": strings.Repeat(path, l.size/len(path)+1)[:l.size]})
	if err != nil {
		panic(err)
	}
	return b
}

func newLargeRepo(t testing.TB, did syntax.DID, key *crypto.PrivateKey, records, size int) *largeRepo {
	l := &largeRepo{did: did, size: size, rev: syntax.NewTID(time.Now(), 1)}
	b := mst.NewBuilder()
	for i := range records {
		path := fmt.Sprintf("%s/%08d", notes, i)
		if err := b.Add(path, data.CID(l.record(path))); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if l.tree, err = b.Tree(); err != nil {
		t.Fatal(err)
	}
	if _, l.commit, err = commit.Sign(t.Context(), did, l.rev, l.tree.Root(), key); err != nil {
		t.Fatal(err)
	}
	return l
}

// writeTo writes the CAR file.
func (l *largeRepo) writeTo(w io.Writer) error {
	out, err := car.NewWriter(w, l.commit.CID)
	if err != nil {
		return err
	}
	if err := out.Write(l.commit); err != nil {
		return err
	}
	for item, err := range l.tree.PreOrder() {
		if err != nil {
			return err
		}
		b := item.Node
		if !b.CID.Defined() {
			b = car.Block{CID: item.Value, Data: l.record(item.Key)}
		}
		if err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}

// serve answers as the repository's host.
func (l *largeRepo) serve(w http.ResponseWriter, r *http.Request) bool {
	switch strings.TrimPrefix(r.URL.Path, "/xrpc/") {
	case api.SyncGetRepoNSID:
		l.writeTo(w)
	case api.SyncListReposNSID:
		fmt.Fprintf(w, `{"repos":[{"did":%q,"head":%q,"rev":%q,"active":true}]}`, l.did, l.commit.CID, l.rev)
	default:
		return false
	}
	return true
}

// TestI10Large: a large repository is read within 64 MB of memory. It has 64 MB; 1 GB with
// PDSKIT_LARGE=1.
func TestI10Large(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("the peak of memory is read from /proc")
	}
	records, size := 6400, 10_000
	if os.Getenv("PDSKIT_LARGE") != "" {
		records = 100_000
	}
	w := newLoopback(t)
	h := w.host("one")
	key := newKey(t)
	did := syntax.DID("did:web:large.example")
	w.setDocument(did, h.url, key)
	l := newLargeRepo(t, did, key, records, size)
	h.setFault(l.serve)
	directory := httptest.NewServer(w.directory())
	defer directory.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INDEXER_CHILD="+t.TempDir(), "INDEXER_HOSTS="+h.url, "INDEXER_DIDS="+directory.URL, "INDEXER_PEAK=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	w.ok(err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	w.ok(err)
	start := time.Now()
	w.ok(cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	w.ok(err)
	var peak, rows int
	if _, err := fmt.Sscan(line, &peak, &rows); err != nil {
		t.Fatal(line)
	}
	t.Logf("%d MB in %v: %d rows, a peak of %d MB of memory", records*size/1e6, time.Since(start).Round(time.Second/10), rows, peak>>10)
	if rows != records {
		t.Errorf("%d rows", rows)
	}
	if peak > 64<<10 && !testenv.Race {
		t.Errorf("more than 64 MB")
	}
}

// peakMemory is how many KiB of memory the process has used at most.
func peakMemory() int {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}
