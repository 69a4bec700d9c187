package atproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// large are records of about 900 KB whose JSON is as long, longer, and six times as long.
var large = map[string]func(i int) any{
	"plain text":         func(i int) any { return fmt.Sprint(i) + strings.Repeat("x", 900_000) },
	"control characters": func(i int) any { return fmt.Sprint(i) + strings.Repeat("\x00", 900_000) },
	"bytes":              func(i int) any { return data.Bytes(fmt.Sprint(i) + strings.Repeat("\xff", 900_000)) },
	"many small values": func(i int) any {
		list := make([]any, 60_000)
		for j := range list {
			list[j] = []any{int64(i), map[string]any{"a": "\n\n\n\n"}}
		}
		return list
	},
}

// fill gives an account n records.
func fill(t *testing.T, h *repo.Host, did syntax.DID, n int, value func(i int) any) (cids []cid.Cid) {
	t.Helper()
	for i := range n {
		rec, err := data.Encode(map[string]any{"$type": note, "value": value(i)})
		if err != nil {
			t.Fatal(err)
		}
		if len(rec) > 1_000_000 {
			t.Fatalf("a record of %d bytes", len(rec))
		}
		w := repo.Write{Action: repo.Create, Collection: note, RKey: syntax.RecordKey(fmt.Sprintf("r%04d", i)), Record: rec}
		if _, err := h.Apply(t.Context(), did, repo.Batch{Writes: []repo.Write{w}}); err != nil {
			t.Fatal(err)
		}
		cids = append(cids, dag.Sum(dag.CBOR, rec))
	}
	return cids
}

// A page of large records is short, and the cursor leads through all of them, in both directions.
func TestListRecordsOfLargeRecords(t *testing.T) {
	const n = 4
	for name, value := range large {
		w := newWorld(t)
		w.call("", "com.atproto.sync.listRepos", nil, nil)
		fill(t, w.host, alice, n, value)
		for _, reverse := range []string{"false", "true"} {
			var got []string
			cursor := ""
			for pages := 0; ; pages++ {
				if pages > n {
					t.Fatalf("%s: no end", name)
				}
				rec := httptest.NewRecorder()
				q := url.Values{"repo": {alice}, "collection": {note}, "limit": {"100"}, "reverse": {reverse}}
				if cursor != "" {
					q.Set("cursor", cursor)
				}
				w.srv.ServeHTTP(rec, httptest.NewRequest("GET", "/xrpc/com.atproto.repo.listRecords?"+q.Encode(), nil))
				if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/json; charset=utf-8" {
					t.Fatalf("%s: %d, %v", name, rec.Code, rec.Header())
				}
				if rec.Body.Len() > 6<<20+1000 {
					t.Errorf("%s: an answer of %d bytes", name, rec.Body.Len())
				}
				var page struct {
					Cursor  string
					Records []struct {
						URI   string
						Value json.RawMessage
					}
				}
				if err := json.Unmarshal(rec.Body.Bytes(), &page); err != nil {
					t.Fatal(name, err)
				}
				if len(page.Records) == 0 {
					break
				}
				for _, r := range page.Records {
					var i int
					if _, err := fmt.Sscanf(r.URI[strings.LastIndex(r.URI, "/")+1:], "r%d", &i); err != nil {
						t.Fatal(err)
					}
					want, err := data.ToJSON(map[string]any{"$type": note, "value": value(i)})
					if err != nil || !bytes.Equal(r.Value, want) {
						t.Errorf("%s: record %d is another", name, i)
					}
					got = append(got, fmt.Sprint(i))
				}
				cursor = page.Cursor
			}
			want := "3 2 1 0"
			if reverse == "true" {
				want = "0 1 2 3"
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("%s: records %s, want %s", name, s, want)
			}
		}
	}
}

