package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// frames reads what a relay sends over its method, after a cursor, until nothing comes for a second.
func (r *testRelay) frames(cursor int64) (list []stream.Frame, err error) {
	ctx, cancel := context.WithCancel(r.w.ctx)
	defer cancel()
	timer := time.AfterFunc(time.Second, cancel)
	c := stream.Consumer{
		URL: r.client.Host + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: &cursor, HTTP: r.w.net.Client(),
		Retry: func(err error) error { return err },
	}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			return list, err
		}
		f.Payload = bytes.Clone(f.Payload)
		list = append(list, f)
		timer.Reset(time.Second)
	}
	return list, nil
}

func TestR19Takedown(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a, b := h.account("alice"), h.account("bob")
		r := w.relay("relay.test")
		r.follow(h)
		h.post(a)
		h.post(b)
		w.settle()
		// Somebody is subscribed, so the events are in the window, too.
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		go func() {
			zero := int64(0)
			for range r.Outbox().Subscribe(ctx, &zero) {
			}
		}()
		w.settle()
		_, middle, err := r.Store.Events.Bounds(w.ctx) // where the window begins
		w.must(err)
		h.post(a)
		h.post(b)
		w.pass(time.Second)
		w.must(r.Takedown(w.ctx, a.did))
		w.must(r.Takedown(w.ctx, a.did))
		want := []string{"#commit bob", "#commit bob", "#account alice takendown"}
		r.want(want...)
		w.settle()
		list, _ := r.frames(0)
		for _, f := range list {
			if m, err := commit.Decode(f.Kind, f.Payload); err != nil || m.About() == a.did && f.Kind != commit.KindAccount {
				t.Errorf("replayed: %s %v", f.Kind, err)
			}
		}
		if len(list) != len(want) {
			t.Errorf("%d frames", len(list))
		}
		if list, _ := r.frames(middle); len(list) != 2 {
			t.Errorf("%d frames from memory, want that of bob and that of the takedown", len(list))
		}
		h.post(a)
		h.setActive(a, true, "")
		h.say(&commit.Identity{DID: a.did, Time: time.Now()})
		w.settle()
		r.wantRule(h, relay.RuleTakedown, 3)
		r.want(want...)
		repos, err := api.SyncListRepos(w.ctx, r.client, api.SyncListReposParams{})
		if w.must(err); len(repos.Repos) != 1 || repos.Repos[0].DID != b.did {
			t.Errorf("%+v", repos)
		}
		r.wantStatus(a, "takendown")
		// Over a restart, too.
		r2 := r.again()
		w.settle()
		h.post(a)
		w.settle()
		r2.want(want...)
		if list, err := r2.Takedowns(w.ctx, "", 10); err != nil || !slices.Equal(list, []syntax.DID{a.did}) {
			t.Errorf("%v, %v", list, err)
		}
		w.must(r2.Restore(w.ctx, a.did))
		w.pass(time.Minute)
		r2.want(append(want, "#account alice", "#sync alice")...)
		r2.wantHead(a)
		r2.wantStatus(a, "")
		h.post(a)
		w.settle()
		r2.wantHead(a)
	})
}

// A process that dies in the middle of a takedown goes on with it.
func TestR19TakedownIsFinished(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		w.settle()
		for n := range 6 {
			store := r.Store
			r.stop()
			broken := &failing{Repos: store.Repos, kv: store.KV, after: n}
			r = w.relay("", func(r *relay.Relay) { r.Store = storage.Store{Repos: broken, Events: store.Events, KV: broken} })
			w.settle()
			broken.start()
			err := r.Takedown(w.ctx, a.did)
			r.stop()
			r = w.relay("", func(r *relay.Relay) { r.Store = store })
			w.settle()
			h.post(a)
			w.settle()
			if err != nil {
				got, _ := r.Account(w.ctx, a.did)
				if !got.TakenDown && got.Status != "" {
					t.Errorf("after %d calls: %+v", n, got)
				}
				if got.TakenDown && len(r.saw()) == 0 {
					t.Errorf("after %d calls: nobody is told: %q", n, r.saw())
				}
				w.must(r.Takedown(w.ctx, a.did))
			}
			r.wantStatus(a, "takendown")
			if got := r.saw(); slices.Contains(got, "#commit alice") {
				t.Errorf("after %d calls: %q", n, got)
			}
			w.must(r.Restore(w.ctx, a.did))
			w.pass(time.Minute)
			r.wantHead(a)
		}
	})
}

