package indexer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// bubble runs a test with virtual time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

var all = indexer.Scope{All: true}

// TestI03Order: operations of an account come in order under 16 workers, and an account whose key
// cannot be had delays no other.
func TestI03Order(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		var dids []syntax.DID
		for i := range 20 {
			dids = append(dids, h.account(fmt.Sprint("a", i), 3))
		}
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, dids...)
		hang := make(chan struct{})
		slow := dids[0]
		w.mu.Lock()
		w.lookupErr = func(did syntax.DID) error {
			if did == slow {
				w.mu.Unlock()
				<-hang
				w.mu.Lock()
			}
			return nil
		}
		w.mu.Unlock()
		for i := range 40 {
			for _, did := range dids {
				h.write(did, put(notes, "r0", fmt.Sprint(i)), create(likes, fmt.Sprint(i), "x"))
			}
		}
		a.eventually(func() error { return a.compare(nil, dids[1:]...) })
		if err := a.compare(nil, slow); err == nil {
			t.Error("the slow account was not slow")
		}
		close(hang)
		a.settle(nil, dids...) // each operation was checked against the one before
	})
}

// TestI04DeletedDuringOutage: a record is deleted while the indexer is away, for longer than the
// host keeps events. The deletion is delivered. So is that of an account.
func TestI04DeletedDuringOutage(t *testing.T) {
	for _, scope := range []indexer.Scope{all, {All: true, Collections: []string{string(notes)}}} {
		bubble(t, func(t *testing.T, w *world) {
			h := w.host("one.test")
			alice, bob, carol := h.account("alice", 5), h.account("bob", 5), h.account("carol", 5)
			dir := t.TempDir()
			a := w.app(dir, scope, indexer.Source{Host: h.url}).start()
			h.write(carol, create(notes, "new", "x"))
			a.settle(nil, alice, bob, carol)
			a.halt()
			time.Sleep(time.Hour)
			h.write(alice, remove(notes, "r1"), create(notes, "later", "x"))
			h.write(alice, remove(notes, "later"))
			h.remove(carol)
			time.Sleep(time.Hour)
			w.ok(h.store.Events.Trim(ctx, time.Now()))
			h.write(bob, create(notes, "last", "x"))
			b := w.app(dir, scope, indexer.Source{Host: h.url}).start()
			b.settle(nil, alice, bob)
			if len(b.rows(alice)) != 4 {
				t.Errorf("%v", b.rows(alice))
			}
			b.eventually(func() error {
				if n := len(b.rows(carol)); n > 0 {
					return fmt.Errorf("the account that was deleted has %d rows", n)
				}
				return nil
			})
			b.check()
		})
	}
}

// TestI05Forged: a CAR file that is forged, truncated, another account's or another host's has no
// effect; the error is visible, and the account is read again.
func TestI05Forged(t *testing.T) {
	for name, bad := range map[string]func(h *host, other syntax.DID, car []byte) []byte{
		"truncated":         func(_ *host, _ syntax.DID, car []byte) []byte { return car[:len(car)-20] },
		"cut at a block":    func(_ *host, _ syntax.DID, car []byte) []byte { return car[:len(car)/2] },
		"a changed byte":    func(_ *host, _ syntax.DID, car []byte) []byte { car[len(car)-5] ^= 1; return car },
		"another account's": func(h *host, other syntax.DID, _ []byte) []byte { return h.export(other) },
		"no CAR":            func(*host, syntax.DID, []byte) []byte { return []byte("<html>") },
		"nothing":           func(*host, syntax.DID, []byte) []byte { return nil },
		"another key": func(h *host, _ syntax.DID, car []byte) []byte {
			// the same records, signed by somebody else
			x := h.world.forger(h, car)
			return x
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				h := w.host("one.test")
				alice, bob := h.account("alice", 30), h.account("bob", 5)
				good := h.export(alice)
				wrong := bad(h, bob, bytes.Clone(good))
				h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID) && r.URL.Query().Get("did") == string(alice) {
						rw.Write(wrong)
						return true
					}
					return false
				})
				a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
				a.want(alice, "failed", func(x indexer.Account) bool { return x.Tries >= 2 && x.Error != "" })
				a.eventually(func() error { return a.compare(nil, bob) })
				if n := len(a.rows(alice)); n > 0 {
					t.Errorf("there are %d rows", n)
				}
				h.setFault(nil)
				a.settle(nil, alice, bob)
			})
		})
	}
}

func (h *host) export(did syntax.DID) []byte {
	var b bytes.Buffer
	h.ok(h.repo.Export(context.Background(), did, "", &b))
	return b.Bytes()
}

