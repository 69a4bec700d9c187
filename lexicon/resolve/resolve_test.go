package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/resolve"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/records"
)

const (
	owner = syntax.DID("did:web:owner.example.com")
	note  = `{"lexicon":1,"id":"com.example.app.note","defs":{"main":{"type":"record","key":"any","record":{"type":"object",
		"required":["text"],"properties":{"text":{"type":"string"},"place":{"type":"ref","ref":"com.example.geo.defs#place"}}}}}}`
	geo = `{"lexicon":1,"id":"com.example.geo.defs","defs":{"place":{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}}}}`
	set = `{"lexicon":1,"id":"com.example.app.authFull","defs":{"main":{"type":"permission-set","title":"Full","permissions":[]}}}`
)

// network is a DNS, a DID directory and a server with one account.
type network struct {
	t      testing.TB
	server *httptest.Server
	now    atomic.Int64 // seconds
	reads  atomic.Int64 // of records
	purges atomic.Int64

	mu      sync.Mutex
	txt     map[string][]string
	dnsErr  error
	key     *crypto.PrivateKey // that signs
	shown   *crypto.PrivateKey // that the DID document shows
	rev     int
	records map[string][]byte // by path
	tamper  func([]car.Block) []car.Block
	wait    chan struct{} // if set, the server waits until it is closed
}

func newNetwork(t testing.TB, schemas ...string) *network {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, key: key, shown: key, rev: 1, records: make(map[string][]byte), txt: map[string][]string{
		"_lexicon.app.example.com": {"v=spf1", "did=" + string(owner)}, "_lexicon.geo.example.com": {"did=" + string(owner)},
	}}
	n.server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.server.Close)
	for _, s := range schemas {
		n.publish(s)
	}
	return n
}

func (n *network) publish(schema string) {
	n.t.Helper()
	rkey, record, err := resolve.Record([]byte(schema))
	if err != nil {
		n.t.Fatal(err)
	}
	n.put(string(rkey), record)
}

func (n *network) put(rkey string, record any) {
	n.t.Helper()
	b, err := data.Encode(record)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[resolve.Collection+"/"+rkey] = b
	n.rev++
}

func (n *network) resolver() *resolve.Resolver {
	return &resolve.Resolver{Records: &records.Reader{DIDs: n, HTTP: n.server.Client()}, DNS: n, Now: func() time.Time { return time.Unix(n.now.Load(), 0) }}
}

