package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Whoever may have a password can log in with it, however many bytes its characters have.
func TestLongPasswordsLogIn(t *testing.T) {
	b := newBench(t, nil)
	for name, c := range map[string]struct {
		password string
		status   int
	}{
		"ascii": {strings.Repeat("x", 256), 200}, "emoji": {strings.Repeat("\U0001f511", 256), 200}, "kanji": {strings.Repeat("\u9375", 256), 200},
		"longer": {strings.Repeat("x", 257), 400}, "keys": {strings.Repeat("\U0001f511", 257), 400},
	} {
		a := b.send("POST", "com.atproto.server.createAccount", "", "", map[string]string{"handle": name + ".test", "email": name + "@example.com", "password": c.password}, nil)
		if a.Status != c.status {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		if c.status != http.StatusOK {
			continue
		}
		if _, a := b.login(name+".test", c.password); a.Status != http.StatusOK {
			t.Errorf("%s: login: %d %s", name, a.Status, a.Body)
		}
		if _, a := b.login(name+".test", c.password+"x"); a.Status != http.StatusUnauthorized {
			t.Errorf("%s: login with more: %d %s", name, a.Status, a.Body)
		}
	}
}

// stuck is a key-value store that cannot be written while it is full.
type stuck struct {
	storage.KV
	full atomic.Bool
}

var errFull = errors.New("the disk is full")

func (k *stuck) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if k.full.Load() {
		return errFull
	}
	return k.KV.Write(ctx, fn)
}

// filling is a store of repositories that cannot be written once a repository has been made, or
// before.
type filling struct {
	storage.Repos
	kv    *stuck
	early bool
}

func (f filling) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if f.early {
		return 0, errFull
	}
	f.kv.full.Store(true)
	return f.Repos.Apply(ctx, did, c)
}

// The DID of an account that is there is not tombstoned, though its names could not be confirmed.
// That of an account that could not be made is.
func TestAccountWhoseNamesAreNotConfirmed(t *testing.T) {
	b := newBench(t, nil)
	ctx := t.Context()
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, early := range []bool{false, true} {
		kv := &stuck{KV: b.store.KV}
		st := b.store
		st.KV, st.Repos = kv, filling{st.Repos, kv, early}
		common := b.sessions.Config()
		common.Key = []byte("a key for tests only")
		accounts := account.Open(repo.Config{Store: st, TempDir: t.TempDir(), Now: b.clock.Now}, box)
		common.Credentials = credential.New(credential.Config{Accounts: accounts, Now: b.clock.Now})
		cfg := b.cfg
		cfg.Sessions = session.New(common)
		s := New(cfg)
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			t.Fatal(err)
		}
		a := account.Account{Handle: "alice.test", Email: "alice@example.com", Created: b.clock.Now()}
		op, err := s.genesis(ctx, a.Handle, key, "")
		if err == nil {
			a.DID, err = op.DID()
		}
		var reserved *account.Reservation
		if err == nil {
			reserved, err = s.accounts.Reserve(ctx, a)
		}
		if err != nil {
			t.Fatal(err)
		}
		x, err := s.registerAccount(ctx, a, reserved, key, op, true)
		_, doc := b.plc.Data(ctx, a.DID)
		if early {
			if !errors.Is(err, errFull) || doc == nil {
				t.Errorf("no account could be made: %v; the document: %v", err, doc)
			}
			continue
		}
		if err != nil || doc != nil {
			t.Fatalf("the account is there: %v; its document: %v", err, doc)
		}
		if _, err := s.accounts.Authenticate(ctx, s.credentials.Caller(credential.Token{DID: a.DID, Session: x.Name()})); err != nil {
			t.Errorf("its session: %v", err)
		}
		kv.full.Store(false)
		if err := s.accounts.Repair(ctx); err != nil {
			t.Fatal(err)
		}
		if problems, err := s.accounts.Check(ctx); err != nil || len(problems) > 0 {
			t.Errorf("after a start: %v %v", problems, err)
		}
		if err := b.accounts.Delete(ctx, account.Trusted(a.DID)); err != nil {
			t.Fatal(err)
		}
	}
}

