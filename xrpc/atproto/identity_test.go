package atproto_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

func TestResolveHandle(t *testing.T) {
	w := newWorld(t)
	resolve := func(handle string) answer {
		return w.call("", "com.atproto.identity.resolveHandle", q("handle", handle), nil)
	}
	for handle, did := range map[string]string{"alice.test": alice, "ALICE.Test": alice, "far.example.com": nobody} {
		if got := into[struct{ DID string }](t, resolve(handle).want(t, 200, "")); got.DID != did {
			t.Errorf("%s: %s", handle, got.DID)
		}
	}
	resolve("none.example.com").want(t, 400, "InvalidRequest").says(t, "Unable to resolve handle")
	resolve("dora.test").want(t, 400, "InvalidRequest").says(t, "Unable to resolve handle")
	resolve("tom.test").want(t, 400, "InvalidRequest").says(t, "Unable to resolve handle")
	resolve("not a handle").want(t, 400, "InvalidRequest")
	resolve(alice).want(t, 400, "InvalidRequest")
	resolve("broken.test").want(t, 500, "InternalServerError")
	resolve("broken.example.com").want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.identity.resolveHandle", nil, nil).want(t, 400, "InvalidRequest")
}

// network is a did:plc directory and a DNS.
type network struct {
	docs  map[syntax.DID]*identity.Document
	names map[string]string
	asked map[syntax.DID]int
}

func (n *network) Resolve(ctx context.Context, did syntax.DID) (*identity.Document, error) {
	n.asked[did]++
	switch {
	case did == tom:
		return nil, identity.ErrTombstoned
	case did == ghost:
		return nil, identity.ErrUnavailable
	case did == sue:
		return nil, identity.ErrDocument
	case n.docs[did] == nil:
		return nil, identity.ErrNotFound
	}
	return n.docs[did], nil
}

// unreachable is a network in which there is no web server.
type unreachable struct{}

func (unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
}

func (n *network) LookupTXT(ctx context.Context, name string) ([]string, error) {
	switch did := n.names[name]; did {
	case "":
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case "!":
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	default:
		return []string{"did=" + did}, nil
	}
}

// TestIdentityErrors: every error of package identity has a status, however it is wrapped, and no
// text of it that tells of the host's network reaches a client.
func TestIdentityErrors(t *testing.T) {
	const secret = "dial tcp 10.0.0.7:443"
	for err, want := range map[error]struct {
		status int
		name   string
	}{
		identity.ErrInvalid: {400, "InvalidRequest"}, identity.ErrMethod: {400, "InvalidRequest"}, identity.ErrNotFound: {400, "DidNotFound"},
		identity.ErrTombstoned: {400, "DidDeactivated"}, identity.ErrMismatch: {400, "InvalidRequest"}, identity.ErrAmbiguous: {400, "InvalidRequest"},
		identity.ErrUnavailable: {502, ""}, identity.ErrDocument: {400, "InvalidRequest"}, identity.ErrTooLarge: {400, "InvalidRequest"},
		identity.ErrAddress: {400, "InvalidRequest"}, identity.ErrOperation: {400, "InvalidRequest"}, identity.ErrSignature: {400, "InvalidRequest"},
		identity.ErrOrder: {400, "InvalidRequest"}, identity.ErrLateRecovery: {400, "InvalidRequest"}, identity.ErrGenesis: {400, "InvalidRequest"},
		identity.ErrLog: {400, "InvalidRequest"},
		&identity.PLCError{Status: 400, Message: "m"}: {400, "InvalidRequest"}, &identity.PLCError{Status: 404, Message: "m"}: {400, "DidNotFound"},
		&identity.PLCError{Status: 409, Message: "m"}: {400, "InvalidRequest"}, &identity.PLCError{Status: 410, Message: "m"}: {400, "DidDeactivated"},
		&identity.PLCError{Status: 429, Message: "m"}: {502, ""}, &identity.PLCError{Status: 500, Message: "m"}: {502, ""}, &identity.PLCError{Status: 302, Message: "m"}: {502, ""},
		&identity.HandleError{Handle: "a.example.com", DNS: identity.ErrNotFound, HTTPS: identity.ErrUnavailable}: {502, ""},
		&identity.HandleError{Handle: "a.example.com", DNS: identity.ErrNotFound, HTTPS: identity.ErrNotFound}:    {400, "DidNotFound"},
	} {
		operation := errors.Is(err, identity.ErrOperation) || errors.Is(err, identity.ErrSignature) || errors.Is(err, identity.ErrOrder) ||
			errors.Is(err, identity.ErrLateRecovery) || errors.Is(err, identity.ErrGenesis)
		for _, wrapped := range []error{err, fmt.Errorf("%w: "+secret, err), errors.Join(errors.New(secret), err)} {
			got, ok := atproto.IdentityError(wrapped).(*xrpc.Error)
			if !ok || got.Status != want.status || got.Name != want.name || got.Message == "" {
				t.Errorf("%v: %v", wrapped, atproto.IdentityError(wrapped))
			} else if !operation && strings.Contains(got.Message, secret) {
				t.Errorf("%v: %s", wrapped, got.Message)
			}
		}
	}
	if got := atproto.IdentityError(errStore); got != errStore {
		t.Error(got)
	}
	if got := atproto.IdentityError(nil); got != nil {
		t.Error(got)
	}
}