// forger signs a repository with another key.
func (w *world) forger(h *host, car []byte) []byte {
	x := w.host("forger.test")
	var did syntax.DID
	for d := range h.keys {
		if strings.Contains(string(d), "alice") {
			did = d
		}
	}
	x.setKey(did, newKey(w))
	_, err := x.repo.Import(context.Background(), did, bytes.NewReader(car), repo.Import{Unverified: true})
	w.ok(err)
	return x.export(did)
}

// TestI05ForgedCommits: commits that do not verify have no effect, and delay no good one.
func TestI05ForgedCommits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		one, two := w.host("one.test"), w.host("two.test")
		alice := one.account("alice", 5)
		bob := two.account("bob", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: one.url}, indexer.Source{Host: two.url}).start()
		a.settle(nil, alice, bob)
		// Another host writes for the account, with a key of its own and with the right one.
		for _, key := range []bool{false, true} {
			two.setKey(alice, newKey(t))
			if key {
				two.setKey(alice, w.keys[alice])
			}
			if _, err := two.repo.Head(ctx, alice); err != nil {
				_, err := two.repo.Create(ctx, alice, repo.Batch{})
				w.ok(err)
			}
			two.write(alice, create(notes, "forged", "x"))
			two.write(alice, remove(notes, "forged"))
			one.write(alice, create(notes, fmt.Sprint("good", key), "x"))
		}
		a.eventually(func() error {
			if p := a.ix.Progress(); p.Foreign < 4 {
				return fmt.Errorf("%+v", p)
			}
			return a.compare(nil, alice, bob)
		})
		// Its own host signs with a key that is not the account's. What it says then is not
		// believed either, not even its whole repository.
		one.setKey(alice, newKey(t))
		before := len(a.rows(alice))
		one.write(alice, create(notes, "stolen", "x"))
		time.Sleep(2 * time.Minute)
		a.want(alice, "doubted", func(x indexer.Account) bool { return x.Error != "" && x.Tries > 0 })
		if len(a.rows(alice)) != before {
			t.Error("a commit by another key was applied")
		}
		one.setKey(alice, w.keys[alice])
		one.write(alice, create(notes, "again", "x"))
		a.settle(nil, alice, bob)
	})
}

// TestI06Repair: an account that was changed without events is repaired by its difference, or by
// its whole repository if a block is missing in that.
func TestI06Repair(t *testing.T) {
	for _, broken := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			h := w.host("one.test")
			alice := h.account("alice", 500)
			a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
			a.settle(nil, alice)
			effects := a.effects()
			var whole atomic.Int64
			h.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID) {
					return false
				}
				if r.URL.Query().Get("since") == "" {
					whole.Add(1)
					return false
				}
				if !broken {
					return false
				}
				// What is new since the present: a commit without the nodes.
				head, err := h.repo.Head(ctx, alice)
				w.ok(err)
				var b bytes.Buffer
				w.ok(h.repo.Export(ctx, alice, head.Rev, &b))
				rw.Write(b.Bytes())
				return true
			})
			_, err := h.repo.Apply(ctx, alice, repo.Batch{Silent: true, Sync: true, Writes: []repo.Write{
				create(notes, "new", "x"), put(notes, "r7", "changed"), remove(notes, "r9")}})
			w.ok(err)
			a.settle(nil, alice)
			p := a.progress()
			if broken != (whole.Load() == 1) || broken != (p.Repaired == 0) {
				t.Errorf("broken: %v, read as a whole: %d times, %+v", broken, whole.Load(), p)
			}
			if n := a.effects() - effects; n != 3 {
				t.Errorf("%d effects, not 3", n)
			}
			// A commit is lost.
			h.silently(alice, remove(notes, "r11"))
			h.write(alice, create(notes, "after", "x"))
			a.settle(nil, alice)
			if p := a.progress(); p.Gaps != 1 || a.effects()-effects != 5 {
				t.Errorf("%d effects, %+v", a.effects()-effects, p)
			}
		})
	}
}

