package main_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// TestRotatePLCKey: the key that changes DIDs is exchanged in all of them, also if that is
// interrupted and the server runs on in between.
func TestRotatePLCKey(t *testing.T) {
	n := newNetwork(t)
	dir := filepath.Join(t.TempDir(), "data")
	env := "PDS_DID_PLC_URL=" + n.plc.URL
	cfg, err := config.Load(map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_DID_PLC_URL": n.plc.URL})
	if err != nil {
		t.Fatal(err)
	}
	key := func() *crypto.PrivateKey {
		secrets, err := cfg.Secrets()
		if err != nil {
			t.Fatal(err)
		}
		return secrets.PLCRotationKeys[0]
	}
	keys := func(did syntax.DID) []string {
		data, err := n.plc.Data(t.Context(), did)
		if err != nil {
			t.Fatal(err)
		}
		return data.RotationKeys
	}
	want := func(did syntax.DID, keys0 ...string) {
		t.Helper()
		if d := cmp.Diff(keys0, keys(did)); d != "" {
			t.Error(did, d)
		}
	}
	p := start(t, dir, env)
	o := newOperator(t, dir, p.port(), env)
	alice, bob, carol := p.register("alice"), p.register("bob"), p.register("carol")
	first := key()
	// Alice has a key of her own above the server's, and Carol has taken the server's away.
	own := n.key.PublicKey().DIDKey()
	for did, list := range map[syntax.DID][]string{alice.DID: {own, first.PublicKey().DIDKey()}, carol.DID: {own}} {
		last, err := n.plc.Last(t.Context(), did)
		if err != nil {
			t.Fatal(err)
		}
		op, err := last.Next()
		if err != nil {
			t.Fatal(err)
		}
		op.RotationKeys = list
		if err := op.Sign(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if err := n.plc.Submit(t.Context(), did, op); err != nil {
			t.Fatal(err)
		}
	}
	o.fails(1, "in use", "rotate-plc-key")
	newOperator(t, dir).fails(1, "part of this server", "rotate-plc-key")
	p.interrupt()

	// It has begun, and was interrupted.
	if err := cfg.AddPLCRotationKey(); err != nil {
		t.Fatal(err)
	}
	second := key()
	now := second.PublicKey().DIDKey()
	p = start(t, dir, p.port(), env)
	bob.call(t, "com.atproto.identity.updateHandle", map[string]any{"handle": "robert.test"}, nil)
	want(bob.DID, first.PublicKey().DIDKey())
	dave := p.register("dave")
	want(dave.DID, now)
	var out struct {
		Changed, Done int
		Without       []syntax.DID
	}
	if o.ok(&out, "rotate-plc-key"); out.Changed != 2 || out.Done != 1 || !cmp.Equal(out.Without, []syntax.DID{carol.DID}) {
		t.Errorf("%+v", out)
	}
	want(alice.DID, own, now)
	want(bob.DID, now)
	want(carol.DID, own)
	want(dave.DID, now)
	alice.call(t, "com.atproto.identity.updateHandle", map[string]any{"handle": "alicia.test"}, nil)
	p.interrupt()
	if text := readFile(t, filepath.Join(dir, "secrets.json")); strings.Contains(text, "oldPlcRotationKeys") {
		t.Error("the old key is still there")
	}

	// All at once.
	if o.ok(&out, "rotate-plc-key"); out.Changed != 3 || out.Done != 0 || len(out.Without) != 1 {
		t.Errorf("%+v", out)
	}
	third := key().PublicKey().DIDKey()
	want(alice.DID, own, third)
	want(dave.DID, third)
	p = start(t, dir, p.port(), env)
	bob.call(t, "com.atproto.identity.updateHandle", map[string]any{"handle": "bob.test"}, nil)
	p.interrupt()

	// A key of the environment's takes the place of that of the file.
	fourth, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	given := "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + hex.EncodeToString(fourth.Bytes())
	o = newOperator(t, dir, p.port(), env, given)
	if o.ok(&out, "rotate-plc-key"); out.Changed != 3 {
		t.Errorf("%+v", out)
	}
	want(bob.DID, fourth.PublicKey().DIDKey())
	o.fails(2, "put a new key in front", "rotate-plc-key")
	start(t, dir, p.port(), env, given)
	bob.call(t, "com.atproto.identity.updateHandle", map[string]any{"handle": "robert.test"}, nil)
}

// TestRotatePLCKeyOfDIDsThatAreGone: a DID that was tombstoned is left alone. One that the
// directory does not know stops no other, and keeps the old key.
func TestRotatePLCKeyOfDIDsThatAreGone(t *testing.T) {
	n := newNetwork(t)
	var hide atomic.Value // the DID that the directory pretends not to know
	hide.Store("")
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if did := hide.Load().(string); did != "" && strings.HasPrefix(r.URL.Path, "/"+did) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"message":"DID not registered: %s"}`, did)
			return
		}
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", strings.TrimPrefix(n.plc.URL, "http://")
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	}))
	defer front.Close()
	dir := filepath.Join(t.TempDir(), "data")
	env := "PDS_DID_PLC_URL=" + front.URL
	cfg, err := config.Load(map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_DID_PLC_URL": front.URL})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, env)
	o := newOperator(t, dir, p.port(), env)
	alice, bob, carol := p.register("alice"), p.register("bob"), p.register("carol")
	secrets, err := cfg.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	first := secrets.PLCRotationKeys[0]
	last, err := n.plc.Last(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	end, err := last.Tombstone()
	if err == nil {
		err = end.Sign(t.Context(), first)
	}
	if err == nil {
		err = n.plc.Submit(t.Context(), alice.DID, end)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.interrupt()
	hide.Store(string(bob.DID))
	o.fails(1, string(bob.DID), "rotate-plc-key")
	if data, err := n.plc.Data(t.Context(), carol.DID); err != nil || data.RotationKeys[0] == first.PublicKey().DIDKey() {
		t.Errorf("%+v %v", data, err)
	}
	if text := readFile(t, filepath.Join(dir, "secrets.json")); !strings.Contains(text, "oldPlcRotationKeys") {
		t.Error("the old key is gone")
	}
	hide.Store("")
	var out struct {
		Changed, Done int
		Without       []syntax.DID
	}
	if o.ok(&out, "rotate-plc-key"); out.Changed != 1 || out.Done != 1 || !cmp.Equal(out.Without, []syntax.DID{alice.DID}) {
		t.Errorf("%+v", out)
	}
}
