package provider

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// requestName is the name of a request, by the path that its page is at.
func requestName(t *testing.T, path string) string {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	name, ok := strings.CutPrefix(u.Query().Get("request_uri"), requestURIPrefix)
	if !ok {
		t.Fatalf("no request in %q", path)
	}
	return name
}

// 81: whoever fills in pages has time, up to an hour; whoever does nothing for five minutes has not.
func TestMatrix81Extend(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	pages := Requests{KV: w.store.KV, Now: w.now}
	extend := func(device, id string) {
		t.Helper()
		if err := pages.Extend(t.Context(), device, id); err != nil {
			t.Fatal(err)
		}
	}
	over := func(what, path string) {
		t.Helper()
		if q := w.browse(browser, path).back(t); q.Get("error") != codeAccessDenied {
			t.Errorf("%s: %v", what, q)
		}
	}
	path := a.push(nil)
	id := requestName(t, path)
	w.browse(browser, path)
	for range 11 { // 55 minutes, in which the provider is not asked
		w.wait(requestLife - time.Second)
		extend(browser, id)
	}
	w.browse(browser, path).asks(t, "after 55 minutes", AskConsent)
	for range 2 {
		w.wait(requestLife - time.Second)
		extend(browser, id)
	}
	over("after an hour and more", path)
	extend(browser, id)
	over("what is over stays over", path)

	path = a.push(nil)
	w.browse(browser, path)
	w.wait(requestLife)
	extend(browser, requestName(t, path))
	over("after five minutes of nothing", path)

	// Another browser that knows the name of a request neither extends nor takes it.
	path = a.push(nil)
	w.browse(browser, path)
	w.wait(requestLife - time.Second)
	extend("another browser", requestName(t, path))
	w.browse(browser, path).asks(t, "it is still the first one's", AskConsent)
	w.wait(time.Second)
	w.wait(requestLife)
	over("the first one's time", path)

	// An answered one is not opened again, and an unknown one is not made.
	path = a.push(nil)
	w.browse(browser, path)
	w.consent(browser, alice, nil).back(t)
	extend(browser, requestName(t, path))
	w.browse(browser, path).page(t, "answered", 400)
	extend(browser, "unknown")
	w.browse(browser, strings.Replace(path, requestName(t, path), "unknown", 1)).page(t, "unknown", 400)
}

// Whoever has a request open reloads its pages without end: that reads, and writes once in a while.
func TestReloadedPagesWriteLittle(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	path := a.push(nil)
	id := requestName(t, path)
	w.browse(browser, path)
	writes := 0
	kv := storagetest.Faults{Before: func(method string) error {
		if strings.Contains(method, "Write") {
			writes++
		}
		return nil
	}}.Wrap(w.store).KV
	for range 60 {
		w.wait(time.Second)
		for range 10 {
			if err := (Requests{KV: kv, Now: w.now}).Extend(t.Context(), browser, id); err != nil {
				t.Fatal(err)
			}
		}
		if err := (Requests{KV: kv, Now: w.now}).Extend(t.Context(), "another browser", id); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 6 {
		t.Errorf("%d writes in a minute", writes)
	}
}

// Of the last moment of a request and the consent, one comes first: it is either extended and then
// answered, or answered and stays so.
func TestExtendWhileItIsAnswered(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	for range 20 {
		path := a.push(nil)
		w.browse(browser, path)
		form := w.consentForm(alice, nil)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := (Requests{KV: w.store.KV, Now: w.now}).Extend(t.Context(), browser, requestName(t, path)); err != nil {
					t.Error(err)
				}
			})
		}
		code := w.submit(browser, form).back(t).Get("code")
		all.Wait()
		w.browse(browser, path).page(t, "answered", 400)
		a.exchange(code, nil).tokens(t)
	}
}

// Whatever call of an extension the process dies at, the request is there.
func TestCrashInExtend(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			a := w.public()
			w.signIn(browser, alice)
			path := a.push(nil)
			w.browse(browser, path)
			w.wait(requestLife - time.Second)
			d := &storagetest.Death{At: n, After: after}
			err := Requests{KV: d.Faults().Wrap(w.store).KV, Now: w.now}.Extend(t.Context(), browser, requestName(t, path))
			if d.Died() != (err != nil) {
				t.Errorf("call %d: died %v: %v", n, d.Died(), err)
			}
			w.browse(browser, path).asks(t, "after the crash", AskConsent)
			w.consent(browser, alice, nil).back(t)
		}
	}
}

// A sign-in that its owner ends on another device, while the form of its consent is under way, lets no
// app in.
func TestSignInEndsDuringConsent(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	var ended error
	a0, err := w.accounts.ByDID(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	in := SignedIn{DID: alice, At: w.now(), Credentials: a0.Credentials}
	in.Caller = account.NewCaller(alice, "", func(context.Context, storage.KVReader, account.Account) ([]storage.KVCheck, error) {
		return nil, ended
	})
	w.signInAs(browser, in)
	for _, ended = range []error{account.ErrTokenRevoked, account.ErrTakenDown, nil} {
		w.browse(browser, a.push(nil))
		q := w.consent(browser, alice, nil).back(t)
		if let := q.Get("code") != ""; let != (ended == nil) || !let && q.Get("error") != codeAccessDenied {
			t.Errorf("%v: %v", ended, q)
		}
	}
}