// TestI07Migration: the account moves to another host. What it writes there is followed; the old
// host can say nothing more.
func TestI07Migration(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		one, two := w.host("one.test"), w.host("two.test")
		alice := one.account("alice", 20)
		a := w.app(t.TempDir(), all, indexer.Source{Host: one.url}, indexer.Source{Host: two.url}).start()
		a.settle(nil, alice)
		key := newKey(t)
		two.setKey(alice, key)
		w.setDocument(alice, two.url, key)
		_, err := two.repo.Import(ctx, alice, bytes.NewReader(one.export(alice)), repo.Import{Unverified: true, Sync: true})
		w.ok(err)
		ev := two.repo.IdentityEvent(alice, "")
		_, err = two.repo.Step(ctx, alice, func(s *repo.Step) error { s.Events = []storage.Event{ev}; return nil })
		w.ok(err)
		two.write(alice, create(notes, "there", "x"))
		a.settle(nil, alice)
		a.want(alice, "at the new host", func(x indexer.Account) bool { return x.Host == two.url })
		// The old host goes on with the old key, and says that the account is gone.
		one.write(alice, create(notes, "here", "x"), remove(notes, "r1"))
		one.status(alice, "deactivated")
		one.remove(alice)
		time.Sleep(time.Minute)
		two.write(alice, create(notes, "more", "x"))
		a.settle(nil, alice)
		a.want(alice, "active", func(x indexer.Account) bool { return x.Active })
	})
}

// TestI08Status: the application hears of accounts that are deactivated, taken down or deleted, and
// come back, with what they wrote meanwhile.
func TestI08Status(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob := h.account("alice", 5), h.account("bob", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice, bob)
		for _, status := range []string{"deactivated", "takendown", "suspended"} {
			h.status(alice, status)
			a.want(alice, status, func(x indexer.Account) bool { return !x.Active && x.Status == status })
			h.silently(alice, create(notes, status, "x"))
			h.write(alice, create(notes, "not silent"[:3]+status, "x"))
			h.status(alice, "")
			a.want(alice, "active", func(x indexer.Account) bool { return x.Active })
			a.settle(nil, alice)
		}
		h.remove(bob)
		a.want(bob, "deleted", func(x indexer.Account) bool { return !x.Active && x.Status == "deleted" && x.Due.IsZero() })
		if n := len(a.rows(bob)); n > 0 {
			t.Errorf("the deleted account has %d rows", n)
		}
		a.check()
		var told []string
		rows, err := a.db.Query("SELECT state, active, status FROM told WHERE did = ?", string(alice))
		w.ok(err)
		defer rows.Close()
		for rows.Next() {
			var state, status string
			var active bool
			w.ok(rows.Scan(&state, &active, &status))
			told = append(told, fmt.Sprint(active, status))
		}
		if got := strings.Join(told, " "); !strings.HasSuffix(got, "falsedeactivated true falsetakendown true falsesuspended true") {
			t.Errorf("told: %s", got)
		}
	})
}

// TestI09Scope: accounts and collections come into the scope and leave it while the indexer runs,
// and between two runs.
func TestI09Scope(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice, bob, carol := h.account("alice", 1500), h.account("bob", 5), h.account("carol", 5)
		h.write(alice, create(likes, "one", "x"), create("com.example.deep.thing", "one", "x"))
		h.write(bob, create(likes, "one", "x"))
		of := func(prefixes ...string) func(string) bool {
			return func(path string) bool {
				for _, p := range prefixes {
					if strings.HasPrefix(path, p) {
						return true
					}
				}
				return false
			}
		}
		none := func(did syntax.DID) {
			t.Helper()
			if len(a0.rows(did)) > 0 {
				t.Errorf("%s has rows", did)
			}
		}
		dir := t.TempDir()
		scope := indexer.Scope{DIDs: []syntax.DID{alice}, Collections: []string{string(likes)}}
		a := w.app(dir, scope, indexer.Source{Host: h.url}).start()
		a0 = a
		a.settle(of("com.example.like/"), alice)
		none(bob)

		scope.Collections = append(scope.Collections, string(notes), "com.example.deep.*")
		w.ok(a.ix.SetScope(scope))
		h.write(alice, create(notes, "while", "x"))
		a.settle(of("com.example."), alice)

		w.ok(a.ix.Track(ctx, bob))
		a.settle(of("com.example."), alice, bob)
		w.ok(a.ix.Untrack(ctx, bob))
		a.eventually(func() error {
			if _, err := a.ix.Account(ctx, bob); !errors.Is(err, indexer.ErrUnknown) {
				return fmt.Errorf("it is still there: %v", err)
			}
			return nil
		})
		none(bob)

		// Removing a collection needs no download.
		before := h.requests(api.SyncGetRepoNSID)
		scope.Collections = []string{string(notes)}
		w.ok(a.ix.SetScope(scope))
		a.settle(of("com.example.note/"), alice)
		if n := h.requests(api.SyncGetRepoNSID); n != before {
			t.Errorf("%d downloads", n-before)
		}
		a.halt()

		// Another scope at the next start: who has a like, and all of it.
		b := w.app(dir, indexer.Scope{Signal: []string{string(likes)}}, indexer.Source{Host: h.url}).start()
		a0 = b
		b.settle(nil, alice, bob)
		none(carol)
		h.write(carol, create(likes, "now", "x"))
		b.settle(nil, alice, bob, carol)
		b.halt()

		c := w.app(dir, indexer.Scope{DIDs: []syntax.DID{carol}}, indexer.Source{Host: h.url}).start()
		a0 = c
		c.eventually(func() error {
			if n := len(c.rows(alice)) + len(c.rows(bob)); n > 0 {
				return fmt.Errorf("there are %d rows", n)
			}
			return nil
		})
		c.settle(nil, carol)
	})
}