// failing is a store whose writes fail after some.
type failing struct {
	storage.Repos
	kv    storage.KV
	on    atomic.Bool
	after int
	count atomic.Int64
	err   error
}

var errDisk = errors.New("the disk is gone")

func (f *failing) start() {
	f.count.Store(0)
	f.on.Store(true)
}

func (f *failing) fail() error {
	if f.on.Load() && f.count.Add(1) > int64(f.after) {
		if f.err != nil {
			return f.err
		}
		return errDisk
	}
	return nil
}

func (f *failing) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.Repos.Apply(ctx, did, c)
}

func (f *failing) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.Repos.Delete(ctx, did, events)
}

func (f *failing) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	return f.kv.Read(ctx, fn)
}

func (f *failing) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.kv.Write(ctx, fn)
}

func TestR20AccountLimit(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		r := w.relay("relay.test")
		w.must(r.AddHost(w.ctx, h.name))
		w.must(r.SetLimits(w.ctx, h.name, &relay.Limits{Accounts: 2}))
		var list []*account
		for i := range 5 {
			a := h.account(fmt.Sprintf("a%d", i))
			list = append(list, a)
			h.post(a)
			h.post(a)
			w.settle()
		}
		for i, a := range list {
			want := ""
			if i >= 2 {
				want = "throttled"
			}
			status, err := api.SyncGetRepoStatus(w.ctx, r.client, api.SyncGetRepoStatusParams{DID: a.did})
			if w.must(err); status.Status != want || status.Active != (want == "") {
				t.Errorf("%d: %+v", i, status)
			}
		}
		r.want("#commit a0", "#commit a0", "#commit a1", "#commit a1")
		info, _ := r.Host(w.ctx, h.name)
		if info.Accounts != 5 || info.Throttled != 3 || info.Limits.Accounts != 2 {
			t.Errorf("%+v", info)
		}
		if list, err := r.Accounts(w.ctx, h.name, "did:web:a1.example", 2); err != nil || len(list) != 2 || list[0].Status != "throttled" {
			t.Errorf("%+v, %v", list, err)
		}
		w.must(r.SetLimits(w.ctx, h.name, &relay.Limits{Accounts: 4}))
		w.pass(time.Minute)
		for i, a := range list {
			if i == 4 {
				r.wantStatus(a, "throttled")
				continue
			}
			r.wantStatus(a, "")
			r.wantHead(a)
		}
		// There is room when an account goes.
		h.setActive(list[0], false, "deleted")
		w.settle()
		h.post(list[4])
		w.pass(2 * time.Minute)
		r.wantStatus(list[4], "")
		r.wantHead(list[4])
	})
}

func TestR21Flood(t *testing.T) {
	inWorld(t, func(w *world) {
		loud, quiet := w.host("loud.test"), w.host("quiet.test")
		a, b := loud.account("alice"), quiet.account("bob")
		var slowest time.Duration
		r := w.relay("", func(r *relay.Relay) {
			r.Observe = func(o relay.Observation) {
				if o.Host == quiet.name {
					slowest = max(slowest, o.Waited)
				}
			}
		})
		r.follow(loud, quiet)
		w.must(r.SetLimits(w.ctx, loud.name, &relay.Limits{Rate: 10, Burst: 20}))
		for range 200 {
			loud.post(a)
		}
		w.pass(2 * time.Second)
		if info, _ := r.Host(w.ctx, loud.name); info.Status != relay.HostThrottled && info.Messages > 60 {
			t.Errorf("%+v", info)
		}
		for range 5 {
			quiet.post(b)
			w.pass(time.Second / 5)
			r.wantHead(b)
		}
		if slowest > time.Second {
			t.Errorf("the quiet host waited for %s", slowest)
		}
		w.pass(time.Minute) // and nothing is dropped
		r.wantHead(a)
		if n := len(r.saw()); n != 205 {
			t.Errorf("%d messages", n)
		}
		if info, _ := r.Host(w.ctx, loud.name); info.Status != relay.HostActive {
			t.Errorf("%+v", info)
		}
	})
}

// A host that is far over its rate shows as throttled while it waits.
func TestR21ThrottledShows(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("loud.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		w.must(r.SetLimits(w.ctx, h.name, &relay.Limits{Rate: 0.1, Burst: 1}))
		for range 5 {
			h.post(a)
		}
		w.pass(15 * time.Second)
		if info, _ := r.Host(w.ctx, h.name); info.Status != relay.HostThrottled {
			t.Errorf("%+v", info)
		}
		w.pass(time.Minute)
		r.wantHead(a)
	})
}

