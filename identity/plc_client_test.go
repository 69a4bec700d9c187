package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

var ctx = context.Background()

func newKey(t testing.TB) *crypto.PrivateKey {
	t.Helper()
	k, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// directory is a directory on loopback with one account, and the account's keys.
func directory(t testing.TB) (c *identity.PLCClient, did syntax.DID, genesis *identity.PLCOperation, rotation *crypto.PrivateKey) {
	t.Helper()
	srv := testplc.Start(t, plctest.Config{})
	rotation = newKey(t)
	genesis = identity.NewPLCOperation("alice.example.com", "https://pds.example.com", newKey(t).PublicKey(), rotation.PublicKey())
	if err := genesis.Sign(ctx, rotation); err != nil {
		t.Fatal(err)
	}
	var err error
	if did, err = genesis.DID(); err != nil {
		t.Fatal(err)
	}
	c = &identity.PLCClient{URL: srv.URL + "/"}
	if err := c.Submit(ctx, did, genesis); err != nil {
		t.Fatal(err)
	}
	return c, did, genesis, rotation
}

func TestPLCClient(t *testing.T) {
	c, did, genesis, rotation := directory(t)
	cid, err := genesis.CID()
	if err != nil {
		t.Fatal(err)
	}
	for _, verify := range []bool{false, true} {
		c.Verify = verify
		doc, err := c.Resolve(ctx, did)
		if err != nil {
			t.Fatal(err)
		}
		if h, _ := doc.Handle(); h != "alice.example.com" || doc.ID != did {
			t.Errorf("%+v", doc)
		}
		data, err := c.Data(ctx, did)
		if err != nil || !slices.Equal(data.RotationKeys, []string{rotation.PublicKey().DIDKey()}) {
			t.Errorf("%+v, %v", data, err)
		}
		if _, err := c.Resolve(ctx, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"); !errors.Is(err, identity.ErrNotFound) {
			t.Error(err)
		}
	}
	if last, err := c.Last(ctx, did); err != nil || last.Sig != genesis.Sig {
		t.Error(last, err)
	}
	if log, err := c.Log(ctx, did); err != nil || len(log) != 1 || log[0].Sig != genesis.Sig {
		t.Error(log, err)
	}
	if log, err := c.AuditLog(ctx, did); err != nil || len(log) != 1 || log[0].CID != cid || log[0].DID != did || time.Since(log[0].CreatedAt) > time.Hour {
		t.Error(log, err)
	}

	evil, err := genesis.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Submit(ctx, did, evil); !errors.Is(err, identity.ErrOperation) {
		t.Errorf("unsigned: %v", err)
	}
	if err := evil.Sign(ctx, newKey(t)); err != nil {
		t.Fatal(err)
	}
	var refused *identity.PLCError
	if err := c.Submit(ctx, did, evil); !errors.Is(err, identity.ErrOperation) || !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("signed by a stranger: %v", err)
	}

	dead, err := genesis.Tombstone()
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Sign(ctx, rotation); err != nil {
		t.Fatal(err)
	}
	if err := c.Submit(ctx, did, dead); err != nil {
		t.Fatal(err)
	}
	for _, verify := range []bool{false, true} {
		c.Verify = verify
		if _, err := c.Resolve(ctx, did); !errors.Is(err, identity.ErrTombstoned) || errors.Is(err, identity.ErrNotFound) {
			t.Error(err)
		}
	}
	if last, err := c.Last(ctx, did); err != nil || last.Type != identity.PLCTombstone {
		t.Error(last, err)
	}
}

