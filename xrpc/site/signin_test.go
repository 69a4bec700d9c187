package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// An account is signed in in a bounded number of browsers: the oldest sign-in makes room.
func TestSignInsAreBounded(t *testing.T) {
	cfg := testConfig()
	s := New(cfg)
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	const did = "did:web:alice.example.com"
	if _, err := s.accounts.Create(t.Context(), account.Account{DID: did, Handle: "alice.example.com"}, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a, err := s.accounts.Update(t.Context(), account.Trusted(did), func(a *account.Account, step *repo.Step) error {
		for i := range maxSignIns {
			x := signInRecord{Version: version, At: now.Add(time.Duration(i-maxSignIns) * time.Second), Expires: now.Add(time.Hour)}
			doc, err := json.Marshal(x)
			if err != nil {
				return err
			}
			step.Set(fmt.Sprint(devicePrefix, i), doc, x.Expires)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "https://pds.example.com/x", nil)
	c := s.Begin(shared, httptest.NewRecorder(), r, "")
	if err := c.Know(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is there already
		if err := s.Enter(c, credential.Proof{Account: a, At: now}, Stay{}); err != nil {
			t.Fatal(err)
		}
	}
	err = s.accounts.View(t.Context(), account.Trusted(did), func(_ account.Account, r storage.KVReader) error {
		if n, err := storedjson.Count(t.Context(), r, devicePrefix); n != maxSignIns || err != nil {
			t.Errorf("%d sign-ins, %v", n, err)
		}
		for id, there := range map[string]bool{"0": false, "1": true, Hash(c.Browser.Name): true} {
			if _, _, err := readSignIn(t.Context(), r, id); (err == nil) != there {
				t.Errorf("%s: %v", id, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A sign-in that a clock noted that was ahead is good, but nobody knows how long ago it was: what
// asks for a fresh one asks for another one.
func TestSignInFromTheFuture(t *testing.T) {
	cfg := testConfig()
	now := time.Now().Truncate(time.Second)
	cfg.Now = func() time.Time { return now }
	s := New(cfg)
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	const did = "did:web:alice.example.com"
	a := account.Account{DID: did, Handle: "alice.example.com"}
	if _, err := s.accounts.Create(t.Context(), a, key, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	c := s.Begin(shared, w, httptest.NewRequest("POST", "https://pds.example.com/x", nil), "")
	if err := c.Know(); err != nil {
		t.Fatal(err)
	}
	if err := s.Enter(c, credential.Proof{Account: a, At: now}, Stay{}); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "https://pds.example.com/x", nil)
	cookies := w.Result().Cookies()
	r.AddCookie(cookies[len(cookies)-1])
	b, err := s.Browser(httptest.NewRecorder(), r)
	if err != nil {
		t.Fatal(err)
	}
	signedIn := now
	for after, want := range map[time.Duration]error{
		0: nil, 10 * time.Minute: nil, 10*time.Minute + time.Second: ErrStale, -time.Minute: nil, -time.Minute - time.Second: ErrStale, -time.Hour: ErrStale,
	} {
		now = signedIn.Add(after)
		if _, err := s.accounts.Authenticate(t.Context(), s.Caller(b, did, As{Fresh: 10 * time.Minute})); !errors.Is(err, want) {
			t.Errorf("%s later: %v, want %v", after, err, want)
		}
		if _, err := s.accounts.Authenticate(t.Context(), s.Caller(b, did, As{})); err != nil {
			t.Errorf("%s later, not fresh: %v", after, err)
		}
	}
}