var a0 *app

// TestI11Hosts: hosts that refuse, fail, hang or trickle are asked less and less often, as they
// want, and delay no other.
func TestI11Hosts(t *testing.T) {
	for name, fault := range map[string]func(rw http.ResponseWriter, r *http.Request) bool{
		"429": func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Retry-After", "600")
			rw.WriteHeader(429)
			return true
		},
		"500": func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(500); return true },
		"hang": func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		},
		"trickle": func(rw http.ResponseWriter, r *http.Request) bool {
			for r.Context().Err() == nil {
				if _, err := rw.Write([]byte{1}); err != nil {
					break
				}
				rw.(http.Flusher).Flush()
				time.Sleep(10 * time.Second)
			}
			return true
		},
		"cut": func(rw http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				one, two := w.host("one.test"), w.host("two.test")
				var bad, good []syntax.DID
				for i := range 30 {
					bad = append(bad, one.account(fmt.Sprint("bad", i), 2))
				}
				for i := range 30 {
					good = append(good, two.account(fmt.Sprint("good", i), 2))
				}
				one.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					return strings.HasSuffix(r.URL.Path, api.SyncGetRepoNSID) && fault(rw, r)
				})
				start := time.Now()
				a := w.app(t.TempDir(), all, indexer.Source{Host: one.url}, indexer.Source{Host: two.url}).start()
				a.eventually(func() error { return a.compare(nil, good...) })
				if d := time.Since(start); d > 20*time.Second {
					t.Errorf("the others took %v", d)
				}
				time.Sleep(time.Hour)
				n := one.requests(api.SyncGetRepoNSID)
				most := 150
				if name == "429" {
					most = 2 * 7
				}
				if n > most || n < 3 {
					t.Errorf("%d requests in an hour", n)
				}
				one.setFault(nil)
				a.long(func() error { return a.compare(nil, bad...) })
				a.check()
			})
		})
	}
}

// long is eventually with more time, which must be virtual.
func (a *app) long(f func() error) {
	a.Helper()
	var err error
	for range 26 * 60 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(time.Minute)
	}
	a.Fatalf("%v\n%+v\n%s", err, a.ix.Progress(), a.tail())
}

// TestUnavailableIdentity: while identities cannot be resolved, nothing is believed without a
// signature, and nothing is lost.
func TestUnavailableIdentity(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		w.mu.Lock()
		w.lookupErr = func(syntax.DID) error { return identity.ErrUnavailable }
		w.mu.Unlock()
		before := len(a.rows(alice))
		h.write(alice, create(notes, "new", "x"), remove(notes, "r1"))
		time.Sleep(10 * time.Minute)
		if len(a.rows(alice)) != before {
			t.Error("a commit was applied without its signature")
		}
		w.mu.Lock()
		w.lookupErr = nil
		w.mu.Unlock()
		a.long(func() error { return a.compare(nil, alice) })
		a.check()
	})
}

// TestKeyRotation: a commit by a new key is accepted at once, whatever is cached, unless the document
// was asked for on suspicion just before.
func TestKeyRotation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		h := w.host("one.test")
		alice := h.account("alice", 5)
		a := w.app(t.TempDir(), all, indexer.Source{Host: h.url}).start()
		a.settle(nil, alice)
		time.Sleep(time.Minute) // the first #identity is such a suspicion if it comes after the reading
		key := newKey(t)
		w.setDocument(alice, h.url, key)
		h.setKey(alice, key)
		downloads := h.requests(api.SyncGetRepoNSID)
		h.write(alice, create(notes, "new", "x"))
		a.settle(nil, alice)
		if h.requests(api.SyncGetRepoNSID) != downloads {
			t.Error("the repository was read again")
		}
	})
}