// Many records that are small each fill a page by their bytes, too, and not only by their number.
func TestListRecordsFillsPagesByBytes(t *testing.T) {
	w := newWorld(t)
	fill(t, w.host, alice, 100, func(i int) any { return strings.Repeat("x", 100_000) })
	seen := 0
	for cursor := ""; ; {
		in := q("repo", alice, "collection", note, "limit", "100")
		if cursor != "" {
			in.Set("cursor", cursor)
		}
		a := w.call("", "com.atproto.repo.listRecords", in, nil).want(t, 200, "")
		page := into[struct {
			Cursor  string
			Records []struct{ URI string }
		}](t, a)
		if len(page.Records) == 0 {
			break
		}
		if seen += len(page.Records); len(page.Records) != 10 || len(a.body) > 1<<20+10_000 {
			t.Errorf("%d records, %d bytes", len(page.Records), len(a.body))
		}
		cursor = page.Cursor
	}
	if seen != 100 {
		t.Errorf("%d records", seen)
	}
}

func getBlocks(w *world, cids ...cid.Cid) *httptest.ResponseRecorder {
	q := url.Values{"did": {alice}}
	for _, c := range cids {
		q.Add("cids", c.String())
	}
	rec := httptest.NewRecorder()
	w.srv.ServeHTTP(rec, httptest.NewRequest("GET", "/xrpc/com.atproto.sync.getBlocks?"+q.Encode(), nil))
	return rec
}

// One block that is asked for 900 times, or three in turns, come once each.
func TestGetBlocksAskedForAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	w.call("", "com.atproto.sync.listRepos", nil, nil)
	cids := fill(t, w.host, alice, 3, large["plain text"])
	head, err := w.host.Head(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string][]cid.Cid{
		"a record":      {cids[1]},
		"the commit":    {head.Commit},
		"a node":        {head.Data},
		"all, in turns": {cids[2], head.Data, cids[0], head.Commit, cids[1]},
	} {
		var list []cid.Cid
		for len(list) < 900 {
			list = append(list, ask...)
		}
		rec := getBlocks(w, list...)
		roots, blocks, err := car.ReadAll(rec.Body.Bytes(), car.Limits{})
		if rec.Code != 200 || err != nil || len(roots) != 0 || len(blocks) != len(ask) {
			t.Errorf("%s: status %d, %d blocks, %v", name, rec.Code, len(blocks), err)
			continue
		}
		for i, b := range blocks {
			if b.CID != ask[i] || !dag.Matches(b.CID, b.Data) {
				t.Errorf("%s: block %d is %s, want %s", name, i, b.CID, ask[i])
			}
		}
	}
	unknown := dag.Sum(dag.CBOR, []byte("unknown"))
	rec := getBlocks(w, append(cids, unknown, unknown)...)
	if rec.Code != 400 || strings.Count(rec.Body.String(), unknown.String()) != 1 {
		t.Errorf("a block that is not there: %d, %.300s", rec.Code, rec.Body)
	}
}

// A repository with a collection for each of many records is described within bounds.
func TestDescribeRepoWithVeryManyCollections(t *testing.T) {
	w := newWorld(t)
	var writes []repo.Write
	for i := range 6000 {
		writes = append(writes, repo.Write{
			Action: repo.Create, Collection: syntax.NSID(fmt.Sprintf("com.example.%sx%d", strings.Repeat("long", 10), i+1_000_000)), RKey: "a", Record: []byte("\xa0"),
		})
	}
	for len(writes) > 0 {
		n := min(200, len(writes))
		for i := range writes[:n] {
			rec, err := data.Encode(map[string]any{"$type": string(writes[i].Collection)})
			if err != nil {
				t.Fatal(err)
			}
			writes[i].Record = rec
		}
		if _, err := w.host.Apply(t.Context(), alice, repo.Batch{Writes: writes[:n]}); err != nil {
			t.Fatal(err)
		}
		writes = writes[n:]
	}
	a := w.call("", "com.atproto.repo.describeRepo", q("repo", alice), nil).want(t, 200, "")
	got := into[struct{ Collections []string }](t, a)
	if len(a.body) > 300<<10 || len(got.Collections) < 1000 {
		t.Errorf("%d bytes, %d collections", len(a.body), len(got.Collections))
	}
	for i := 1; i < len(got.Collections); i++ {
		if got.Collections[i] <= got.Collections[i-1] {
			t.Fatal("not in order")
		}
	}
}