// An upload by a service is under way when the account's credentials change.
func TestServiceUploadUnderWay(t *testing.T) {
	b := newBench(t, nil)
	for what, change := range map[string]func(u tokens){
		"nothing": func(tokens) {},
		"reset": func(u tokens) {
			b.post("com.atproto.server.resetPassword", "", map[string]string{"token": b.resetToken(u.DID), "password": "another"}, nil)
		},
		"takedown": func(u tokens) { b.takedown(u.DID, true) },
		"pardon":   func(u tokens) { b.takedown(u.DID, true); b.takedown(u.DID, false) },
	} {
		u := b.register(what)
		var auth struct{ Token string }
		q := url.Values{"aud": {"did:web:localhost"}, "lxm": {"com.atproto.repo.uploadBlob"}, "exp": {fmt.Sprint(b.clock.Now().Add(30 * time.Minute).Unix())}}
		if a := b.send("GET", "com.atproto.server.getServiceAuth?"+q.Encode(), "Bearer "+u.AccessJWT, "", nil, &auth); a.Status != http.StatusOK {
			t.Fatal(a.Body)
		}
		// The body waits until the server has looked at the token.
		in, out := io.Pipe()
		go func() {
			out.Write([]byte("the beginning"))
			<-b.uploads
			b.clock.pass(time.Second) // tokens tell seconds
			change(u)
			out.Write([]byte("the end"))
			out.Close()
		}()
		r, err := http.NewRequest("POST", b.url+"/xrpc/com.atproto.repo.uploadBlob", in)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Authorization", "Bearer "+auth.Token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if ok := res.StatusCode == http.StatusOK; ok != (what == "nothing") {
			t.Errorf("%s: %d %s", what, res.StatusCode, text)
		}
	}
}

// A session ends, or its account is taken down, between the authentication of a write and the
// write, which takes what the authentication has seen as its precondition. That holds for one that
// changes nothing too.
func TestWriteAfterItsAuthentication(t *testing.T) {
	b := newBench(t, nil)
	for what, change := range map[string]func(u tokens){
		"nothing": func(tokens) {},
		"logout": func(u tokens) {
			b.send("POST", "com.atproto.server.deleteSession", "Bearer "+u.RefreshJWT, "", nil, nil)
		},
		"refresh": func(u tokens) { b.refresh(u) },
		"reset": func(u tokens) {
			b.post("com.atproto.server.resetPassword", "", map[string]string{"token": b.resetToken(u.DID), "password": "another"}, nil)
		},
		"takedown": func(u tokens) { b.takedown(u.DID, true) },
		"pardon":   func(u tokens) { b.takedown(u.DID, true); b.takedown(u.DID, false) },
		"sleep": func(u tokens) {
			b.post("com.atproto.server.deactivateAccount", u.AccessJWT, map[string]any{}, nil)
		},
		"rename": func(u tokens) {
			b.post("com.atproto.identity.updateHandle", u.AccessJWT, map[string]string{"handle": "other.test"}, nil)
		},
	} {
		u := b.register("by-" + what)
		note := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"one","record":{"$type":"com.example.note"}}`, u.DID)
		for i, method := range []string{"putRecord", "putRecord", "createRecord"} {
			body := note
			if i == 2 {
				body = strings.Replace(note, `"one"`, `"two"`, 1)
			}
			in, out := io.Pipe()
			go func() {
				out.Write([]byte(strings.Repeat(" ", 64<<10))) // more than is read ahead
				if i == 1 {
					change(u)
				}
				out.Write([]byte(body))
				out.Close()
			}()
			r, err := http.NewRequest("POST", b.url+"/xrpc/com.atproto.repo."+method, in)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+u.AccessJWT)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			want := i == 0 || what == "nothing" || what == "refresh" || what == "rename"
			if ok := res.StatusCode == http.StatusOK; ok != want {
				t.Errorf("%s, write %d: %d %s", what, i, res.StatusCode, text)
			}
		}
	}
}