// What a hostile or broken directory may answer.
func TestPLCClientDistrusts(t *testing.T) {
	_, did, genesis, _ := directory(t)
	other, otherDID, otherGenesis, _ := directory(t)
	audit, err := other.AuditLog(ctx, otherDID)
	if err != nil {
		t.Fatal(err)
	}
	otherDoc, err := otherGenesis.Data(otherDID)
	if err != nil {
		t.Fatal(err)
	}
	asJSON := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	forged, err := genesis.Data(did)
	if err != nil {
		t.Fatal(err)
	}
	forged.AlsoKnownAs = []string{"at://evil.example.com"}
	renamed := slices.Clone(audit)
	renamed[0].DID = did
	for name, tc := range map[string]struct {
		status int
		body   string
		verify bool
		want   error
	}{
		"document of another DID":           {200, asJSON(otherDoc.Document()), false, identity.ErrMismatch},
		"not JSON":                          {200, "<!doctype html>", false, identity.ErrDocument},
		"huge answer":                       {200, strings.Repeat(" ", 1<<20), false, identity.ErrTooLarge},
		"huge error":                        {500, strings.Repeat(" ", 1<<20), false, identity.ErrTooLarge},
		"tombstone with another status":     {404, `{"message":"DID not available: x"}`, false, identity.ErrTombstoned},
		"not found without a message":       {404, ``, false, identity.ErrNotFound},
		"server error":                      {503, `{"message":"down"}`, false, identity.ErrUnavailable},
		"rate limit":                        {429, ``, false, identity.ErrUnavailable},
		"redirect":                          {302, ``, false, identity.ErrUnavailable},
		"verified: forged document":         {200, asJSON(forged.Document()), true, identity.ErrDocument},
		"verified: empty log":               {200, `[]`, true, identity.ErrLog},
		"verified: log of another DID":      {200, asJSON(audit), true, identity.ErrLog},
		"verified: another log, relabelled": {200, asJSON(renamed), true, identity.ErrGenesis},
		"verified: null entries":            {200, `[null]`, true, identity.ErrLog},
		"an id in two cases":                {200, strings.Replace(asJSON(otherDoc.Document()), "{", `{"ID":"`+string(did)+`",`, 1), false, identity.ErrMismatch},
		"an id twice":                       {200, strings.Replace(asJSON(otherDoc.Document()), "{", `{"id":"`+string(did)+`",`, 1), false, identity.ErrDocument},
		"verified: a member twice":          {200, strings.Replace(asJSON(audit), "{", `{"did":"`+string(did)+`",`, 1), true, identity.ErrDocument},
		"verified: a member in two cases":   {200, strings.Replace(asJSON(audit), "{", `{"DID":"`+string(did)+`",`, 1), true, identity.ErrLog},
		"an error's message twice":          {404, `{"message":"DID not available: x","message":"y"}`, false, identity.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tc.status == 302 {
					w.Header().Set("Location", "/"+string(did)+"?again")
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer srv.Close()
			c := &identity.PLCClient{URL: srv.URL, Verify: tc.verify}
			if doc, err := c.Resolve(ctx, did); !errors.Is(err, tc.want) {
				t.Errorf("%v, %v", doc, err)
			}
		})
	}
	for _, bad := range []syntax.DID{"", "did:plc:", "did:web:a.example.com", "did:plc:../../../../../../x", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaA", did + "/data"} {
		if _, err := (&identity.PLCClient{}).Resolve(ctx, bad); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Resolving with a directory and DNS of one's own, as tests do.
func ExampleResolver_Lookup() {
	dir, err := plctest.New(plctest.Config{})
	if err != nil {
		panic(err)
	}
	srv := httptest.NewServer(dir)
	defer srv.Close()
	plc := &identity.PLCClient{URL: srv.URL}

	rotation, _ := crypto.GenerateKey(crypto.P256)
	op := identity.NewPLCOperation("alice.example.com", "https://pds.example.com", rotation.PublicKey(), rotation.PublicKey())
	if err := op.Sign(context.Background(), rotation); err != nil {
		panic(err)
	}
	did, _ := op.DID()
	if err := plc.Submit(context.Background(), did, op); err != nil {
		panic(err)
	}

	resolver := &identity.Resolver{
		PLC:  plc,
		DNS:  txt{"_atproto.alice.example.com.": "did=" + string(did)},
		HTTP: &http.Client{Transport: offline{}},
	}
	id, err := resolver.Lookup(context.Background(), syntax.AtIdentifier(did))
	if err != nil {
		panic(err)
	}
	pds, _ := id.Document.PDS()
	fmt.Println(id.Handle, pds, id.DID == did)
	// Output: alice.example.com https://pds.example.com true
}

type txt map[string]string

func (t txt) LookupTXT(_ context.Context, name string) ([]string, error) {
	return []string{t[name]}, nil
}

type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("offline") }

func ExampleDocument_SigningKey() {
	doc, err := identity.ParseDocument([]byte(`{
		"id": "did:web:alice.example.com",
		"alsoKnownAs": ["at://alice.example.com"],
		"verificationMethod": [{
			"id": "did:web:alice.example.com#atproto",
			"type": "Multikey",
			"controller": "did:web:alice.example.com",
			"publicKeyMultibase": "zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"
		}]
	}`))
	if err != nil {
		panic(err)
	}
	key, err := doc.SigningKey()
	if err != nil {
		panic(err)
	}
	fmt.Println(key.Algorithm(), key)
	// Output: ES256K did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF
}

// A directory that answers null, or a list of it, gives an error, and no operation that is nil.
func TestPLCClientOfADirectoryThatAnswersNothing(t *testing.T) {
	const did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	for _, text := range []string{"null", "[]", "[null]", "[null,null]", " [ null ] ", "{}", "[{}]", `""`, "0", ""} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }))
		c := &identity.PLCClient{URL: srv.URL}
		if list, err := c.Log(t.Context(), did); !errors.Is(err, identity.ErrDocument) || list != nil {
			t.Errorf("log %q: %v %v", text, list, err)
		}
		if op, err := c.Last(t.Context(), did); !errors.Is(err, identity.ErrDocument) || op != nil {
			t.Errorf("last %q: %v %v", text, op, err)
		}
		if _, err := c.Data(t.Context(), did); !errors.Is(err, identity.ErrDocument) && !errors.Is(err, identity.ErrMismatch) {
			t.Errorf("data %q: %v", text, err)
		}
		c.Verify = true
		if _, err := c.Resolve(t.Context(), did); !errors.Is(err, identity.ErrDocument) && !errors.Is(err, identity.ErrLog) {
			t.Errorf("document %q: %v", text, err)
		}
		srv.Close()
	}
}

// Operations that are none, or of no known type, have no state, are not signed and not sent.
func TestOperationsThatAreNone(t *testing.T) {
	const did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	for _, op := range []*identity.PLCOperation{{}, {Type: "poem"}, {Type: identity.PLCCreate}} {
		if d, err := op.Data(did); !errors.Is(err, identity.ErrOperation) {
			t.Errorf("%q has the state %+v, %v", op.Type, d, err)
		}
		if err := op.Sign(t.Context(), newKey(t)); !errors.Is(err, identity.ErrOperation) {
			t.Errorf("%q was signed: %v", op.Type, err)
		}
	}
	if err := new(identity.PLCClient).Submit(t.Context(), did, nil); !errors.Is(err, identity.ErrOperation) {
		t.Errorf("nil was sent: %v", err)
	}
	if err := (&identity.PLCOperation{Type: identity.PLCTombstone}).Sign(t.Context(), nil); !errors.Is(err, identity.ErrOperation) {
		t.Errorf("signed by nobody: %v", err)
	}
}
