package atproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
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
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/stream"
)

const secret = "secret-text"

// faults makes one call of a host's dependencies fail.
type faults struct {
	err  error // of the call
	left int   // calls until then; negative: none fails
	hit  bool
}

func (f *faults) next() error {
	if f.left--; f.left == -1 {
		f.hit = true
		return f.err
	}
	return nil
}

// passing passes an error of the plan, or what a call gives.
func passing[T any](f *faults, call func() (T, error)) (T, error) {
	if err := f.next(); err != nil {
		var none T
		return none, err
	}
	return call()
}

func passingSeq[T any](f *faults, call iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := f.next(); err != nil {
			var none T
			yield(none, err)
			return
		}
		call(yield)
	}
}

// directory is all that accounts may be.
type directory interface {
	atproto.Directory
	atproto.Documents
	atproto.Handles
}

type (
	faultyRepos struct {
		storage.Repos
		*faults
	}
	faultyReader struct {
		storage.Reader
		*faults
	}
	faultyBlobs struct {
		storage.Blobs
		*faults
	}
	faultyEvents struct {
		storage.Events
		*faults
	}
	faultyAccounts struct {
		directory
		*faults
	}
	faultyTakedowns struct {
		atproto.Takedowns
		*faults
	}
	faultyPLC struct{ *faults }
)

func (x faultyRepos) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	return passing(x.faults, func() (storage.Head, error) { return x.Repos.Head(ctx, did) })
}
func (x faultyRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	return passing(x.faults, func() (int64, error) { return x.Repos.Apply(ctx, did, c) })
}
func (x faultyRepos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	return passing(x.faults, func() (int64, error) { return x.Repos.Replace(ctx, did, records, final) })
}
func (x faultyRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	if err := x.next(); err != nil {
		return err
	}
	return x.Repos.View(ctx, did, func(r storage.Reader) error { return fn(faultyReader{r, x.faults}) })
}
func (x faultyReader) Commit(ctx context.Context) ([]byte, error) {
	return passing(x.faults, func() ([]byte, error) { return x.Reader.Commit(ctx) })
}
func (x faultyReader) Record(ctx context.Context, path string) (storage.Record, error) {
	return passing(x.faults, func() (storage.Record, error) { return x.Reader.Record(ctx, path) })
}
func (x faultyReader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	return passing(x.faults, func() (storage.Record, error) { return x.Reader.RecordByCID(ctx, c) })
}
func (x faultyReader) Records(ctx context.Context, r storage.Range) iter.Seq2[storage.Record, error] {
	return passingSeq(x.faults, x.Reader.Records(ctx, r))
}
func (x faultyReader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	return passingSeq(x.faults, x.Reader.RecordsSince(ctx, rev))
}
func (x faultyReader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return passingSeq(x.faults, x.Reader.BlobRefs(ctx, after, since))
}
func (x faultyReader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	return passing(x.faults, func() (bool, error) { return x.Reader.HasBlobRef(ctx, blob) })
}
func (x faultyReader) Get(ctx context.Context, key string) ([]byte, error) {
	return passing(x.faults, func() ([]byte, error) { return x.Reader.Get(ctx, key) })
}
func (x faultyReader) Keys(ctx context.Context, r storage.Range) iter.Seq2[storage.KVPair, error] {
	return passingSeq(x.faults, x.Reader.Keys(ctx, r))
}
func (x faultyBlobs) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	return passing(x.faults, func() (storage.BlobInfo, error) { return x.Blobs.Stage(ctx, did, mime, r, limits) })
}
func (x faultyBlobs) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (info storage.BlobInfo, promoted bool, err error) {
	if err := x.next(); err != nil {
		return info, false, err
	}
	return x.Blobs.Stat(ctx, did, c)
}
func (x faultyBlobs) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	return errors.Join(x.next(), x.Blobs.SetMIME(ctx, did, c, mime))
}
func (x faultyBlobs) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	return errors.Join(x.next(), x.Blobs.Promote(ctx, did, c))
}
func (x faultyBlobs) Open(ctx context.Context, did syntax.DID, c cid.Cid) (r io.ReadSeekCloser, info storage.BlobInfo, err error) {
	if err := x.next(); err != nil {
		return nil, info, err
	}
	return x.Blobs.Open(ctx, did, c)
}
func (x faultyBlobs) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return passingSeq(x.faults, x.Blobs.List(ctx, did, after))
}
func (x faultyEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return passingSeq(x.faults, x.Events.Since(ctx, seq))
}
func (x faultyEvents) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	if err := x.next(); err != nil {
		return 0, 0, err
	}
	return x.Events.Bounds(ctx)
}
func (x faultyEvents) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return passingSeq(x.faults, x.Events.(storage.AccountEvents).OfAccount(ctx, did))
}
func (x faultyAccounts) Account(ctx context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	return passing(x.faults, func() (atproto.Account, error) { return x.directory.Account(ctx, id) })
}
func (x faultyAccounts) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]atproto.Account, error) {
	return passing(x.faults, func() ([]atproto.Account, error) { return x.directory.ListAccounts(ctx, after, afterDID, limit) })
}
func (x faultyAccounts) Document(ctx context.Context, did syntax.DID) ([]byte, syntax.Handle, error) {
	if err := x.next(); err != nil {
		return nil, "", err
	}
	return x.directory.Document(ctx, did)
}
func (x faultyAccounts) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	return passing(x.faults, func() (syntax.DID, error) { return x.directory.ResolveHandle(ctx, h) })
}
func (x faultyTakedowns) HiddenRecords(ctx context.Context, did syntax.DID, paths []string) (map[string]bool, error) {
	return passing(x.faults, func() (map[string]bool, error) { return x.Takedowns.HiddenRecords(ctx, did, paths) })
}
func (x faultyTakedowns) HiddenBlob(ctx context.Context, did syntax.DID, c cid.Cid) (bool, error) {
	return passing(x.faults, func() (bool, error) { return x.Takedowns.HiddenBlob(ctx, did, c) })
}
func (x faultyPLC) Resolve(ctx context.Context, did syntax.DID) (*identity.Document, error) {
	return passing(x.faults, func() (*identity.Document, error) { return document(did, "far.example.com"), nil })
}