func TestR22Cursors(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("relay.test", func(r *relay.Relay) { r.Retention = time.Hour })
		r.follow(h)
		for range 6 {
			h.post(a)
		}
		w.settle()
		all, err := r.frames(0)
		if len(all) != 6 {
			t.Fatalf("%d frames, %v", len(all), err)
		}
		if list, _ := r.frames(all[2].Seq); len(list) != 3 || list[0].Seq != all[3].Seq {
			t.Errorf("in the window: %d frames", len(list))
		}
		if list, err := r.frames(all[5].Seq + 1); len(list) != 0 || !errors.Is(err, stream.ErrFutureCursor) {
			t.Errorf("in the future: %d frames, %v", len(list), err)
		}
		w.pass(90 * time.Minute) // and the log is trimmed
		h.post(a)
		w.settle()
		list, _ := r.frames(all[1].Seq)
		if len(list) != 2 || list[0].Kind != commit.KindInfo || !bytes.Contains(list[0].Payload, []byte(stream.OutdatedCursor)) {
			t.Errorf("too old: %+v", list)
		}
	})
}

func TestR23SilentRelay(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("relay.test")
		r.follow(h)
		for range 50 {
			h.post(a)
		}
		w.pass(time.Hour) // nothing happens any more
		start := time.Now()
		list, _ := r.frames(0)
		if took := time.Since(start); len(list) != 50 || took > 1100*time.Millisecond { // of which a second is the wait for more
			t.Errorf("%d frames in %s", len(list), took)
		}
	})
}

func TestR24SlowConsumer(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("relay.test", func(r *relay.Relay) { r.Window = 16 << 10 })
		r.follow(h)
		w.must(r.SetLimits(w.ctx, h.name, &relay.Limits{Rate: -1}))
		slow, fast := make(chan error, 1), 0
		block := make(chan struct{})
		go func() {
			for _, err := range r.Outbox().Subscribe(w.ctx, nil) {
				if err != nil {
					slow <- err
					return
				}
				<-block
			}
		}()
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		go func() {
			for _, err := range r.Outbox().Subscribe(ctx, nil) {
				if err != nil {
					return
				}
				fast++
			}
		}()
		w.settle()
		for range 200 {
			h.post(a)
			w.settle()
		}
		close(block)
		w.settle()
		if err := <-slow; !errors.Is(err, stream.ErrConsumerTooSlow) {
			t.Error(err)
		}
		cancel()
		w.settle()
		if fast != 200 {
			t.Errorf("the fast one got %d", fast)
		}
	})
}

func TestR26Answers(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		r := w.relay("relay.test", func(r *relay.Relay) { r.Limits.Accounts = 5 })
		r.follow(h)
		names := []string{"active", "deactivated", "suspended", "takendown", "deleted", "odd"}
		by := make(map[string]*account)
		for _, name := range names {
			a := h.account(name)
			by[name] = a
			h.post(a)
			w.settle()
			if name != "active" {
				h.setActive(a, false, name)
			}
		}
		by["throttled"] = h.account("throttled")
		h.post(by["throttled"])
		by["unknown"] = h.account("unknown")
		w.settle()
		for name, want := range map[string]string{
			"active": "<nil>", "deactivated": "RepoDeactivated", "suspended": "RepoSuspended", "takendown": "RepoTakendown", "deleted": "RepoDeleted",
			"odd": "RepoInactive", "throttled": "RepoInactive", "unknown": "RepoNotFound",
		} {
			did := by[name].did
			out, err := api.SyncGetLatestCommit(w.ctx, r.client, api.SyncGetLatestCommitParams{DID: did})
			if got := errorName(err); got != want {
				t.Errorf("getLatestCommit, %s: %s, want %s", name, got, want)
			}
			if name == "active" && out.Rev != by[name].commit.Rev {
				t.Errorf("%+v", out)
			}
			status, err := api.SyncGetRepoStatus(w.ctx, r.client, api.SyncGetRepoStatusParams{DID: did})
			switch {
			case name == "unknown":
				if errorName(err) != api.ErrorRepoNotFound {
					t.Errorf("getRepoStatus, %s: %v", name, err)
				}
			case name == "active":
				if err != nil || !status.Active || status.Status != "" || status.Rev != by[name].commit.Rev {
					t.Errorf("getRepoStatus, %s: %+v, %v", name, status, err)
				}
			case err != nil || status.Active || status.Status != name || status.Rev != "":
				t.Errorf("getRepoStatus, %s: %+v, %v", name, status, err)
			}
		}
		if _, err := api.SyncGetHostStatus(w.ctx, r.client, api.SyncGetHostStatusParams{Hostname: "none.test"}); errorName(err) != api.ErrorHostNotFound {
			t.Error(err)
		}
		// getRepo leads to the host, with the query as it was.
		query := "?did=" + string(by["active"].did) + "&since=" + string(by["active"].commit.Rev)
		client := w.net.Client()
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := client.Get(r.client.Host + "/xrpc/com.atproto.sync.getRepo" + query)
		w.must(err)
		resp.Body.Close()
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || got != "https://pds1.test/xrpc/com.atproto.sync.getRepo"+query {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
	})
}