// failing is a directory of accounts whose every answer is an error of its own.
type failing struct {
	accounts
	err error
}

func (f failing) Document(context.Context, syntax.DID) ([]byte, syntax.Handle, error) {
	return nil, "", f.err
}

func (f failing) ListAccounts(context.Context, time.Time, syntax.DID, int) ([]atproto.Account, error) {
	return nil, f.err
}

// TestErrorsOfTheEmbedder reach no client in words.
func TestErrorsOfTheEmbedder(t *testing.T) {
	secret := "SELECT password FROM accounts"
	for _, err := range []error{errors.New(secret), fmt.Errorf("%s: %w", secret, context.DeadlineExceeded)} {
		w := newWorld(t)
		n := &network{asked: map[syntax.DID]int{}}
		w.svc.Resolver = &identity.Resolver{PLC: n, DNS: n, HTTP: &http.Client{Transport: unreachable{}}}
		w.svc.Accounts = failing{w.accounts, err}
		w.svc.Unknown = func(context.Context, syntax.NSID, syntax.RecordKey, any) error { return err }
		for what, a := range map[string]answer{
			"describeRepo":    w.call("", "com.atproto.repo.describeRepo", q("repo", alice), nil),
			"resolveIdentity": w.call("", "com.atproto.identity.resolveIdentity", q("identifier", alice), nil),
			"listRepos":       w.call("", "com.atproto.sync.listRepos", nil, nil),
			"resolveHandle":   w.call("", "com.atproto.identity.resolveHandle", q("handle", "broken.test"), nil),
			"createRecord":    w.call(alice, "com.atproto.repo.createRecord", nil, obj("repo", alice, "collection", note, "record", obj())),
		} {
			if a.want(t, 500, "InternalServerError"); strings.Contains(string(a.body), "SELECT") || strings.Contains(string(a.body), "fire") {
				t.Errorf("%s: %s", what, a.body)
			}
		}
	}
	// What is wrong with the identity is said as ever.
	for _, err := range []error{identity.ErrUnavailable, identity.ErrTombstoned, fmt.Errorf("%w: %s", identity.ErrDocument, secret), atproto.ErrNoAccount} {
		w := newWorld(t)
		w.svc.Accounts = failing{w.accounts, err}
		a := w.call("", "com.atproto.repo.describeRepo", q("repo", alice), nil).want(t, 400, "InvalidRequest")
		if a.says(t, "Could not resolve DID"); strings.Contains(string(a.body), "SELECT") {
			t.Errorf("%s", a.body)
		}
	}
}

