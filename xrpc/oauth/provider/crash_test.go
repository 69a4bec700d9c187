package provider

import (
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// crashes runs something once for each call of the store, at which the process dies, and then after a
// restart; and once more for each call that fails alone, before others that do not. It ends when
// something needs no more calls.
func crashes(t *testing.T, prepare func(*world) (run func(), check func(name string, died bool))) {
	for name, faults := range map[string]func(n int) (f storagetest.Faults, died func() bool){
		"before call": func(n int) (storagetest.Faults, func() bool) {
			d := &storagetest.Death{At: n}
			return d.Faults(), d.Died
		},
		"after call": func(n int) (storagetest.Faults, func() bool) {
			d := &storagetest.Death{At: n, After: true}
			return d.Faults(), d.Died
		},
		"a call that fails": oneFails,
	} {
		for n := 1; ; n++ {
			if n > 200 {
				t.Fatal("it never ends")
			}
			w := newWorld(t)
			run, check := prepare(w)
			f, died := faults(n)
			w.open(f.Wrap(w.store))
			run()
			w.open(w.store)
			check(fmt.Sprint(name, " ", n), died())
			if !died() {
				if n <= 4 {
					t.Errorf("only %d calls", n-1)
				}
				break
			}
		}
	}
}

// oneFails is a store of which the n-th call fails, or what an iterator has after a value.
func oneFails(n int) (storagetest.Faults, func() bool) {
	var calls atomic.Int64
	call := func(string) error {
		if calls.Add(1) == int64(n) {
			return errBroken
		}
		return nil
	}
	return storagetest.Faults{Before: call, After: func(method string) error {
		switch method {
		case "Reader.Keys", "KVReader.Keys", "KVTx.Keys":
			return call(method)
		}
		return nil
	}}, func() bool { return calls.Load() >= int64(n) }
}

// Whatever call fails when an account ends all sessions: it is told so, and can do it again.
func TestCrashInEndAll(t *testing.T) {
	crashes(t, func(w *world) (func(), func(string, bool)) {
		a := w.public()
		tok := a.login()
		var err error
		return func() { err = w.p.Apps().EndAll(t.Context(), account.Trusted(alice)) }, func(name string, died bool) {
			if died == (err == nil) {
				t.Errorf("%s: %v", name, err)
			}
			if err == nil {
				if n := len(w.sessions()); n != 0 {
					t.Errorf("%s: %d sessions", name, n)
				}
			}
			if err := w.p.Apps().EndAll(t.Context(), account.Trusted(alice)); err != nil {
				t.Errorf("%s, again: %v", name, err)
			}
			a.alive(tok.access, false)
			if n := len(w.sessions()); n != 0 {
				t.Errorf("%s, again: %d sessions", name, n)
			}
		}
	})
}

// Whatever call of a refresh the process dies at: the client asks again, and goes on.
func TestCrashInRefresh(t *testing.T) {
	crashes(t, func(w *world) (func(), func(string, bool)) {
		a := w.public()
		tok := a.login()
		var out reply
		return func() { out = a.refresh(tok.refresh) }, func(name string, died bool) {
			if died == (out.status == 200) {
				t.Errorf("%s: %d %s", name, out.status, out.text)
			}
			next := a.refresh(tok.refresh).tokens(t)
			a.alive(next.access, true)
			again := a.refresh(tok.refresh).tokens(t)
			if next != again || !died && out.tokens(t) != next {
				t.Errorf("%s: %v, then %v", name, next, again)
			}
			a.refresh(next.refresh).tokens(t)
			if n := len(w.sessions()); n != 1 {
				t.Errorf("%s: %d sessions", name, n)
			}
		}
	})
}

// Two nodes over one store: of what comes to both at the same time, one decides.
func TestTwoNodes(t *testing.T) {
	one := newWorld(t)
	two := &world{t: t, clock: one.clock, logins: one.logins, pages: one.pages, docs: one.docs, store: one.store}
	two.open(one.store)
	a := one.public()
	b := &app{world: two, id: a.id, redirect: a.redirect, scope: a.scope, key: a.key}
	tok := a.login()
	both := func(send func(*app) reply) (list []reply) {
		var wg sync.WaitGroup
		answers := make(chan reply, 8)
		for i := range 8 {
			wg.Go(func() { answers <- send([]*app{a, b}[i%2]) })
		}
		wg.Wait()
		close(answers)
		for out := range answers {
			list = append(list, out)
		}
		return list
	}
	for range 10 {
		list := both(func(x *app) reply { return x.refresh(tok.refresh) })
		next := list[0].tokens(t)
		for _, out := range list {
			if out.tokens(t) != next {
				t.Errorf("%s and %s", list[0].text, out.text)
			}
		}
		a.alive(next.access, true)
		b.alive(next.access, true)
		tok = next
	}
	code := a.code(nil)
	b.verifier = a.verifier
	good := 0
	for _, out := range both(func(x *app) reply { return x.exchange(code, nil) }) {
		if out.status == 200 {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d exchanges of one code", good)
	}
	b.revoke(tok.refresh)
	a.alive(tok.access, false)
}

// Whatever call of an exchange the process dies at: there is one session, or the code is still good.
func TestCrashInExchange(t *testing.T) {
	crashes(t, func(w *world) (func(), func(string, bool)) {
		a := w.public()
		code := a.code(nil)
		var out reply
		return func() { out = a.exchange(code, nil) }, func(name string, died bool) {
			if died == (out.status == 200) {
				t.Errorf("%s: %d %s", name, out.status, out.text)
			}
			switch n := len(w.sessions()); n {
			case 0:
				tok := a.exchange(code, nil).tokens(t)
				a.alive(tok.access, true)
				a.refresh(tok.refresh).tokens(t)
			case 1: // a code is good once, also if nobody got the answer
				if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
					t.Errorf("%s: the code is good twice: %d %s", name, out.status, out.text)
				}
			default:
				t.Errorf("%s: %d sessions", name, n)
			}
			if n := len(w.sessions()); n > 1 {
				t.Errorf("%s: %d sessions", name, n)
			}
		}
	})
}

// Whatever call of the consent the process dies at: the form can be sent again.
func TestCrashInConsent(t *testing.T) {
	crashes(t, func(w *world) (func(), func(string, bool)) {
		a := w.public()
		w.signIn(browser, alice)
		w.browse(browser, a.push(nil)).asks(t, "the page", AskConsent)
		form := w.consentForm(alice, nil)
		var out reply
		return func() { out = w.submit(browser, form) }, func(name string, died bool) {
			again := w.submit(browser, form).back(t)
			if !died && again.Get("code") != out.back(t).Get("code") {
				t.Errorf("%s: another code", name)
			}
			tok := a.exchange(again.Get("code"), nil).tokens(t)
			a.alive(tok.access, true)
		}
	})
}

// Whatever call of a revocation the process dies at: asking again ends the session.
func TestCrashInRevocation(t *testing.T) {
	crashes(t, func(w *world) (func(), func(string, bool)) {
		a := w.public()
		tok := a.login()
		return func() { a.send(pathRevocation, url.Values{"client_id": {a.id}, "token": {tok.refresh}}) }, func(name string, _ bool) {
			if out := a.revoke(tok.refresh); out.status != 200 {
				t.Errorf("%s: %d %s", name, out.status, out.text)
			}
			a.alive(tok.access, false)
		}
	})
}
