package atproto_test

import (
	"bytes"
	"context"
	"net/http"
	"testing"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// A session that ends between its check and the write, whatever the method, changes nothing.
func TestSessionEndsBeforeTheWrite(t *testing.T) {
	w := newWorld(t)
	created := map[string]any{"repo": alice, "collection": note, "rkey": "one", "record": map[string]any{"$type": note}}
	w.call(alice, "com.atproto.repo.createRecord", nil, created).want(t, 200, "")
	var export bytes.Buffer
	if err := w.host.Export(t.Context(), alice, "", &export); err != nil {
		t.Fatal(err)
	}
	before, err := w.host.Head(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	w.guard = func(context.Context, storage.Reader) ([]storage.KVCheck, error) {
		return nil, &xrpc.Error{Status: http.StatusBadRequest, Name: "InvalidRequest", Message: "Token has been revoked"}
	}
	two := map[string]any{"repo": alice, "collection": note, "rkey": "two", "record": map[string]any{"$type": note, "x": 2}}
	w.call(alice, "com.atproto.repo.createRecord", nil, two).want(t, 400, "InvalidRequest")
	w.call(alice, "com.atproto.repo.putRecord", nil, two).want(t, 400, "InvalidRequest")
	w.call(alice, "com.atproto.repo.deleteRecord", nil, map[string]any{"repo": alice, "collection": note, "rkey": "one"}).want(t, 400, "InvalidRequest")
	w.call(alice, "com.atproto.repo.applyWrites", nil, map[string]any{"repo": alice, "writes": []any{
		map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": note, "rkey": "one"}}}).want(t, 400, "InvalidRequest")
	w.send(alice, "POST", "com.atproto.repo.importRepo", nil, "application/vnd.ipld.car", export.Bytes()).want(t, 400, "InvalidRequest")
	w.send(alice, "POST", "com.atproto.repo.uploadBlob", nil, "text/plain", []byte("a blob")).want(t, 400, "InvalidRequest")
	if after, err := w.host.Head(t.Context(), alice); err != nil || after != before {
		t.Errorf("the repository went on: %v, %v", after, err)
	}
	w.guard = nil
	w.call(alice, "com.atproto.repo.createRecord", nil, two).want(t, 200, "")
}

// snapshots are accounts whose status is that of a key in their repository.
type snapshots struct{ accounts }

func (a snapshots) AccountIn(ctx context.Context, r storage.Reader) (atproto.Account, error) {
	status, err := r.Get(ctx, "status")
	return atproto.Account{DID: alice, Status: atproto.Status(status)}, err
}

// The status of an account is looked at in the transaction, not only at the start of the request.
func TestStatusChangesBeforeTheWrite(t *testing.T) {
	w := newWorld(t)
	w.svc.Accounts = snapshots{w.accounts}
	for _, tt := range []struct {
		status atproto.Status
		name   string
	}{{atproto.TakenDown, "AccountTakedown"}, {atproto.Suspended, "AccountTakedown"}, {atproto.Deactivated, "AccountDeactivated"}} {
		if _, err := w.host.Apply(t.Context(), alice, repo.Batch{KV: []storage.KVWrite{{Key: "status", Value: []byte(tt.status)}}}); err != nil {
			t.Fatal(err)
		}
		in := map[string]any{"repo": alice, "collection": note, "record": map[string]any{"$type": note}}
		w.call(alice, "com.atproto.repo.createRecord", nil, in).want(t, 401, tt.name)
		a := w.send(alice, "POST", "com.atproto.repo.uploadBlob", nil, "text/plain", []byte("a blob"))
		if tt.status == atproto.Deactivated {
			a.want(t, 200, "")
		} else {
			a.want(t, 401, tt.name)
		}
	}
}

// Without a Guard, a change is refused if what the principal was found by is another by then.
func TestBasisWithoutAGuard(t *testing.T) {
	w := newWorld(t)
	put := func(value string) {
		t.Helper()
		if _, err := w.host.Apply(t.Context(), alice, repo.Batch{KV: []storage.KVWrite{{Key: "session", Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
	}
	user := func(*xrpc.Request) (auth.Principal, error) {
		return auth.Principal{
			Role: auth.User, DID: alice, Permissions: auth.Everything(), Active: true, Basis: []auth.Value{{Key: "session", Value: []byte("good")}},
		}, nil
	}
	w.svc.Auth = atproto.Auth{User: user}
	in := map[string]any{"repo": alice, "collection": note, "record": map[string]any{"$type": note}}
	for value, status := range map[string]int{"good": 200, "ended": 409} {
		put(value)
		name := map[int]string{409: "ConcurrentWrites"}[status]
		before := w.head(alice)
		w.call(alice, "com.atproto.repo.createRecord", nil, in).want(t, status, name)
		w.send(alice, "POST", "com.atproto.repo.uploadBlob", nil, "text/plain", []byte("a blob")).want(t, status, name)
		if changed := w.head(alice) != before; changed != (status == 200) {
			t.Errorf("with a session that is %s, the repository changed: %v", value, changed)
		}
	}
}
