package records_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/records"
)

const (
	owner      = syntax.DID("did:web:owner.example.com")
	collection = syntax.NSID("com.example.note")
	rev        = syntax.TID("3mg7j5krpak23")
)

// network is a directory of DIDs and a server with one account. Nothing in it is changed while
// requests are under way.
type network struct {
	t       testing.TB
	server  *httptest.Server
	records map[string][]byte
	key     *crypto.PrivateKey // that signs
	shown   *crypto.PrivateKey // that the document shows; nil: none
	didErr  error
	service string // in the document
	tamper  func([]car.Block) []car.Block
	answer  http.HandlerFunc // instead of the server's own
	reads   atomic.Int64
	purges  atomic.Int64
}

func newNetwork(t testing.TB) *network {
	n := &network{t: t, key: newKey(t), records: make(map[string][]byte)}
	n.shown = n.key
	n.server = httptest.NewServer(n)
	n.service = n.server.URL
	t.Cleanup(n.server.Close)
	for i := range 50 {
		n.put(fmt.Sprintf("r%02d", i), "note")
	}
	return n
}

func newKey(t testing.TB) *crypto.PrivateKey {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (n *network) put(rkey, text string) {
	b, err := data.Encode(map[string]any{"$type": string(collection), "text": text})
	if err != nil {
		n.t.Fatal(err)
	}
	n.records[string(collection)+"/"+rkey] = b
}

func (n *network) reader() *records.Reader { return &records.Reader{DIDs: n, HTTP: n.server.Client()} }

func (n *network) ResolveDID(_ context.Context, did syntax.DID) (*identity.Document, error) {
	if n.didErr != nil {
		return nil, n.didErr
	}
	doc := &identity.Document{ID: did, Services: []identity.Service{{ID: "#" + identity.PDSID, Type: identity.PDSType, Endpoint: n.service}}}
	if n.shown != nil {
		doc.VerificationMethods = []identity.VerificationMethod{identity.NewVerificationMethod(did, identity.SigningKeyID, n.shown.PublicKey())}
	}
	return doc, nil
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.reads.Add(1)
	if n.answer != nil {
		n.answer(w, r)
		return
	}
	q := r.URL.Query()
	path := q.Get("collection") + "/" + q.Get("rkey")
	var entries []mst.Entry
	for p, b := range n.records {
		entries = append(entries, mst.Entry{Key: p, Value: data.CID(b)})
	}
	slices.SortFunc(entries, func(a, b mst.Entry) int { return strings.Compare(a.Key, b.Key) })
	tree, err := mst.BuildSorted(entries)
	if err != nil {
		panic(err)
	}
	_, head, err := commit.Sign(r.Context(), owner, rev, tree.Root(), n.key)
	if err != nil {
		panic(err)
	}
	proof, err := tree.Proof(path)
	if err != nil {
		panic(err)
	}
	blocks := append([]car.Block{head}, proof...)
	if b, ok := n.records[path]; ok {
		blocks = append(blocks, car.Block{CID: data.CID(b), Data: b})
	}
	if n.tamper != nil {
		blocks = n.tamper(blocks)
	}
	_, _ = w.Write(car.Append(nil, []cid.Cid{head.CID}, blocks...))
}

// forgetful is a network that shows the present key once its document was purged.
type forgetful struct{ *network }

func (f forgetful) Purge(syntax.AtIdentifier) {
	f.purges.Add(1)
	f.shown = f.key
}

func TestRecord(t *testing.T) {
	n := newNetwork(t)
	r := n.reader()
	for _, rkey := range []syntax.RecordKey{"r00", "r25", "r49"} {
		b, at, err := r.Record(t.Context(), owner, collection, rkey)
		if err != nil || at != rev || !bytes.Equal(b, n.records[string(collection)+"/"+string(rkey)]) {
			t.Errorf("%s: %x at %s, %v", rkey, b, at, err)
		}
	}
	p, err := r.Prove(t.Context(), owner, collection, "r07")
	if err != nil || p.Commit.DID != owner || p.CID != data.CID(p.Data) || p.Commit.Verify(n.key.PublicKey()) != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

// A server that says that there is no record is not believed as one that proves it.
func TestAbsenceThatIsProvenOrTold(t *testing.T) {
	n := newNetwork(t)
	p, err := n.reader().Prove(t.Context(), owner, collection, "absent")
	if !errors.Is(err, records.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, commit.ErrNoRecord) || p.Commit.Rev != rev || p.Data != nil {
		t.Errorf("%+v, %v", p, err)
	}
	n.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"RecordNotFound"}`)
	}
	p, err = n.reader().Prove(t.Context(), owner, collection, "r00")
	if !errors.Is(err, records.ErrNotFound) || errors.Is(err, commit.ErrNoRecord) || p.Commit.DID != "" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestFailures(t *testing.T) {
	status := func(code int, body string) func(*network) {
		return func(n *network) {
			n.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				fmt.Fprint(w, body)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(n *network)
		kind  error
		step  string
	}{
		"unknown DID":               {func(n *network) { n.didErr = identity.ErrNotFound }, records.ErrNotFound, "DID"},
		"tombstoned DID":            {func(n *network) { n.didErr = identity.ErrTombstoned }, records.ErrNotFound, "DID"},
		"directory down":            {func(n *network) { n.didErr = identity.ErrUnavailable }, records.ErrUnavailable, "DID"},
		"malformed document":        {func(n *network) { n.didErr = identity.ErrDocument }, records.ErrInvalid, "DID"},
		"document without a key":    {func(n *network) { n.shown = nil }, records.ErrInvalid, "DID"},
		"document without a server": {func(n *network) { n.service = "" }, records.ErrInvalid, "DID"},
		"server down":               {func(n *network) { n.server.Close() }, records.ErrUnavailable, "request"},
		"no such repository":        {status(400, `{"error":"RepoNotFound"}`), records.ErrNotFound, "request"},
		"error in another case":     {status(400, `{"Error":"RepoNotFound"}`), records.ErrUnavailable, "request"},
		"taken down":                {status(400, `{"error":"RepoTakendown"}`), records.ErrUnavailable, "request"},
		"too many requests":         {status(429, ""), records.ErrUnavailable, "request"},
		"server's fault":            {status(500, strings.Repeat("<html>", 1<<18)), records.ErrUnavailable, "request"},
		"redirect to itself": {func(n *network) {
			n.answer = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
			}
		}, records.ErrUnavailable, "request"},
		"not a CAR file": {status(200, "<!doctype html>"), records.ErrInvalid, "proof"},
		"empty answer":   {status(200, ""), records.ErrInvalid, "proof"},
		"cut short": {func(n *network) {
			n.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				fmt.Fprint(w, "x")
			}
		}, records.ErrUnavailable, "request"},
		"signature by another key": {func(n *network) { n.shown = newKey(n.t) }, records.ErrInvalid, "proof"},
		"withheld record":          {func(n *network) { n.tamper = func(b []car.Block) []car.Block { return b[:len(b)-1] } }, records.ErrInvalid, "proof"},
		"withheld node":            {func(n *network) { n.tamper = func(b []car.Block) []car.Block { return slices.Delete(b, 1, 2) } }, records.ErrInvalid, "proof"},
		"large record":             {func(n *network) { n.put("r10", strings.Repeat("x", 1_000_000)) }, records.ErrInvalid, "proof"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			c.spoil(n)
			b, _, err := n.reader().Record(t.Context(), owner, collection, "r10")
			var e *records.Error
			if !errors.As(err, &e) || e.Kind != c.kind || e.Step != c.step || b != nil || e.URI != "at://did:web:owner.example.com/com.example.note/r10" {
				t.Fatalf("%q, %v; want %v in %s", b, err, c.kind, c.step)
			}
			if e.Temporary() != (c.kind == records.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) != (c.kind == records.ErrNotFound) || len(err.Error()) > 500 {
				t.Errorf("%.1000v", err)
			}
		})
	}
}

// An answer without end is read up to the limit.
func TestEndlessAnswer(t *testing.T) {
	n := newNetwork(t)
	var written atomic.Int64
	n.answer = func(w http.ResponseWriter, _ *http.Request) {
		for chunk := make([]byte, 64<<10); ; {
			k, err := w.Write(chunk)
			if written.Add(int64(k)); err != nil {
				return
			}
		}
	}
	r := n.reader()
	r.MaxRecord = 10_000
	if _, _, err := r.Record(t.Context(), owner, collection, "r10"); !errors.Is(err, records.ErrInvalid) {
		t.Error(err)
	}
	n.server.Close() // waits for the handler
	if written.Load() > 64<<20 {
		t.Errorf("%d bytes were written", written.Load())
	}
}

// An account that has changed its key is asked about anew, once. A forged signature costs no more.
func TestKeyThatHasChanged(t *testing.T) {
	n := newNetwork(t)
	n.shown = newKey(t)
	r := n.reader()
	r.DIDs = forgetful{n}
	if _, _, err := r.Record(t.Context(), owner, collection, "r10"); err != nil || n.purges.Load() != 1 || n.reads.Load() != 2 {
		t.Errorf("%d purges, %d reads, %v", n.purges.Load(), n.reads.Load(), err)
	}
	stranger := newKey(t)
	n.shown, n.key = newKey(t), stranger
	r.DIDs = stubborn{n}
	if _, _, err := r.Record(t.Context(), owner, collection, "r10"); !errors.Is(err, records.ErrInvalid) || !errors.Is(err, commit.ErrBadSignature) || n.purges.Load() != 2 || n.reads.Load() != 4 {
		t.Errorf("%d purges, %d reads, %v", n.purges.Load(), n.reads.Load(), err)
	}
}

// stubborn is a network whose document stays as it is.
type stubborn struct{ *network }

func (s stubborn) Purge(syntax.AtIdentifier) { s.purges.Add(1) }

// A stranger's DID document must not make a Reader talk to the host's own network.
func TestServerAtAPrivateAddress(t *testing.T) {
	n := newNetwork(t)
	for _, service := range []string{n.server.URL, strings.Replace(n.server.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254", "https://[::1]"} {
		n.service = service
		r := &records.Reader{DIDs: n} // with the default client
		_, _, err := r.Record(t.Context(), owner, collection, "r10")
		if !errors.Is(err, records.ErrInvalid) || n.reads.Load() != 0 {
			t.Errorf("%s: %v after %d reads", service, err, n.reads.Load())
		}
		if service == n.server.URL && !errors.Is(err, safehttp.ErrAddress) {
			t.Error(err)
		}
	}
}

func TestCancelledRequest(t *testing.T) {
	n := newNetwork(t)
	asked := make(chan struct{})
	n.answer = func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		<-asked
		cancel()
	}()
	if _, _, err := n.reader().Record(ctx, owner, collection, "r10"); !errors.Is(err, records.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What is not the name of a record proves nothing, not even that there is none.
func TestMalformedNames(t *testing.T) {
	n := newNetwork(t)
	n.answer = func(w http.ResponseWriter, _ *http.Request) {
		_, head, err := commit.Sign(context.Background(), owner, rev, mst.Empty().Root(), n.key)
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(car.Append(nil, []cid.Cid{head.CID}, head))
	}
	for _, c := range [][2]string{{"", "r10"}, {"com.example.note", ""}, {"com.example.note", ".."}, {"com.example.note/x", "r10"}, {"note", "r10"}, {"com.example.note", "a&did=did:web:x.y"}} {
		_, _, err := n.reader().Record(t.Context(), owner, syntax.NSID(c[0]), syntax.RecordKey(c[1]))
		if !errors.Is(err, records.ErrInvalid) || !errors.Is(err, commit.ErrOp) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// A record of an account anywhere in the network, proven.
func ExampleReader() {
	r := new(records.Reader)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that the example asks nobody
	_, _, err := r.Record(ctx, "did:web:alice.example.com", "app.bsky.actor.profile", "self")
	fmt.Println(errors.Is(err, records.ErrUnavailable))
	// Output: true
}
