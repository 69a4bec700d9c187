package edge

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/durable"
)

// Of many who ask for one name at once, one gets it, and all parts agree on who.
func TestOneNameAtOnce(t *testing.T) {
	p := newParts(t)
	p.part(Directory)
	p.part(Desk)
	const n = 6
	var wg sync.WaitGroup
	var mu sync.Mutex
	var dids []string
	for range n {
		wg.Go(func() {
			status, out := call(t, p.part(Desk).Server, "POST", "/xrpc/com.atproto.server.createAccount", "", map[string]any{
				"handle": "carol.pds.example.com", "email": "carol@example.com", "password": "a long password",
			})
			mu.Lock()
			defer mu.Unlock()
			if status == 200 {
				dids = append(dids, out["did"].(string))
			} else if status >= 500 {
				t.Errorf("%d %v", status, out)
			}
		})
	}
	wg.Wait()
	if len(dids) != 1 {
		t.Fatalf("the name has %v", dids)
	}
	found, err := p.part(Directory).Answer(t.Context(), "find.account", []byte("carol.pds.example.com"))
	if string(found) != dids[0] || err != nil {
		t.Errorf("the directory has %q, %v", found, err)
	}
	p.check()
}

// A change that the directory was not told of, because the account's object could not reach it or has
// ended, is told by the object's alarm: without any request, and once.
func TestDirectoryIsToldByTheAlarm(t *testing.T) {
	for _, dies := range []bool{false, true} {
		p := newParts(t)
		carol, token := p.join("carol")
		events := func() (n int) {
			for e, err := range p.part(Directory).platform.Store.Events.Since(t.Context(), 0) {
				if err != nil {
					t.Fatal(err)
				}
				if e.DID == carol && e.Kind == "#commit" {
					n++
				}
			}
			return n
		}
		fail := func(fails bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fail = nil
			if fails {
				p.fail = func(_ Part, method string, _ bool) error {
					if strings.HasPrefix(method, "directory.") {
						return errCall
					}
					return nil
				}
			}
		}
		o := p.objects[Part(carol)]
		if o.guards != 0 {
			t.Fatal("an alarm is left where nothing is left to do")
		}
		had := events()
		fail(true)
		if status, out := p.note(carol, token, 1); status < 500 {
			t.Fatal(status, out)
		}
		if o.guards != 1 || events() != had {
			t.Fatalf("%d guards, %d events", o.guards, events()-had)
		}
		if dies {
			p.evict(Part(carol))
			o.guards = 0
		}
		// As long as the directory cannot be reached, the alarm is set anew, later and later.
		for _, wait := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			if next := p.part(Part(carol)).Wake(t.Context()); !next.Equal(p.now().Add(wait)) {
				t.Fatalf("the next alarm is in %v", next.Sub(p.now()))
			}
		}
		fail(false)
		if next := p.part(Part(carol)).Wake(t.Context()); !next.Equal(p.now().Add(tidyAfter)) {
			t.Errorf("the alarm for unused blobs is at %v", next)
		}
		if events() != had+1 || o.guards != 0 {
			t.Errorf("the directory has %d events, and %d guards are left", events()-had, o.guards)
		}
		if next := p.part(Part(carol)).Wake(t.Context()); !next.IsZero() || events() != had+1 {
			t.Errorf("an alarm without end: %v, %d events", next, events()-had)
		}
		p.check()
	}
}

// The directory cannot be told of a new account, once or as long as the request lasts. If the answer
// is that there is none, or only that something is wrong, the account does not come up later under a
// DID that was taken back.
func TestNewAccountBeforeTheDirectoryKnows(t *testing.T) {
	for _, times := range []int{1, 2, 3, 1000} {
		p := newParts(t)
		p.part(Directory)
		left := times
		p.fail = func(_ Part, method string, _ bool) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if method != "directory.deliver" || left == 0 {
				return nil
			}
			left--
			return errCall
		}
		status, out := call(t, p.part(Desk).Server, "POST", "/xrpc/com.atproto.server.createAccount", "", map[string]any{
			"handle": "carol.pds.example.com", "email": "carol@example.com", "password": "a long password",
		})
		if status != 200 && status < 500 {
			t.Errorf("%d failures: %d %v", times, status, out)
		}
		p.mu.Lock()
		p.fail = nil
		p.mu.Unlock()
		p.set(p.now().Add(time.Minute))
		p.wake()
		// The directory finishes what was begun when it starts after the time for that.
		p.set(p.now().Add(10 * time.Minute))
		p.evict(Directory)
		p.check()
		found, err := p.part(Directory).Answer(t.Context(), "find.account", []byte("carol.pds.example.com"))
		if err != nil || len(found) == 0 {
			t.Errorf("%d failures: the answer was %d, and the account is %q, %v", times, status, found, err)
		}
	}
}

