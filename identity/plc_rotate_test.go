package identity_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// lossy is a way to a directory on which requests and answers are lost.
type lossy struct {
	// before and after are asked about each POST; true loses the request, or its answer.
	before, after func() bool
	posts         int
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost {
		return http.DefaultTransport.RoundTrip(r)
	}
	l.posts++
	if l.before != nil && l.before() {
		return nil, errors.New("the request is lost")
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.after != nil && l.after() {
		resp.Body.Close()
		return nil, errors.New("the answer is lost")
	}
	return resp, err
}

func moveTo(url string) func(*identity.PLCOperation) error {
	return func(op *identity.PLCOperation) error {
		op.SetPDS(url)
		return nil
	}
}

func state(t *testing.T, c *identity.PLCClient, did syntax.DID) *identity.PLCData {
	t.Helper()
	d, err := c.Data(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func operations(t *testing.T, c *identity.PLCClient, did syntax.DID) int {
	t.Helper()
	list, err := c.Log(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestRotate(t *testing.T) {
	c, did, _, rotation := directory(t)
	signing, own := newKey(t), newKey(t)
	changed, err := identity.Rotate(ctx, c, did, func(op *identity.PLCOperation) error {
		op.SetHandle("bob.example.com")
		op.SetPDS("https://new.example.com")
		op.SetSigningKey(signing.PublicKey())
		op.RotationKeys = append([]string{own.PublicKey().DIDKey()}, op.RotationKeys...)
		return nil
	}, newKey(t), rotation)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	got := state(t, c, did)
	want := &identity.PLCData{
		DID: did, RotationKeys: []string{own.PublicKey().DIDKey(), rotation.PublicKey().DIDKey()},
		AlsoKnownAs:         []string{"at://bob.example.com"},
		VerificationMethods: map[string]string{identity.SigningKeyID: signing.PublicKey().DIDKey()},
		Services:            map[string]identity.PLCService{identity.PDSID: {Type: identity.PDSType, Endpoint: "https://new.example.com"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	// The key with most authority signs, in whatever order they are given.
	if _, err := identity.Rotate(ctx, c, did, moveTo("https://third.example.com"), rotation, own); err != nil {
		t.Fatal(err)
	}
	last, err := c.Last(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	if by, err := last.Verify(got.RotationKeys); err != nil || by != 0 {
		t.Errorf("signed by key %d, %v", by, err)
	}
	// A key that was rotated out signs nothing any more.
	if _, err := identity.Rotate(ctx, c, did, func(op *identity.PLCOperation) error {
		if !op.ReplaceRotationKeys(newKey(t).PublicKey(), rotation.PublicKey()) {
			t.Error("the old key is not there")
		}
		return nil
	}, own); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Rotate(ctx, c, did, moveTo("https://evil.example.com"), rotation); !errors.Is(err, identity.ErrRotationKey) {
		t.Errorf("with a key that was rotated out: %v", err)
	}
	if n := operations(t, c, did); n != 4 {
		t.Errorf("%d operations", n)
	}
}

// A change that changes nothing is not sent, and needs no key.
func TestRotateNothing(t *testing.T) {
	c, did, _, _ := directory(t)
	changed, err := identity.Rotate(ctx, c, did, moveTo("https://pds.example.com"))
	if changed || err != nil || operations(t, c, did) != 1 {
		t.Errorf("%v %v", changed, err)
	}
}

func TestRotateRefuses(t *testing.T) {
	c, did, genesis, rotation := directory(t)
	mine := errors.New("mine")
	for name, x := range map[string]struct {
		change func(*identity.PLCOperation) error
		keys   []crypto.Signer
		want   error
	}{
		"an error of the change": {func(*identity.PLCOperation) error { return mine }, []crypto.Signer{rotation}, mine},
		"no key":                 {moveTo("https://x.example.com"), nil, identity.ErrRotationKey},
		"a nil key":              {moveTo("https://x.example.com"), []crypto.Signer{nil}, identity.ErrRotationKey},
		"another's key":          {moveTo("https://x.example.com"), []crypto.Signer{newKey(t)}, identity.ErrRotationKey},
		"a server that is none":  {moveTo("ftp://x"), []crypto.Signer{rotation}, identity.ErrOperation},
		"no rotation keys": {func(op *identity.PLCOperation) error {
			op.RotationKeys = nil
			return nil
		}, []crypto.Signer{rotation}, identity.ErrOperation},
		"six rotation keys": {func(op *identity.PLCOperation) error {
			for range 5 {
				op.RotationKeys = append(op.RotationKeys, newKey(t).PublicKey().DIDKey())
			}
			return nil
		}, []crypto.Signer{rotation}, identity.ErrOperation},
		"a tombstone": {func(op *identity.PLCOperation) error {
			*op = identity.PLCOperation{Type: identity.PLCTombstone, Prev: op.Prev}
			return nil
		}, []crypto.Signer{rotation}, identity.ErrOperation},
		"another place in the log": {func(op *identity.PLCOperation) error {
			op.Prev = ""
			return nil
		}, []crypto.Signer{rotation}, identity.ErrOperation},
	} {
		if changed, err := identity.Rotate(ctx, c, did, x.change, x.keys...); changed || !errors.Is(err, x.want) {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
	}
	if n := operations(t, c, did); n != 1 {
		t.Errorf("%d operations", n)
	}
	tomb, err := genesis.Tombstone()
	if err == nil {
		err = tomb.Sign(ctx, rotation)
	}
	if err == nil {
		err = c.Submit(ctx, did, tomb)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Rotate(ctx, c, did, moveTo("https://x.example.com"), rotation); !errors.Is(err, identity.ErrTombstoned) {
		t.Errorf("a DID that is gone: %v", err)
	}
	if _, err := identity.Rotate(ctx, c, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", moveTo("https://x.example.com"), rotation); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("a DID that is not there: %v", err)
	}
}

// An answer that is lost leaves nothing open, and nothing is done twice.
func TestRotateLostAnswers(t *testing.T) {
	always, never := func() bool { return true }, func() bool { return false }
	for name, x := range map[string]struct {
		before, after func() bool
		unavailable   bool
	}{
		"the answer":  {never, always, false},
		"the request": {always, never, true},
	} {
		c, did, _, rotation := directory(t)
		way := &lossy{before: x.before, after: x.after}
		c.HTTP = &http.Client{Transport: way}
		changed, err := identity.Rotate(ctx, c, did, moveTo("https://new.example.com"), rotation)
		if changed == x.unavailable || errors.Is(err, identity.ErrUnavailable) != x.unavailable {
			t.Errorf("%s is lost: %v, %v", name, changed, err)
		}
		way.before, way.after = nil, nil
		again, err := identity.Rotate(ctx, c, did, moveTo("https://new.example.com"), rotation)
		if again != x.unavailable || err != nil || operations(t, c, did) != 2 {
			t.Errorf("%s was lost, again: %v, %v", name, again, err)
		}
	}
}

// Nothing can be asked after the answer was lost: then it is not known.
func TestRotateNotKnown(t *testing.T) {
	c, did, _, rotation := directory(t)
	good := c.URL
	c.HTTP = &http.Client{Transport: &lossy{after: func() bool {
		c.URL = "http://127.0.0.1:1"
		return true
	}}}
	if changed, err := identity.Rotate(ctx, c, did, moveTo("https://new.example.com"), rotation); changed || !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("%v, %v", changed, err)
	}
	c.URL, c.HTTP = good, nil
	if changed, err := identity.Rotate(ctx, c, did, moveTo("https://new.example.com"), rotation); changed || err != nil || operations(t, c, did) != 2 {
		t.Errorf("again: %v, %v", changed, err)
	}
}

// An operation that is sent again is a success, and there once.
func TestSubmitAgain(t *testing.T) {
	c, did, genesis, rotation := directory(t)
	op, err := identity.SignRotation(ctx, c, did, moveTo("https://new.example.com"), rotation)
	if err != nil {
		t.Fatal(err)
	}
	if n := operations(t, c, did); n != 1 {
		t.Errorf("SignRotation has sent it: %d operations", n)
	}
	for range 2 {
		if err := identity.SubmitPLC(ctx, c, did, op); err != nil {
			t.Error(err)
		}
	}
	if err := identity.SubmitPLC(ctx, c, did, genesis); !errors.Is(err, identity.ErrOperation) {
		t.Errorf("an operation that is not the last one: %v", err)
	}
	if err := identity.SubmitPLC(ctx, c, did, nil); !errors.Is(err, identity.ErrOperation) {
		t.Errorf("no operation: %v", err)
	}
	if n := operations(t, c, did); n != 2 {
		t.Errorf("%d operations", n)
	}
}

// Somebody else changes the DID at the same moment: both changes are made.
func TestRotateRace(t *testing.T) {
	c, did, _, rotation := directory(t)
	other := &identity.PLCClient{URL: c.URL}
	raced := 0
	c.HTTP = &http.Client{Transport: &lossy{before: func() bool {
		if raced++; raced > 2 {
			return false
		}
		change := func(op *identity.PLCOperation) error {
			op.SetHandle(syntax.Handle(fmt.Sprintf("other%d.example.com", raced)))
			return nil
		}
		if _, err := identity.Rotate(ctx, other, did, change, rotation); err != nil {
			t.Error(err)
		}
		return false
	}}}
	calls := 0
	changed, err := identity.Rotate(ctx, c, did, func(op *identity.PLCOperation) error {
		calls++
		op.SetPDS("https://new.example.com")
		return nil
	}, rotation)
	if !changed || err != nil || calls != 3 {
		t.Errorf("%v, %v, after %d tries", changed, err, calls)
	}
	got := state(t, other, did)
	if got.Services[identity.PDSID].Endpoint != "https://new.example.com" || got.AlsoKnownAs[0] != "at://other2.example.com" {
		t.Errorf("%+v", got)
	}
	// It does not try for ever.
	raced = -100
	if changed, err := identity.Rotate(ctx, c, did, moveTo("https://third.example.com"), rotation); changed || !errors.Is(err, identity.ErrOperation) {
		t.Errorf("%v, %v", changed, err)
	}
}

// A directory that is to be checked cannot make Rotate sign on top of an operation that it forged.
func TestRotateOfAForgedLog(t *testing.T) {
	_, did, genesis, rotation := directory(t)
	forged, err := genesis.Next()
	if err != nil {
		t.Fatal(err)
	}
	evil := newKey(t)
	forged.RotationKeys = append([]string{evil.PublicKey().DIDKey()}, forged.RotationKeys...)
	if err := forged.Sign(ctx, evil); err != nil {
		t.Fatal(err)
	}
	entry := func(op *identity.PLCOperation, at string) string {
		cid, err := op.CID()
		if err != nil {
			t.Fatal(err)
		}
		b, err := op.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"did":%q,"operation":%s,"cid":%q,"nullified":false,"createdAt":%q}`, did, b, cid, at)
	}
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/log/audit") {
			fmt.Fprintf(w, "[%s,%s]", entry(genesis, "2026-01-01T00:00:00.000Z"), entry(forged, "2026-01-02T00:00:00.000Z"))
			return
		}
		b, _ := forged.MarshalJSON()
		w.Write(b)
	}))
	defer liar.Close()
	c := &identity.PLCClient{URL: liar.URL, Verify: true}
	if _, err := identity.SignRotation(ctx, c, did, moveTo("https://new.example.com"), rotation); !errors.Is(err, identity.ErrSignature) {
		t.Errorf("a forged log: %v", err)
	}
}

func TestReplaceRotationKeys(t *testing.T) {
	var keys []*crypto.PublicKey
	var names []string
	for range 5 {
		key := newKey(t).PublicKey()
		keys, names = append(keys, key), append(names, key.DIDKey())
	}
	for _, x := range []struct{ have, want []int }{
		{[]int{0, 1, 2}, []int{0, 4, 2}},
		{[]int{1, 0, 3}, []int{4, 0}},
		{[]int{4, 0, 1}, []int{4, 0}},
		{[]int{0, 2}, nil},
		{nil, nil},
	} {
		op := &identity.PLCOperation{}
		for _, i := range x.have {
			op.RotationKeys = append(op.RotationKeys, names[i])
		}
		before := slices.Clone(op.RotationKeys)
		found := op.ReplaceRotationKeys(keys[4], keys[1], keys[3])
		want := before
		if x.want != nil {
			want = nil
			for _, i := range x.want {
				want = append(want, names[i])
			}
		}
		if found != (x.want != nil) || !slices.Equal(op.RotationKeys, want) {
			t.Errorf("%v: %v, %v", x.have, found, op.RotationKeys)
		}
	}
}

// An account moves to another server, whose signing key takes over. The user's rotation key signs.
func ExampleRotate() {
	ctx := context.Background()
	directory, err := plctest.New(plctest.Config{})
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(directory)
	defer server.Close()
	plc := &identity.PLCClient{URL: server.URL} // the zero value is the public directory
	var keys []*crypto.PrivateKey
	for range 3 {
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			panic(err)
		}
		keys = append(keys, key)
	}
	rotation, signing, newSigning := keys[0], keys[1], keys[2]
	genesis := identity.NewPLCOperation("alice.example.com", "https://old.example.com", signing.PublicKey(), rotation.PublicKey())
	if err := genesis.Sign(ctx, rotation); err != nil {
		panic(err)
	}
	did, err := genesis.DID()
	if err != nil {
		panic(err)
	}
	if err := plc.Submit(ctx, did, genesis); err != nil {
		panic(err)
	}

	move := func(op *identity.PLCOperation) error {
		op.SetPDS("https://new.example.com")
		op.SetSigningKey(newSigning.PublicKey())
		return nil
	}
	changed, err := identity.Rotate(ctx, plc, did, move, rotation)
	fmt.Println(changed, err)
	changed, err = identity.Rotate(ctx, plc, did, move, rotation) // nothing is left to do
	fmt.Println(changed, err)
	doc, err := plc.Resolve(ctx, did)
	if err != nil {
		panic(err)
	}
	fmt.Println(doc.PDS())
	// Output:
	// true <nil>
	// false <nil>
	// https://new.example.com true
}