// reposOf lists the accounts that have records of a collection.
func (r *testRelay) reposOf(collection syntax.NSID) (list []syntax.DID) {
	r.w.t.Helper()
	for cursor, first := "", true; cursor != "" || first; first = false {
		page, err := api.SyncListReposByCollection(r.w.ctx, r.client, api.SyncListReposByCollectionParams{Collection: collection, Cursor: cursor, Limit: 2})
		r.w.must(err)
		for _, repo := range page.Repos {
			list = append(list, repo.DID)
		}
		cursor = page.Cursor
	}
	return list
}

func TestR27Collections(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		r := w.relay("relay.test")
		r.follow(h)
		a := h.account("alice")
		h.write(a, map[string]string{"com.example.a/1": "x", "com.example.note/1": "x", "com.example.z/1": "x"})
		h.write(a, map[string]string{"com.example.note/2": "x", "com.example.note/3": "x"})
		w.settle()
		want := func(collection syntax.NSID, list ...syntax.DID) {
			t.Helper()
			w.settle()
			if got := r.reposOf(collection); !slices.Equal(got, list) {
				t.Errorf("%s: %v, want %v", collection, got, list)
			}
		}
		want("com.example.note", a.did)
		want("com.example.not")
		h.write(a, map[string]string{"com.example.note/2": ""})
		h.write(a, map[string]string{"com.example.note/1": "", "com.example.z/1": ""})
		want("com.example.note", a.did)
		want("com.example.z")
		h.write(a, map[string]string{"com.example.note/3": ""})
		want("com.example.note")
		want("com.example.a", a.did)
		h.write(a, map[string]string{"com.example.note/4": "x", "com.example.a/1": ""})
		want("com.example.note", a.did)
		want("com.example.a")
		h.write(a, map[string]string{"com.example.note/4": ""}) // the last of all
		want("com.example.note")
		h.write(a, map[string]string{"com.example.note/5": "x"})
		var all []syntax.DID
		for i := range 6 {
			b := h.account(fmt.Sprintf("b%d", i))
			h.post(b)
			all = append(all, b.did)
		}
		w.settle()
		want("com.example.note", append([]syntax.DID{a.did}, all...)...)
		h.setActive(a, false, "deactivated")
		want("com.example.note", all...)
		h.setActive(a, true, "")
		want("com.example.note", append([]syntax.DID{a.did}, all...)...)
		w.must(r.Takedown(w.ctx, a.did))
		want("com.example.note", all...)
		r2 := r.again(func(n *relay.Relay) {})
		_ = r2
	})
}

// Of an account whose history is not known, the host is asked.
func TestR27CollectionsOfBefore(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		r := w.relay("relay.test")
		a := h.account("alice")
		a.write(t, map[string]string{"com.example.old/1": "x", "com.example.other/1": "x"})
		r.follow(h)
		h.post(a)
		w.pass(time.Minute)
		for _, c := range []syntax.NSID{"com.example.old", "com.example.other", "com.example.note"} {
			if got := r.reposOf(c); len(got) != 1 {
				t.Errorf("%s: %v", c, got)
			}
		}
		h.write(a, map[string]string{"com.example.old/1": ""})
		w.settle()
		if got := r.reposOf("com.example.old"); len(got) != 0 {
			t.Errorf("%v", got)
		}
		// A proof that does not hold tells nothing, so the host is asked again.
		lenient := relay.Lenient
		w.must(r.SetPolicy(w.ctx, h.name, &lenient))
		e := a.write(t, map[string]string{"com.example.other/1": "", "com.example.note/9": "x"})
		e.PrevData = e.Commit
		h.say(e)
		w.pass(time.Minute)
		if got := r.reposOf("com.example.other"); len(got) != 0 {
			t.Errorf("%v", got)
		}
	})
}