func (n *network) LookupTXT(_ context.Context, name string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dnsErr != nil {
		return nil, n.dnsErr
	}
	if list, ok := n.txt[name]; ok {
		return list, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (n *network) ResolveDID(_ context.Context, did syntax.DID) (*identity.Document, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if did != owner {
		return nil, identity.ErrNotFound
	}
	return &identity.Document{ID: did,
		VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(did, identity.SigningKeyID, n.shown.PublicKey())},
		Services:            []identity.Service{{ID: "#" + identity.PDSID, Type: identity.PDSType, Endpoint: n.server.URL}}}, nil
}

// Purge shows the key of the present.
func (n *network) Purge(syntax.AtIdentifier) {
	n.purges.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shown = n.key
}

func (n *network) serve(w http.ResponseWriter, r *http.Request) {
	n.reads.Add(1)
	n.mu.Lock()
	wait := n.wait
	n.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-r.Context().Done():
			return
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
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
	_, head, err := commit.Sign(r.Context(), owner, syntax.NewTID(time.Unix(int64(n.rev), 0), 1), tree.Root(), n.key)
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
	w.Header().Set("Content-Type", "application/vnd.ipld.car")
	_, _ = w.Write(car.Append(nil, []cid.Cid{head.CID}, blocks...))
}

func TestResolve(t *testing.T) {
	n := newNetwork(t, note, geo, set)
	r := n.resolver()
	s, err := r.Schema(t.Context(), "com.example.app.note")
	if err != nil {
		t.Fatal(err)
	}
	if s.Document.ID != "com.example.app.note" || s.DID != owner || s.URI() != "at://did:web:owner.example.com/com.atproto.lexicon.schema/com.example.app.note" {
		t.Errorf("%+v", s)
	}
	if _, err := r.Schema(t.Context(), "com.example.app.note"); err != nil || n.reads.Load() != 1 {
		t.Errorf("%d reads, %v", n.reads.Load(), err)
	}
	p, err := r.PermissionSet(t.Context(), "com.example.app.authFull")
	if err != nil || p.Title != "Full" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := r.PermissionSet(t.Context(), "com.example.app.note"); !errors.Is(err, resolve.ErrInvalid) {
		t.Error(err)
	}
}

func TestValidateRecordWithPublishedSchema(t *testing.T) {
	n := newNetwork(t, note, geo)
	r := n.resolver()
	r.Base = lexicon.Builtin()
	record := func(place any) any {
		return map[string]any{"$type": "com.example.app.note", "text": "hello", "place": place}
	}
	for range 2 {
		if err := r.ValidateRecord(t.Context(), "com.example.app.note", "x", record(map[string]any{"name": "here"})); err != nil {
			t.Error(err)
		}
		if err := r.ValidateRecord(t.Context(), "com.example.app.note", "x", record(map[string]any{})); !errors.Is(err, lexicon.ErrInvalid) {
			t.Error(err)
		}
	}
	if n.reads.Load() != 2 {
		t.Errorf("%d reads, want one for each document", n.reads.Load())
	}
	if err := r.ValidateRecord(t.Context(), "com.example.app.other", "x", record(nil)); !errors.Is(err, lexicon.ErrUnknownSchema) || !errors.Is(err, resolve.ErrNotFound) {
		t.Error(err)
	}
	if err := r.ValidateRecord(t.Context(), "app.bsky.graph.follow", "3jzfcijpj2z2a", record(nil)); !errors.Is(err, lexicon.ErrInvalid) {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	other, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id    syntax.NSID
		spoil func(n *network)
		want  error
	}{
		"no DNS record":         {"com.other.app.note", nil, resolve.ErrNotFound},
		"parents are not asked": {"com.example.app.sub.note", nil, resolve.ErrNotFound},
		"no record":             {"com.example.app.nothing", nil, resolve.ErrNotFound},
		"malformed":             {"note", nil, resolve.ErrInvalid},
		"no did= record":        {"com.example.app.note", func(n *network) { n.txt["_lexicon.app.example.com"] = []string{"x"} }, resolve.ErrNotFound},
		"two accounts":          {"com.example.app.note", func(n *network) { n.txt["_lexicon.app.example.com"] = []string{"did=did:web:a.b", "did=did:web:c.d"} }, resolve.ErrInvalid},
		"malformed DID":         {"com.example.app.note", func(n *network) { n.txt["_lexicon.app.example.com"] = []string{"did=x"} }, resolve.ErrInvalid},
		"unknown DID":           {"com.example.app.note", func(n *network) { n.txt["_lexicon.app.example.com"] = []string{"did=did:web:a.b"} }, resolve.ErrNotFound},
		"DNS down":              {"com.example.app.note", func(n *network) { n.dnsErr = &net.DNSError{Err: "timeout", IsTimeout: true} }, resolve.ErrUnavailable},
		"server down":           {"com.example.app.note", func(n *network) { n.server.Close() }, resolve.ErrUnavailable},
		"wrong signature":       {"com.example.app.note", func(n *network) { n.shown = other; n.key = mustKey(t) }, nil},
		"record without proof":  {"com.example.app.note", func(n *network) { n.tamper = func(b []car.Block) []car.Block { return slices.Delete(b, 1, 2) } }, resolve.ErrInvalid},
		"record withheld":       {"com.example.app.note", func(n *network) { n.tamper = func(b []car.Block) []car.Block { return b[:len(b)-1] } }, resolve.ErrInvalid},
		"commit withheld":       {"com.example.app.note", func(n *network) { n.tamper = func(b []car.Block) []car.Block { return b[1:] } }, resolve.ErrInvalid},
		"forged block": {"com.example.app.note", func(n *network) {
			n.tamper = func(b []car.Block) []car.Block {
				b[len(b)-1].Data = slices.Clone(b[len(b)-1].Data)
				b[len(b)-1].Data[9] ^= 1
				return b
			}
		}, resolve.ErrInvalid},
		"another schema's name": {"com.example.app.wrong", func(n *network) { n.put("com.example.app.wrong", parsed(t, note)) }, resolve.ErrInvalid},
		"not a schema": {"com.example.app.bad", func(n *network) {
			n.put("com.example.app.bad", map[string]any{"$type": resolve.Collection, "lexicon": int64(1)})
		}, resolve.ErrInvalid},
		"too large": {"com.example.app.huge", func(n *network) {
			v := parsed(t, strings.Replace(note, "app.note", "app.huge", 1))
			v["description"] = strings.Repeat("x", 600<<10)
			n.put("com.example.app.huge", v)
		}, resolve.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, note, geo)
			if c.spoil != nil {
				c.spoil(n)
			}
			_, err := n.resolver().Schema(t.Context(), c.id)
			if c.want == nil { // the key was looked up again, and fits
				if err != nil || n.purges.Load() != 1 {
					t.Errorf("%d purges, %v", n.purges.Load(), err)
				}
				return
			}
			var e *resolve.Error
			if !errors.As(err, &e) || !errors.Is(err, c.want) || !errors.Is(err, lexicon.ErrUnknownSchema) || e.ID != c.id {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func mustKey(t testing.TB) *crypto.PrivateKey {
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parsed(t testing.TB, schema string) map[string]any {
	_, v, err := resolve.Record([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFreshStaleAndFailed(t *testing.T) {
	n := newNetwork(t, note, geo)
	r := n.resolver()
	get := func() (string, error) {
		s, err := r.Schema(t.Context(), "com.example.app.note")
		if err != nil {
			return "", err
		}
		return s.Document.Description, nil
	}
	at := func(d time.Duration) { n.now.Store(int64(d / time.Second)) }
	want := func(text string, reads int64) {
		t.Helper()
		if got, err := get(); err != nil || got != text || n.reads.Load() != reads {
			t.Errorf("%q after %d reads, %v; want %q after %d", got, n.reads.Load(), err, text, reads)
		}
	}
	at(0)
	want("", 1)
	v := parsed(t, note)
	v["description"] = "new"
	n.put("com.example.app.note", v)
	at(59 * time.Minute)
	want("", 1)
	at(61 * time.Minute)
	want("new", 2)

	n.mu.Lock()
	n.rev = 1 // the server goes back to an old commit
	n.mu.Unlock()
	at(3 * time.Hour)
	want("new", 3)

	n.mu.Lock()
	n.dnsErr = errors.New("down")
	n.mu.Unlock()
	at(5 * time.Hour)
	want("new", 3) // stale
	n.mu.Lock()
	n.dnsErr, n.rev = nil, 9
	n.mu.Unlock()
	want("new", 3) // no new attempt yet
	at(5*time.Hour + 6*time.Minute)
	want("new", 4)
	n.mu.Lock()
	n.dnsErr = errors.New("down")
	n.mu.Unlock()
	at(91 * 24 * time.Hour)
	if s, err := get(); !errors.Is(err, resolve.ErrUnavailable) {
		t.Errorf("%q, %v", s, err)
	}
	n.mu.Lock()
	n.dnsErr = nil
	n.mu.Unlock()
	if s, err := get(); !errors.Is(err, resolve.ErrUnavailable) { // remembered
		t.Errorf("%q, %v", s, err)
	}
	at(91*24*time.Hour + 6*time.Minute)
	want("new", 5)
}

func TestManyWaitForOneResolution(t *testing.T) {
	n := newNetwork(t, note, geo)
	n.wait = make(chan struct{})
	r := n.resolver()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := r.Schema(t.Context(), "com.example.app.note"); err != nil {
				t.Error(err)
			}
		})
	}
	// One who gives up does not stop it for the others.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Schema(ctx, "com.example.app.note"); !errors.Is(err, resolve.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(n.wait)
	wg.Wait()
	if n.reads.Load() != 1 {
		t.Errorf("%d reads", n.reads.Load())
	}
}

// A stranger's DID document must not make the resolver talk to the host's own network.
func TestServerAtAPrivateAddress(t *testing.T) {
	n := newNetwork(t, note, geo)
	r := n.resolver()
	r.Records = &records.Reader{DIDs: n} // with the default client
	_, err := r.Schema(t.Context(), "com.example.app.note")
	if !errors.Is(err, resolve.ErrInvalid) || !errors.Is(err, safehttp.ErrAddress) || n.reads.Load() != 0 {
		t.Errorf("%v after %d reads", err, n.reads.Load())
	}
}

func TestFailuresAreRemembered(t *testing.T) {
	n := newNetwork(t, note, geo)
	r := n.resolver()
	for range 3 {
		if _, err := r.Schema(t.Context(), "com.example.app.nothing"); !errors.Is(err, resolve.ErrNotFound) || n.reads.Load() != 1 {
			t.Errorf("%v after %d reads", err, n.reads.Load())
		}
	}
	n.publish(strings.Replace(note, "app.note", "app.nothing", 1))
	n.now.Add(301)
	if _, err := r.Schema(t.Context(), "com.example.app.nothing"); err != nil || n.reads.Load() != 2 {
		t.Errorf("%v after %d reads", err, n.reads.Load())
	}
}

// Without Records there is nothing to ask.
func TestResolverWithoutRecords(t *testing.T) {
	r := &resolve.Resolver{Base: lexicon.Builtin()}
	if _, err := r.Document(t.Context(), "com.example.app.note"); !errors.Is(err, resolve.ErrOffline) || !errors.Is(err, lexicon.ErrUnknownSchema) {
		t.Error(err)
	}
	if _, err := r.Document(t.Context(), "app.bsky.feed.post"); err != nil {
		t.Error(err)
	}
	if _, err := new(resolve.Resolver).Document(t.Context(), "app.bsky.feed.post"); !errors.Is(err, resolve.ErrOffline) {
		t.Error(err)
	}
}

// given is Records that answer always the same.
type given struct {
	record []byte
	err    error
}

func (g given) Record(context.Context, syntax.DID, syntax.NSID, syntax.RecordKey) ([]byte, syntax.TID, error) {
	return g.record, "3jzfcijpj2z2a", g.err
}

type passing struct{ error }

func (passing) Temporary() bool { return true }

// The kinds of errors of other Records are those that the interface describes. What is no schema is
// none, whoever answers for it.
func TestErrorsOfOtherRecords(t *testing.T) {
	for name, c := range map[string]struct {
		given given
		want  error
	}{
		"none":                {given{err: fs.ErrNotExist}, resolve.ErrNotFound},
		"none, wrapped":       {given{err: fmt.Errorf("x: %w", fs.ErrNotExist)}, resolve.ErrNotFound},
		"temporary":           {given{err: passing{errors.New("busy")}}, resolve.ErrUnavailable},
		"temporary, wrapped":  {given{err: fmt.Errorf("x: %w", passing{errors.New("busy")})}, resolve.ErrUnavailable},
		"anything else":       {given{err: errors.New("forged")}, resolve.ErrInvalid},
		"no bytes":            {given{}, resolve.ErrInvalid},
		"no CBOR":             {given{record: []byte("\xff")}, resolve.ErrInvalid},
		"bytes after the map": {given{record: []byte("\xa0\x00")}, resolve.ErrInvalid},
		"more than MaxSize":   {given{record: make([]byte, 1<<20)}, resolve.ErrInvalid},
	} {
		n := newNetwork(t)
		r := n.resolver()
		r.Records = c.given
		var e *resolve.Error
		if _, err := r.Schema(t.Context(), "com.example.app.note"); !errors.As(err, &e) || e.Kind != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOffline(t *testing.T) {
	n := newNetwork(t, note, geo)
	r := n.resolver()
	r.Offline, r.Base = true, lexicon.Builtin()
	if _, err := r.Document(t.Context(), "com.example.app.note"); !errors.Is(err, resolve.ErrOffline) {
		t.Error(err)
	}
	if _, err := r.Document(t.Context(), "app.bsky.feed.post"); err != nil {
		t.Error(err)
	}
	if n.reads.Load() != 0 {
		t.Error("the network was asked")
	}
}

func TestHostileReferencesAreBounded(t *testing.T) {
	var props []string
	for i := range 500 {
		props = append(props, fmt.Sprintf(`"p%d":{"type":"ref","ref":"com.example.geo.x%d"}`, i, i))
	}
	n := newNetwork(t, `{"lexicon":1,"id":"com.example.app.note","defs":{"main":{"type":"record","key":"any","record":{"type":"object","properties":{`+strings.Join(props, ",")+`}}}}}`)
	r := n.resolver()
	r.MaxRefs, r.MaxEntries = 10, 8
	if _, err := r.Catalog(t.Context(), "com.example.app.note"); err != nil {
		t.Fatal(err)
	}
	if n.reads.Load() != 11 {
		t.Errorf("%d reads", n.reads.Load())
	}
	err := r.ValidateRecord(t.Context(), "com.example.app.note", "x", map[string]any{"$type": "com.example.app.note", "p3": map[string]any{}})
	if !errors.Is(err, lexicon.ErrUnknownSchema) {
		t.Error(err)
	}
}

func ExampleTXTName() {
	fmt.Println(resolve.TXTName("edu.university.dept.lab.blogging.getBlogPost"))
	fmt.Println(resolve.TXTValue("did:plc:ewvi7nxzyoun6zhxrhs64oiz"))
	// Output:
	// _lexicon.blogging.lab.dept.university.edu
	// did=did:plc:ewvi7nxzyoun6zhxrhs64oiz
}

func ExampleRecord() {
	rkey, record, err := resolve.Record([]byte(`{"lexicon":1,"id":"com.example.app.note","defs":{"main":{"type":"token"}}}`))
	fmt.Println(rkey, record["$type"], err)
	// Output: com.example.app.note com.atproto.lexicon.schema <nil>
}

// A Resolver behind the catalog of the binary. What that does not have is looked up in the network,
// unless the Resolver is offline.
func ExampleResolver() {
	r := &resolve.Resolver{Base: lexicon.Builtin(), Records: new(records.Reader), Offline: true}
	record := map[string]any{"$type": "com.example.app.note", "text": "hello"}
	err := r.ValidateRecord(context.Background(), "com.example.app.note", "3jzfcijpj2z2a", record)
	fmt.Println(errors.Is(err, lexicon.ErrUnknownSchema))
	fmt.Println(err)
	// Output:
	// true
	// resolve: schema com.example.app.note: offline
}