// Every dependency of a Service fails in turn, at every call that a method makes, with errors of
// all kinds. No answer has a word of what a dependency says, and an error of unknown kind is status
// 500.
func TestNoErrorOfTheHostIsToldToClients(t *testing.T) {
	plain := errors.New(secret)
	kinds := []error{plain}
	for _, is := range []error{
		atproto.ErrNoAccount, storage.ErrNotFound, storage.ErrConflict, storage.ErrExists, storage.ErrCorrupt, storage.ErrBusy,
		identity.ErrUnavailable, identity.ErrNotFound, identity.ErrTombstoned, identity.ErrDocument, mst.ErrPartial, context.DeadlineExceeded, io.EOF,
	} {
		kinds = append(kinds, fmt.Errorf("%w: %s", is, secret))
	}
	for _, is := range []error{repo.ErrRepoNotFound, repo.ErrRecordNotFound, repo.ErrBlobNotFound, repo.ErrClock, repo.ErrInvalidRecord, repo.ErrInvalidImport, repo.ErrInvalidSwap, repo.ErrBusy} {
		kinds = append(kinds, fmt.Errorf("%s: %w", secret, is))
	}
	for _, kind := range kinds {
		t.Run(kind.Error(), func(t *testing.T) {
			f := &faults{err: kind, left: -1}
			key, err := crypto.GenerateKey(crypto.K256)
			if err != nil {
				t.Fatal(err)
			}
			mem := memory.New(memory.Config{})
			store := mem
			store.Repos, store.Blobs, store.Events = faultyRepos{mem.Repos, f}, faultyBlobs{mem.Blobs, f}, faultyEvents{mem.Events, f}
			w := &world{t: t, accounts: accounts{alice: {DID: alice, Handle: "alice.test", Moderated: true}}}
			guarded := func(context.Context, storage.Reader) ([]storage.KVCheck, error) { return nil, f.next() }
			user := func(*xrpc.Request) (auth.Principal, error) {
				return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, f.next()
			}
			newServer := func() http.Handler { // without cached trees
				host := repo.NewHost(repo.Config{
					Store: store, TempDir: t.TempDir(), CheckClock: func(context.Context) error { return f.next() },
					Signer: func(context.Context, syntax.DID) (crypto.Signer, error) {
						return passing(f, func() (crypto.Signer, error) { return key, nil })
					},
				})
				srv := &xrpc.Server{Catalog: schemas}
				(&atproto.Service{
					Host: host, Accounts: faultyAccounts{w.accounts, f}, Takedowns: faultyTakedowns{takedowns{w}, f}, Schemas: schemas,
					Auth: atproto.Auth{User: user, Optional: user, Guard: func(auth.Principal) repo.Guard { return guarded }}, Outbox: &stream.Outbox{Events: store.Events}, Resolver: &identity.Resolver{PLC: faultyPLC{f}},
					ImportKeys: func(context.Context, syntax.DID) ([]*crypto.PublicKey, error) {
						return passing(f, func() ([]*crypto.PublicKey, error) { return []*crypto.PublicKey{key.PublicKey()}, nil })
					},
					Unknown: func(context.Context, syntax.NSID, syntax.RecordKey, any) error { return f.next() },
				}).Mount(srv)
				return srv
			}
			host := repo.NewHost(repo.Config{Store: mem, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
			if _, err := host.Create(t.Context(), alice, repo.Batch{}); err != nil {
				t.Fatal(err)
			}
			do := func(srv http.Handler, verb, method string, q url.Values, contentType string, body []byte) *httptest.ResponseRecorder {
				r := httptest.NewRequest(verb, "/xrpc/com.atproto."+method+"?"+q.Encode(), bytes.NewReader(body))
				if contentType != "" {
					r.Header.Set("Content-Type", contentType)
				}
				rec := httptest.NewRecorder()
				func() {
					defer func() {
						if v := recover(); v != nil && v != http.ErrAbortHandler {
							panic(v)
						}
					}()
					srv.ServeHTTP(rec, r)
				}()
				return rec
			}
			// Something to read.
			srv := newServer()
			var blob struct{ Blob json.RawMessage }
			if a := do(srv, "POST", "repo.uploadBlob", nil, "text/plain", []byte("blob")); a.Code != 200 || json.Unmarshal(a.Body.Bytes(), &blob) != nil {
				t.Fatal(a.Body)
			}
			record := func(rkey string) []byte {
				return fmt.Appendf(nil, `{"repo":%q,"collection":%q,"rkey":%q,"record":{"$type":%q,"blob":%s}}`, alice, note, rkey, note, blob.Blob)
			}
			var made struct {
				CID    string
				Commit struct{ Rev string }
			}
			if a := do(srv, "POST", "repo.createRecord", nil, "application/json", record("first")); a.Code != 200 || json.Unmarshal(a.Body.Bytes(), &made) != nil {
				t.Fatal(a.Body)
			}
			do(srv, "POST", "repo.putRecord", nil, "application/json", record("second"))
			file := do(srv, "GET", "sync.getRepo", q("did", alice), "", nil).Body.Bytes()
			var ref struct {
				Ref struct {
					Link string `json:"$link"`
				}
			}
			if err := json.Unmarshal(blob.Blob, &ref); err != nil {
				t.Fatal(err)
			}
			of := func(pairs ...string) url.Values { return q(append([]string{"did", alice}, pairs...)...) }
			asJSON := "application/json"
			hits := 0
			for _, call := range []struct {
				verb, method string
				q            url.Values
				contentType  string
				body         []byte
			}{
				{"POST", "repo.createRecord", nil, asJSON, record("")},
				{"POST", "repo.putRecord", nil, asJSON, record("first")},
				{"POST", "repo.deleteRecord", nil, asJSON, fmt.Appendf(nil, `{"repo":%q,"collection":%q,"rkey":"third"}`, alice, note)},
				{"POST", "repo.applyWrites", nil, asJSON, fmt.Appendf(nil, `{"repo":%q,"writes":[{"$type":"com.atproto.repo.applyWrites#delete","collection":%q,"rkey":"second"},{"$type":"com.atproto.repo.applyWrites#create","collection":%q,"rkey":"second","value":{"blob":%s}}]}`, alice, note, note, blob.Blob)},
				{"POST", "repo.uploadBlob", nil, "text/plain", []byte("another blob")},
				{"POST", "repo.importRepo", nil, "application/vnd.ipld.car", file},
				{"GET", "repo.listMissingBlobs", nil, "", nil},
				{"GET", "repo.getRecord", q("repo", alice, "collection", note, "rkey", "first"), "", nil},
				{"GET", "repo.listRecords", q("repo", "alice.test", "collection", note), "", nil},
				{"GET", "repo.describeRepo", q("repo", alice), "", nil},
				{"GET", "identity.resolveHandle", q("handle", "alice.test"), "", nil},
				{"GET", "identity.resolveHandle", q("handle", "far.example.com"), "", nil},
				{"GET", "identity.resolveDid", q("did", nobody), "", nil},
				{"GET", "identity.resolveIdentity", q("identifier", alice), "", nil},
				{"POST", "identity.refreshIdentity", nil, asJSON, fmt.Appendf(nil, `{"identifier":%q}`, alice)},
				{"GET", "sync.getRepoStatus", of(), "", nil},
				{"GET", "sync.listRepos", nil, "", nil},
				{"GET", "sync.getRepo", of(), "", nil},
				{"GET", "sync.getRepo", of("since", made.Commit.Rev), "", nil},
				{"GET", "sync.getRecord", of("collection", note, "rkey", "first"), "", nil},
				{"GET", "sync.getBlocks", of("cids", made.CID), "", nil},
				{"GET", "sync.getBlob", of("cid", ref.Ref.Link), "", nil},
				{"GET", "sync.getLatestCommit", of(), "", nil},
				{"GET", "sync.listBlobs", of(), "", nil},
				{"GET", "sync.getHead", of(), "", nil},
				{"GET", "sync.getCheckout", of(), "", nil},
				{"GET", "sync.subscribeRepos", q("cursor", "0"), "", nil},
			} {
				for n := range 200 {
					srv := newServer()
					f.left, f.hit = n, false
					a := do(srv, call.verb, call.method, call.q, call.contentType, call.body)
					hit := f.hit
					f.left = -1
					if !hit {
						if n == 0 && !slices.Contains([]string{"sync.subscribeRepos"}, call.method) {
							t.Errorf("%s asks nobody", call.method)
						}
						break
					}
					hits++
					all := a.Body.String() + fmt.Sprint(a.Header())
					if strings.Contains(all, secret) {
						t.Errorf("%s, call %d: status %d: %.300s", call.method, n, a.Code, all)
					}
					// Of a handle that is not known here, clients are told only that it was not
					// found.
					if kind == plain && a.Code >= 400 && a.Code < 500 && (call.method != "identity.resolveHandle" || n == 0) {
						t.Errorf("%s, call %d: status %d: %s", call.method, n, a.Code, all)
					}
				}
			}
			if hits < 60 {
				t.Errorf("only %d calls have failed", hits)
			}
		})
	}
}