func TestIdentities(t *testing.T) {
	w := newWorld(t)
	n := &network{
		docs: map[syntax.DID]*identity.Document{
			nobody: document(nobody, "far.example.com"), dora: document(dora, "dora.example.com"), alice: document(alice, "alice.test"),
		},
		names: map[string]string{
			"_atproto.far.example.com.": nobody, "_atproto.liar.example.com.": nobody, "_atproto.dead.example.com.": tom,
			"_atproto.gone.example.com.": "did:plc:goneaaaaaaaaaaaaaaaaaaaa",
		},
		asked: map[syntax.DID]int{},
	}
	w.svc.Resolver = &identity.Resolver{PLC: n, DNS: n, HTTP: &http.Client{Transport: unreachable{}}}
	type info struct {
		DID, Handle string
		DIDDoc      struct{ ID string }
	}
	resolve := func(id string) answer {
		return w.call("", "com.atproto.identity.resolveIdentity", q("identifier", id), nil)
	}
	far := info{DID: nobody, Handle: "far.example.com", DIDDoc: struct{ ID string }{nobody}}
	own := info{DID: alice, Handle: "alice.test", DIDDoc: struct{ ID string }{alice}}
	unproven := func(i info) info { i.Handle = "handle.invalid"; return i }
	for id, want := range map[string]info{
		nobody: far, "far.example.com": far, "FAR.example.com": far,
		"liar.example.com": unproven(far), // points at it; the document does not point back
		alice:              own,
		"alice.test":       own, // although no DNS knows it
		dora:               unproven(info{DID: dora, DIDDoc: struct{ ID string }{dora}}),
	} {
		if got := into[info](t, resolve(id).want(t, 200, "")); got != want {
			t.Errorf("%s: %+v", id, got)
		}
	}
	resolve("bob.test").want(t, 502, "UpstreamFailure") // one of ours, whose document cannot be had
	for id, name := range map[string]string{
		"none.example.com": "HandleNotFound", "dead.example.com": "DidDeactivated", "gone.example.com": "DidNotFound",
		tom: "DidDeactivated", "did:plc:goneaaaaaaaaaaaaaaaaaaaa": "DidNotFound", "did:key:zQ3sh": "InvalidRequest", sue: "InvalidRequest",
		"nonsense": "InvalidRequest", "did:web:localhost": "InvalidRequest",
	} {
		resolve(id).want(t, 400, name)
	}
	resolve("broken.test").want(t, 500, "InternalServerError")

	did := func(did string) answer {
		return w.call("", "com.atproto.identity.resolveDid", q("did", did), nil)
	}
	if got := into[info](t, did(nobody).want(t, 200, "")); got.DIDDoc.ID != nobody {
		t.Errorf("%+v", got)
	}
	did(tom).want(t, 400, "DidDeactivated")
	did("did:plc:goneaaaaaaaaaaaaaaaaaaaa").want(t, 400, "DidNotFound")
	did("did:example:x").want(t, 400, "InvalidRequest")
	did("x").want(t, 400, "InvalidRequest")
	did(sue).want(t, 400, "InvalidRequest")
	did(ghost).want(t, 502, "UpstreamFailure")

	// What is cached is looked up again for users that ask.
	refresh := func(as, id string) answer {
		return w.call(as, "com.atproto.identity.refreshIdentity", nil, obj("identifier", id))
	}
	asked := n.asked[nobody]
	refresh("", nobody).want(t, 401, "AuthMissing")
	if n.asked[nobody] != asked {
		t.Error("looked up for nobody")
	}
	if got := into[info](t, refresh(alice, nobody).want(t, 200, "")); got != far || n.asked[nobody] != asked+1 {
		t.Errorf("%+v, asked %d times", got, n.asked[nobody])
	}
	refresh(alice, tom).want(t, 400, "DidDeactivated")

	w.svc.Resolver, w.srv = nil, nil // the methods are left out
	did(nobody).want(t, 501, "MethodNotImplemented")
}

// twoMethods is a Directory and nothing more.
type twoMethods struct{ atproto.Directory }

// TestDirectoryOfTwoMethods: what a Directory does not know, the network does.
func TestDirectoryOfTwoMethods(t *testing.T) {
	w := newWorld(t)
	n := &network{asked: map[syntax.DID]int{}, docs: map[syntax.DID]*identity.Document{alice: document(alice, "alice.test"), bob: document(bob, "other.example.com")},
		names: map[string]string{"_atproto.far.example.com.": nobody, "_atproto.down.example.com.": "!"}}
	w.svc.Resolver = &identity.Resolver{PLC: n, DNS: n, HTTP: &http.Client{Transport: unreachable{}}}
	w.svc.Accounts = twoMethods{w.accounts}
	type described struct {
		DIDDoc          struct{ ID string }
		HandleIsCorrect bool
	}
	for did, want := range map[string]bool{alice: true, bob: false} {
		got := into[described](t, w.call("", "com.atproto.repo.describeRepo", q("repo", did), nil).want(t, 200, ""))
		if got.DIDDoc.ID != did || got.HandleIsCorrect != want {
			t.Errorf("%s: %+v", did, got)
		}
	}
	delete(n.docs, alice)
	w.svc.Resolver.Purge(alice)
	w.call("", "com.atproto.repo.describeRepo", q("repo", alice), nil).want(t, 400, "InvalidRequest").says(t, "Could not resolve DID")
	resolve := func(handle string) answer {
		return w.call("", "com.atproto.identity.resolveHandle", q("handle", handle), nil)
	}
	for handle, did := range map[string]string{"alice.test": alice, "far.example.com": nobody} {
		if got := into[struct{ DID string }](t, resolve(handle).want(t, 200, "")); got.DID != did {
			t.Errorf("%s: %s", handle, got.DID)
		}
	}
	resolve("none.example.com").want(t, 400, "InvalidRequest").says(t, "Unable to resolve handle")
	resolve("down.example.com").want(t, 400, "InvalidRequest").says(t, "Unable to resolve handle")
}