// ownBytes is a store whose records are copies for each reader, as those of a database are.
type ownBytes struct {
	storage.Repos
	views *sync.WaitGroup // that are open
}

func (s ownBytes) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	s.views.Add(1)
	defer s.views.Done()
	return s.Repos.View(ctx, did, func(r storage.Reader) error { return fn(ownBytesReader{r}) })
}

type ownBytesReader struct{ storage.Reader }

func (r ownBytesReader) Record(ctx context.Context, path string) (storage.Record, error) {
	rec, err := r.Reader.Record(ctx, path)
	rec.Data = bytes.Clone(rec.Data)
	return rec, err
}

func (r ownBytesReader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	rec, err := r.Reader.RecordByCID(ctx, c)
	rec.Data = bytes.Clone(rec.Data)
	return rec, err
}

func (r ownBytesReader) Records(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for rec, err := range r.Reader.Records(ctx, rng) {
			rec.Data = bytes.Clone(rec.Data)
			if !yield(rec, err) {
				return
			}
		}
	}
}

// stalled is a client that takes nothing.
type stalled struct {
	header  http.Header
	arrived *sync.WaitGroup // counts down at the first write
	once    sync.Once
	goOn    <-chan struct{}
}

func (s *stalled) Header() http.Header { return s.header }
func (s *stalled) WriteHeader(int)     {}
func (s *stalled) Write(b []byte) (int, error) {
	s.once.Do(s.arrived.Done)
	<-s.goOn
	return 0, http.ErrAbortHandler
}

// Clients that take nothing of their answers keep little memory each, whatever they asked for.
func TestMemoryOfStalledClients(t *testing.T) {
	const clients, records = 20, 15
	w := newWorld(t)
	store := memory.New(memory.Config{})
	var views sync.WaitGroup
	store.Repos = ownBytes{store.Repos, &views}
	w.host = repo.NewHost(repo.Config{Store: store, Signer: w.signer(), TempDir: t.TempDir()})
	if _, err := w.host.Create(t.Context(), alice, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	w.svc.Host = w.host
	w.call("", "com.atproto.sync.listRepos", nil, nil)
	cids := fill(t, w.host, alice, records, large["control characters"])
	blocks := url.Values{"did": {alice}}
	for _, c := range cids {
		blocks.Add("cids", c.String())
	}
	for name, target := range map[string]string{
		"getRecord":      "com.atproto.repo.getRecord?" + q("repo", alice, "collection", note, "rkey", "r0003").Encode(),
		"listRecords":    "com.atproto.repo.listRecords?" + q("repo", alice, "collection", note, "limit", "100").Encode(),
		"getBlocks":      "com.atproto.sync.getBlocks?" + blocks.Encode(),
		"sync.getRecord": "com.atproto.sync.getRecord?" + q("did", alice, "collection", note, "rkey", "r0003").Encode(),
		"getRepo":        "com.atproto.sync.getRepo?" + q("did", alice).Encode(),
	} {
		goOn := make(chan struct{})
		var arrived, done sync.WaitGroup
		arrived.Add(clients)
		before := heap()
		for range clients {
			done.Go(func() {
				defer func() { _ = recover() }() // the server cuts the answer off
				w.srv.ServeHTTP(&stalled{header: make(http.Header), arrived: &arrived, goOn: goOn}, httptest.NewRequest("GET", "/xrpc/"+target, nil))
			})
		}
		arrived.Wait()
		views.Wait() // all is read that will be
		each := (heap() - before) / clients
		close(goOn)
		done.Wait()
		t.Logf("%s: %d KiB each", name, each>>10)
		if each > 2<<20 {
			t.Errorf("%s: a client that takes nothing keeps %d KiB", name, each>>10)
		}
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
