package atproto_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Accounts of a world. Ghost is one that the directory knows and the host has no repository of;
// nobody is known to neither.
const (
	alice  = "did:plc:aliceaaaaaaaaaaaaaaaaaaa"
	bob    = "did:plc:bobaaaaaaaaaaaaaaaaaaaaa"
	dora   = "did:plc:doraaaaaaaaaaaaaaaaaaaaa" // deactivated
	sue    = "did:plc:sueaaaaaaaaaaaaaaaaaaaaa" // suspended
	tom    = "did:plc:tomaaaaaaaaaaaaaaaaaaaaa" // taken down
	ghost  = "did:plc:ghostaaaaaaaaaaaaaaaaaaa"
	nobody = "did:plc:nobodyaaaaaaaaaaaaaaaaaa"

	note = "com.example.note" // a collection without a schema
	post = "app.bsky.feed.post"
)

var errStore = errors.New("the disk is on fire")

// accounts is a directory in memory, of hosts and of the network.
type accounts map[syntax.DID]*atproto.Account

func (a accounts) Account(ctx context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	if id == "broken.test" {
		return atproto.Account{}, errStore
	}
	for _, acct := range a {
		if id == syntax.AtIdentifier(acct.DID) || id == syntax.AtIdentifier(acct.Handle) {
			return *acct, nil
		}
	}
	return atproto.Account{}, atproto.ErrNoAccount
}

func (a accounts) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) (list []atproto.Account, err error) {
	for _, acct := range a {
		if c := cmp.Or(acct.Created.Compare(after), strings.Compare(string(acct.DID), string(afterDID))); c > 0 {
			list = append(list, *acct)
		}
	}
	slices.SortFunc(list, func(a, b atproto.Account) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(string(a.DID), string(b.DID)))
	})
	return list[:min(len(list), limit)], nil
}

func (a accounts) Document(ctx context.Context, did syntax.DID) ([]byte, syntax.Handle, error) {
	if did == bob {
		return nil, "", identity.ErrUnavailable
	}
	text, err := json.Marshal(document(did, a[did].Handle))
	return text, a[did].Handle, err
}

func (a accounts) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	switch h {
	case "far.example.com":
		return nobody, nil
	case "broken.example.com":
		return "", errStore
	}
	return "", atproto.ErrNoAccount
}

func document(did syntax.DID, handle syntax.Handle) *identity.Document {
	return &identity.Document{ID: did, AlsoKnownAs: []string{"at://" + string(handle)},
		Services: []identity.Service{{ID: "#atproto_pds", Type: "AtprotoPersonalDataServer", Endpoint: "https://pds.test"}}}
}

// takedowns hides a record and a blob of each moderated account.
type takedowns struct{ w *world }

func (t takedowns) HiddenRecords(ctx context.Context, did syntax.DID, paths []string) (map[string]bool, error) {
	return map[string]bool{note + "/hidden": slices.Contains(paths, note+"/hidden")}, nil
}

func (t takedowns) HiddenBlob(ctx context.Context, did syntax.DID, c cid.Cid) (bool, error) {
	return c == t.w.hiddenBlob, nil
}

// world is a host with the service over it.
type world struct {
	t          *testing.T
	svc        *atproto.Service
	srv        *xrpc.Server
	legacy     bool // answers may have what the data model does not
	host       *repo.Host
	key        *crypto.PrivateKey
	accounts   accounts
	hiddenBlob cid.Cid
	scopes     *string // of the caller; nil: may do everything
	quota      int64   // of blobs; 0: none
	guard      repo.Guard
}

