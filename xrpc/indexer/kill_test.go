package indexer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

// TestMain runs an indexer in a process that a test has started as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("INDEXER_CHILD"); dir != "" {
		child(dir, strings.Fields(os.Getenv("INDEXER_HOSTS")), os.Getenv("INDEXER_DIDS"))
		return
	}
	os.Exit(m.Run())
}

// failer stands in for a test in the child.
type failer struct{ testing.TB }

func (failer) Fatal(args ...any) { fmt.Fprintln(os.Stderr, args...); os.Exit(3) }
func (failer) Helper()           {}

func child(dir string, hosts []string, dids string) {
	ctx := context.Background()
	db := openDB(failer{}, dir)
	sink := &sqlindex.Sink{DB: db, OnRecord: func(ctx context.Context, tx *sqlTx, op *indexer.Op) error {
		fault, err := applyRow(ctx, tx, op)
		if fault != "" {
			fmt.Fprintln(os.Stderr, fault)
			os.Exit(3)
		}
		return err
	}}
	if err := sink.Create(ctx); err != nil {
		failer{}.Fatal(err)
	}
	ix := &indexer.Indexer{Sink: sink, Scope: indexer.Scope{All: true}, Identity: remote{dids}, Hosts: http.DefaultClient}
	for _, h := range hosts {
		ix.Sources = append(ix.Sources, indexer.Source{Host: h})
	}
	go func() { // ends with its parent
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if os.Getenv("INDEXER_PEAK") != "" {
		go func() {
			for ok := false; !ok; ok, _ = ix.Settled(ctx) {
				time.Sleep(100 * time.Millisecond)
			}
			var n int
			db.QueryRow("SELECT count(*) FROM row").Scan(&n)
			fmt.Println(peakMemory(), n)
		}()
	}
	failer{}.Fatal(ix.Run(ctx))
}

// remote resolves DIDs at a server of the parent.
type remote struct{ url string }

func (r remote) ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error) {
	res, err := http.Get(r.url + "/" + string(did))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", identity.ErrUnavailable, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	return identity.ParseDocument(b)
}

func (r remote) Lookup(ctx context.Context, id syntax.AtIdentifier) (*identity.Identity, error) {
	d, err := r.ResolveDID(ctx, syntax.DID(id))
	return &identity.Identity{DID: syntax.DID(id), Document: d}, err
}

func (remote) Purge(syntax.AtIdentifier) {}

// directory serves the documents.
func (w *world) directory() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		d := w.docs[syntax.DID(strings.TrimPrefix(r.URL.Path, "/"))]
		w.mu.Unlock()
		b, err := json.Marshal(d)
		if d == nil || err != nil {
			http.NotFound(rw, r)
			return
		}
		rw.Write(b)
	})
}

// TestI02Killed: the process is killed at random moments while it reads and follows. Each operation
// takes effect once: it leads from what its rows were to something else, and the rows are those of
// the repositories in the end. PDSKIT_KILLS is how often; the default is 12, or 3 with -short.
func TestI02Killed(t *testing.T) {
	kills := 12
	if testing.Short() {
		kills = 3
	}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_KILLS")); err == nil {
		kills = n
	}
	w := newLoopback(t)
	hosts := []*host{w.host("one"), w.host("two")}
	directory := httptest.NewServer(w.directory())
	defer directory.Close()
	var dids []syntax.DID
	for i := range 12 {
		dids = append(dids, hosts[i%2].account(fmt.Sprint("a", i), 30*i))
	}
	dids = append(dids, hosts[0].account("large", 3500)) // of several changes
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writing sync.WaitGroup
	for k, h := range hosts {
		writing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				did := dids[(i/5%6)*2+k]
				switch i % 5 {
				case 3:
					h.write(did, put(notes, fmt.Sprint("w", i-1), "changed"), remove(notes, fmt.Sprint("w", i-2)), create(likes, fmt.Sprint("w", i), "x"))
				case 4:
					h.write(did, create(notes, fmt.Sprint("x", i), "x"))
				default:
					h.write(did, create(notes, fmt.Sprint("w", i), "x"), create(notes, fmt.Sprint("v", i), "x"))
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for k := range kills + 1 {
		errs := new(strings.Builder)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "INDEXER_CHILD="+dir, "INDEXER_HOSTS="+hosts[0].url+" "+hosts[1].url, "INDEXER_DIDS="+directory.URL)
		cmd.Stderr = errs
		in, err := cmd.StdinPipe()
		w.ok(err)
		w.ok(cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var alive <-chan time.Time
		if k < kills {
			alive = time.After(time.Duration(50+(k*137)%700) * time.Millisecond)
		} else {
			stop()
			writing.Wait()
			a := &app{world: w, db: openDB(t, dir)}
			a.sink = &sqlindex.Sink{DB: a.db}
			a.ix = &indexer.Indexer{Sink: a.sink}
			a.eventually(func() error { return a.compare(nil, dids...) })
			t.Logf("%d operations took effect", a.effects())
			a.db.Close()
			alive = time.After(0)
		}
		select {
		case <-alive:
			cmd.Process.Kill()
			<-ended
		case err := <-ended:
			t.Fatalf("the process ended: %v\n%s", err, errs)
		}
		in.Close()
		if errs.Len() > 0 {
			t.Fatal(errs)
		}
	}
}