// The object of an account that was deleted answers as if the account had never been, with tokens and
// without, after an eviction too, and nothing of the account is left in it.
func TestDeletedAccountIsAskedAgain(t *testing.T) {
	p := newParts(t)
	carol, token := p.join("carol")
	p.note(carol, token, 1)
	if status, out := call(t, p.part(Desk).Server, "POST", "/xrpc/com.atproto.admin.deleteAccount", admin, map[string]any{"did": carol}); status != 200 {
		t.Fatal(status, out)
	}
	for range 2 {
		if status, out := p.note(carol, token, 2); status != 401 && status != 403 {
			t.Errorf("a write: %d %v", status, out)
		}
		for path, want := range map[string]int{
			"/xrpc/com.atproto.sync.getRepo?did=": 400, "/xrpc/com.atproto.repo.describeRepo?repo=": 400, "/xrpc/com.atproto.sync.getLatestCommit?did=": 400,
		} {
			if status, out := call(t, p.part(Part(carol)).Server, "GET", path+string(carol), "", nil); status != want {
				t.Errorf("%s: %d %v", path, status, out)
			}
		}
		if status, out := call(t, p.part(Part(carol)).Server, "POST", "/xrpc/com.atproto.server.createSession", "", map[string]any{"identifier": carol, "password": "a long password"}); status != 401 {
			t.Errorf("a session: %d %v", status, out)
		}
		p.evict(Part(carol))
	}
	p.part(Part(carol))
	o, err := p.objects[Part(carol)].tables["kv"].Open(t.Context(), "did:web:table", true)
	if err != nil {
		t.Fatal(err)
	}
	err = o.Scan(durable.Scan{}, func(key string, value []byte) bool {
		t.Errorf("%q is left, with %d bytes", key, len(value))
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

// A takedown that the account has and of which the directory has not been told holds everywhere: whoever
// acts for the account does so in its object, which tells the directory first.
func TestTakedownBeforeTheDirectoryKnows(t *testing.T) {
	for _, after := range []bool{false, true} {
		p := newParts(t)
		carol, token := p.join("carol")
		p.mu.Lock()
		p.fail = func(to Part, method string, done bool) error {
			if method == "directory.deliver" && done == after {
				return errCall
			}
			return nil
		}
		p.mu.Unlock()
		status, _ := call(t, p.part(Part(carol)).Server, "POST", "/xrpc/com.atproto.admin.updateSubjectStatus", admin, map[string]any{
			"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": carol},
			"takedown": map[string]any{"applied": true, "ref": "1"},
		})
		if status < 500 {
			t.Fatal(status)
		}
		p.mu.Lock()
		p.fail = nil
		p.mu.Unlock()
		p.evict(Part(carol))
		for _, part := range []Part{Desk, Directory, Part(carol)} {
			if status, out := call(t, p.part(part).Server, "POST", "/xrpc/com.atproto.server.createSession", "", map[string]any{"identifier": carol, "password": "a long password"}); status == 200 {
				t.Errorf("after=%v: %s opens a session: %v", after, part, out)
			}
			if status, out := call(t, p.part(part).Server, "POST", "/xrpc/com.atproto.server.createAppPassword", token, map[string]any{"name": "x"}); status == 200 {
				t.Errorf("after=%v: %s makes an app password: %v", after, part, out)
			}
		}
		if status, out := p.note(syntax.DID(carol), token, 1); status == 200 {
			t.Errorf("after=%v: a write: %v", after, out)
		}
	}
}

// The object of an account ends while that is deleted, before it has deleted the blobs or told the
// directory. Nobody asks it again, and still its blobs are deleted, and the directory is told.
func TestDeletionThatIsCutOff(t *testing.T) {
	for _, after := range []bool{false, true} {
		p := newParts(t)
		carol, token := p.join("carol")
		r := httptest.NewRequest("POST", "https://host/xrpc/com.atproto.repo.uploadBlob", strings.NewReader("some text"))
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		p.part(Part(carol)).ServeHTTP(w, r)
		if w.Code != 200 || p.bucket.Len() != 1 {
			t.Fatal(w.Code, p.bucket.Len())
		}
		p.objects[Part(carol)].alarm = time.Time{} // it went off long ago
		p.fail = func(to Part, method string, done bool) error {
			if method != "directory.remove" || done != after {
				return nil
			}
			p.evict(Part(carol))
			return errCall
		}
		if status, _ := call(t, p.part(Desk).Server, "POST", "/xrpc/com.atproto.admin.deleteAccount", admin, map[string]any{"did": carol}); status < 500 {
			t.Fatal(status)
		}
		p.fail = nil
		at := p.objects[Part(carol)].alarm
		if at.IsZero() {
			t.Fatalf("after=%v: no alarm is set", after)
		}
		p.set(at)
		p.evict(Part(carol))
		if next := p.part(Part(carol)).Wake(t.Context()); !next.IsZero() {
			t.Errorf("after=%v: it wakes again at %v", after, next)
		}
		if n := p.bucket.Len(); n != 0 {
			t.Errorf("after=%v: %d blobs are left", after, n)
		}
		if did, err := p.part(Directory).Answer(t.Context(), "find.account", []byte(carol)); len(did) != 0 || err != nil {
			t.Errorf("after=%v: the directory knows %q, %v", after, did, err)
		}
	}
}

// Parts without blobs take none into their memory, however a request gets to them.
func TestOnlyAccountsTakeBlobs(t *testing.T) {
	p := newParts(t)
	_, token := p.join("carol")
	for _, part := range []Part{Desk, Directory} {
		r := httptest.NewRequest("POST", "https://host/xrpc/com.atproto.repo.uploadBlob", strings.NewReader("some text"))
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		p.part(part).ServeHTTP(w, r)
		if w.Code < 500 {
			t.Errorf("%s: %d %s", part, w.Code, w.Body)
		}
	}
}