var schemas = lexicon.Builtin()

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, key: key, accounts: accounts{}}
	store := memory.New(memory.Config{})
	w.host = repo.NewHost(repo.Config{Store: store, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }, TempDir: t.TempDir(),
		BlobQuota: func(context.Context, syntax.DID) (int64, error) { return w.quota, nil },
		Indexes:   []repo.Index{repo.SubjectIndex("follow", map[syntax.NSID]string{"app.bsky.graph.follow": "subject"})}})
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, a := range []atproto.Account{
		{DID: alice, Handle: "alice.test"}, {DID: bob, Handle: "bob.test"}, {DID: dora, Handle: "dora.test", Status: atproto.Deactivated},
		{DID: sue, Handle: "sue.test", Status: atproto.Suspended}, {DID: tom, Handle: "tom.test", Status: atproto.TakenDown}, {DID: ghost, Handle: "ghost.test"},
	} {
		a.Created = begin.Add(time.Duration(i/2) * time.Second) // two at a time
		w.accounts[a.DID] = &a
		if a.DID == ghost {
			continue
		}
		if _, err := w.host.Create(t.Context(), a.DID, repo.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	outbox := &stream.Outbox{Events: store.Events}
	t.Cleanup(func() { outbox.Close() })
	w.svc = &atproto.Service{
		Host: w.host, Accounts: w.accounts, Takedowns: takedowns{w}, Schemas: schemas, Outbox: outbox,
		Auth: atproto.Auth{User: w.auth(true), Optional: w.auth(false), Guard: func(auth.Principal) repo.Guard { return w.guard }},
		ImportKeys: func(context.Context, syntax.DID) ([]*crypto.PublicKey, error) {
			return []*crypto.PublicKey{key.PublicKey()}, nil
		},
		BlobLimit: 10_000, ImportLimit: 100_000,
	}
	return w
}

// signer signs for all accounts.
func (w *world) signer() func(context.Context, syntax.DID) (crypto.Signer, error) {
	return func(context.Context, syntax.DID) (crypto.Signer, error) { return w.key, nil }
}

// auth takes the Authorization header for the caller's DID.
func (w *world) auth(required bool) xrpc.Authenticator {
	return func(r *xrpc.Request) (p auth.Principal, err error) {
		switch who := r.Header.Get("Authorization"); {
		case who == "admin" && !required:
			p.Role = auth.Administrator
		case strings.HasPrefix(who, "did:"):
			p = auth.Principal{Role: auth.User, DID: syntax.DID(who), Permissions: auth.Everything()}
			if w.scopes != nil {
				p.Credential = auth.OAuthSession
				p.Permissions, _ = auth.ParseScopes(*w.scopes)
			}
		case who != "" || required:
			err = &xrpc.Error{Status: 401, Name: "AuthMissing", Message: "Authentication Required"}
		}
		return p, err
	}
}

// answer is what a method answered.
type answer struct {
	status int
	name   string // of the error
	header http.Header
	body   []byte
}

// call calls a method: a query if in is nil. As is the caller, "" nobody. What the answer is must
// be what the method's schema says, be it success or failure.
func (w *world) call(as, method string, params url.Values, in any) answer {
	w.t.Helper()
	if in == nil {
		return w.send(as, "GET", method, params, "", nil)
	}
	text, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.send(as, "POST", method, nil, "application/json", text)
}

// general are the errors that any method may answer with.
var general = []string{"InvalidRequest", "AuthMissing", "AuthenticationRequired", "PayloadTooLarge", "InternalServerError", "AccountNotFound",
	"AccountDeactivated", "AccountTakedown", "ScopeMissingError", "MethodNotImplemented", "ConcurrentWrites"}

// undeclared are errors of single methods that their schemas do not name, and that the network
// knows all the same.
var undeclared = map[string][]string{
	"com.atproto.repo.createRecord":        {"BlobNotFound", "InvalidMimeType", "InvalidSize"},
	"com.atproto.repo.uploadBlob":          {"BlobQuotaExceeded"},
	"com.atproto.repo.describeRepo":        {"RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"},
	"com.atproto.sync.getCheckout":         {"RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"},
	"com.atproto.sync.getHead":             {"RepoTakendown", "RepoSuspended", "RepoDeactivated"},
	"com.atproto.identity.resolveDid":      {"UpstreamFailure"},
	"com.atproto.identity.resolveIdentity": {"UpstreamFailure"},
}

func (w *world) send(as, verb, method string, params url.Values, contentType string, body []byte) answer {
	w.t.Helper()
	if w.srv == nil {
		w.srv = &xrpc.Server{Catalog: schemas}
		w.svc.Mount(w.srv)
	}
	r := httptest.NewRequest(verb, "/xrpc/"+method+"?"+params.Encode(), bytes.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if as != "" {
		r.Header.Set("Authorization", as)
	}
	rec := httptest.NewRecorder()
	w.srv.ServeHTTP(rec, r)
	a := answer{status: rec.Code, header: rec.Header(), body: rec.Body.Bytes()}
	m, err := schemas.Method(syntax.NSID(method))
	if err != nil {
		w.t.Fatal(err)
	}
	if a.status >= 400 {
		var env struct{ Error, Message string }
		if err := json.Unmarshal(a.body, &env); err != nil || env.Message == "" {
			w.t.Errorf("%s: status %d without the envelope: %.200q", method, a.status, a.body)
		}
		a.name = env.Error
		declared := slices.ContainsFunc(m.Errors, func(e lexicon.MethodError) bool { return e.Name == a.name })
		if !declared && !slices.Contains(general, a.name) && !slices.Contains(undeclared[method], a.name) {
			w.t.Errorf("%s: an error named %s, which nobody expects", method, a.name)
		}
		return a
	}
	switch {
	case m.Output == nil:
		if len(a.body) > 0 {
			w.t.Errorf("%s: a body %.200q where none is expected", method, a.body)
		}
	case m.Output.Encoding == "application/json":
		v, err := data.FromJSON(a.body, data.Limits{})
		if err != nil && w.legacy && json.Valid(a.body) {
			return a
		}
		if err == nil {
			err = schemas.ValidateOutput(syntax.NSID(method), v)
		}
		if err != nil {
			w.t.Errorf("%s: output: %v", method, err)
		}
	case m.Output.Encoding != "*/*":
		if got := a.header.Get("Content-Type"); got != m.Output.Encoding {
			w.t.Errorf("%s: output of type %s", method, got)
		}
	}
	return a
}

// want checks an answer: its status, and the name of the error.
func (a answer) want(t *testing.T, status int, name string) answer {
	t.Helper()
	if a.status != status || a.name != name {
		t.Errorf("status %d %s, want %d %s: %.300s", a.status, a.name, status, name, a.body)
	}
	return a
}

// says checks that an error's message has a part.
func (a answer) says(t *testing.T, part string) {
	t.Helper()
	if !strings.Contains(string(a.body), part) {
		t.Errorf("the answer does not say %q: %.300s", part, a.body)
	}
}

// into decodes an answer.
func into[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %.300s", err, a.body)
	}
	return v
}

// q makes parameters of pairs.
func q(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// obj makes an object of pairs.
func obj(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// written is the answer of a write.
type written struct {
	URI, CID, ValidationStatus string
	Commit                     *struct{ CID, Rev string }
}

// note writes a record.
func (w *world) note(did, rkey, text string) written {
	w.t.Helper()
	a := w.call(did, "com.atproto.repo.putRecord", nil, obj("repo", did, "collection", note, "rkey", rkey, "record", obj("text", text)))
	return into[written](w.t, a.want(w.t, 200, ""))
}

// upload uploads a blob and returns its reference.
func (w *world) upload(did, contentType string, b []byte) map[string]any {
	w.t.Helper()
	a := w.send(did, "POST", "com.atproto.repo.uploadBlob", nil, contentType, b).want(w.t, 200, "")
	return into[struct{ Blob map[string]any }](w.t, a).Blob
}

func refOf(blob map[string]any) string { return blob["ref"].(map[string]any)["$link"].(string) }
