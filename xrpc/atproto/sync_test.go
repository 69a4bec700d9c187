package atproto_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// blocks reads a CAR file.
func blocks(t *testing.T, b []byte) (roots []cid.Cid, list map[cid.Cid][]byte) {
	t.Helper()
	r, err := car.NewReader(bytes.NewReader(b), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	list = map[cid.Cid][]byte{}
	for {
		blk, err := r.Next()
		if err == io.EOF {
			return r.Roots(), list
		} else if err != nil {
			t.Fatal(err)
		}
		list[blk.CID] = bytes.Clone(blk.Data)
	}
}

// The methods that read a repository answer in the same way for one that may not be read, and let
// the account itself and an administrator in.
func TestWhoMayReadARepository(t *testing.T) {
	for method, params := range map[string][]string{
		"com.atproto.sync.getRepo":         nil,
		"com.atproto.sync.getCheckout":     nil,
		"com.atproto.sync.getLatestCommit": nil,
		"com.atproto.sync.getHead":         nil,
		"com.atproto.sync.getBlocks":       {"cids", ""}, // its head, below
		"com.atproto.sync.getRecord":       {"collection", note, "rkey", "none"},
		"com.atproto.sync.listBlobs":       nil,
	} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t)
			get := func(as, did string) answer {
				in := append([]string{"did", did}, params...)
				if i := slices.Index(in, "cids"); i >= 0 {
					in[i+1] = missing
					if h, err := w.host.Head(t.Context(), syntax.DID(did)); err == nil {
						in[i+1] = h.Commit.String()
					}
				}
				return w.call(as, method, q(in...), nil)
			}
			get("", alice).want(t, 200, "")
			get(bob, alice).want(t, 200, "")
			absent := "RepoNotFound"
			if method == "com.atproto.sync.getHead" {
				absent = "HeadNotFound"
			}
			get("", nobody).want(t, 400, absent)
			for did, name := range map[string]string{dora: "RepoDeactivated", sue: "RepoSuspended", tom: "RepoTakendown"} {
				get("", did).want(t, 400, name)
				get(alice, did).want(t, 400, name)
				get(did, did).want(t, 200, "")
				get("admin", did).want(t, 200, "")
			}
			get("nonsense", alice).want(t, 401, "AuthMissing")
			w.call("", method, nil, nil).want(t, 400, "InvalidRequest")
			get("", "alice.test").want(t, 400, "InvalidRequest") // handles name no repositories here
		})
	}
}

func TestGetRepo(t *testing.T) {
	w := newWorld(t)
	first := w.note(alice, "one", "x")
	w.note(alice, "two", "y")
	a := w.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "")
	r, err := commit.ReadRepo(bytes.NewReader(a.body), commit.RepoOptions{DID: alice})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var paths []string
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, rec.Path)
	}
	if diff := cmp.Diff([]string{note + "/one", note + "/two"}, paths); diff != "" || r.Root().String() != w.head(alice) {
		t.Error(diff, r.Root())
	}
	// Since a revision: less, but with the head and the newer record.
	roots, since := blocks(t, w.call("", "com.atproto.sync.getRepo", q("did", alice, "since", first.Commit.Rev), nil).want(t, 200, "").body)
	_, all := blocks(t, a.body)
	if len(roots) != 1 || roots[0] != r.Root() || since[r.Root()] == nil || len(since) > len(all) {
		t.Errorf("%d blocks of %d since %s, roots %v", len(since), len(all), first.Commit.Rev, roots)
	}
	if diff := cmp.Diff(a.body, w.call("", "com.atproto.sync.getCheckout", q("did", alice), nil).want(t, 200, "").body); diff != "" {
		t.Error("getCheckout is not getRepo")
	}
	w.call("", "com.atproto.sync.getRepo", q("did", ghost), nil).want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.sync.getRepo", q("did", alice, "since", "yesterday"), nil).want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.sync.getLatestCommit", q("did", ghost), nil).want(t, 400, "RepoNotFound").says(t, "Could not find root")
	w.call("", "com.atproto.sync.getHead", q("did", ghost), nil).want(t, 400, "HeadNotFound")
}

func TestGetRecordProof(t *testing.T) {
	w := newWorld(t)
	one := w.note(alice, "one", "x")
	w.note(alice, "hidden", "x")
	w.accounts[alice].Moderated = true
	for rkey, there := range map[string]bool{"one": true, "none": false, "hidden": true} { // what is taken down is still in the repository
		a := w.call("", "com.atproto.sync.getRecord", q("did", alice, "collection", note, "rkey", rkey), nil).want(t, 200, "")
		roots, list := blocks(t, a.body)
		if len(roots) != 1 || roots[0].String() != w.head(alice) || list[roots[0]] == nil {
			t.Errorf("%s: roots %v", rkey, roots)
		}
		if c, _ := cid.Decode(one.CID); (list[c] != nil) != there {
			t.Errorf("%s: record in the proof: %v", rkey, !there)
		}
	}
	w.call("", "com.atproto.sync.getRecord", q("did", ghost, "collection", note, "rkey", "one"), nil).want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.sync.getRecord", q("did", alice, "collection", note), nil).want(t, 400, "InvalidRequest")
}

func TestGetBlocks(t *testing.T) {
	w := newWorld(t)
	one := w.note(alice, "one", "x")
	roots, list := blocks(t, w.call("", "com.atproto.sync.getBlocks", q("did", alice, "cids", one.CID, "cids", one.Commit.CID), nil).want(t, 200, "").body)
	if len(roots) != 0 || len(list) != 2 {
		t.Errorf("roots %v, %d blocks", roots, len(list))
	}
	w.call("", "com.atproto.sync.getBlocks", q("did", alice, "cids", one.CID, "cids", missing), nil).want(t, 400, "InvalidRequest").says(t, "Could not find cids: "+missing)
	w.call("", "com.atproto.sync.getBlocks", q("did", alice, "cids", "x"), nil).want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.sync.getBlocks", q("did", bob, "cids", one.CID), nil).want(t, 400, "InvalidRequest") // another's
	many := q("did", alice)
	for range 1001 {
		many.Add("cids", one.CID)
	}
	w.call("", "com.atproto.sync.getBlocks", many, nil).want(t, 400, "InvalidRequest").says(t, "Too many cids")
}

func TestBlobs(t *testing.T) {
	w := newWorld(t)
	page := []byte("<html><script>alert(1)</script>")
	var refs, revs []string
	put := func(rkey string, b []byte) string {
		blob := w.upload(alice, "text/html", b)
		a := w.call(alice, "com.atproto.repo.putRecord", nil, obj("repo", alice, "collection", note, "rkey", rkey, "record", obj("b", blob)))
		refs = append(refs, refOf(blob))
		revs = append(revs, into[written](t, a.want(t, 200, "")).Commit.Rev)
		return refOf(blob)
	}
	ref := put("a", page)
	get := func(as, did, cid string) answer {
		return w.call(as, "com.atproto.sync.getBlob", q("did", did, "cid", cid), nil)
	}
	a := get("", alice, ref).want(t, 200, "")
	if !bytes.Equal(a.body, page) {
		t.Errorf("%q", a.body)
	}
	// It must not run in the host's origin.
	for name, want := range map[string]string{
		"Content-Type": "text/html", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
		"Content-Disposition": `attachment; filename="` + ref + `"`,
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	unused := w.upload(alice, "text/html", []byte("no record has this"))
	get("", alice, refOf(unused)).want(t, 400, "InvalidRequest").says(t, "Blob not found")
	get("", alice, missing).want(t, 400, "InvalidRequest").says(t, "Blob not found")
	get("", alice, "x").want(t, 400, "InvalidRequest")
	get("", bob, ref).want(t, 400, "InvalidRequest").says(t, "Blob not found")
	get("", nobody, ref).want(t, 400, "RepoNotFound")
	get("", dora, ref).want(t, 400, "RepoDeactivated")
	get("", tom, ref).want(t, 400, "RepoTakendown")

	// An object store may serve it, to whom may see it.
	where := "https://s3.example.com/signed"
	w.svc.BlobURL = func(_ context.Context, did syntax.DID, c cid.Cid) (string, error) {
		if string(did) != alice || c.String() != ref {
			t.Errorf("asked for %s of %s", c, did)
		}
		return where, nil
	}
	if a := get("", alice, ref).want(t, 302, ""); a.header.Get("Location") != where || a.header.Get("Cache-Control") != "no-store" || bytes.Contains(a.body, page) {
		t.Errorf("%v %s", a.header, a.body)
	}
	get("", alice, refOf(unused)).want(t, 400, "InvalidRequest")
	get("", tom, ref).want(t, 400, "RepoTakendown")
	where = ""
	get("", alice, ref).want(t, 200, "")
	w.svc.BlobURL = nil

	put("b", []byte("b"))
	put("c", []byte("c"))
	list := func(in ...string) (cids []string, cursor string) {
		t.Helper()
		out := into[struct {
			Cursor string
			CIDs   []string
		}](t, w.call("", "com.atproto.sync.listBlobs", q(append([]string{"did", alice}, in...)...), nil).want(t, 200, ""))
		return out.CIDs, out.Cursor
	}
	all, _ := list()
	if diff := cmp.Diff(slices.Sorted(slices.Values(refs)), slices.Sorted(slices.Values(all))); diff != "" {
		t.Error(diff)
	}
	var paged []string
	for cursor := ""; ; {
		cids, next := list("limit", "1", "cursor", cursor)
		if len(cids) == 0 {
			break
		}
		paged, cursor = append(paged, cids...), next
	}
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Error(diff)
	}
	if newer, _ := list("since", revs[1]); !cmp.Equal(newer, refs[2:]) {
		t.Errorf("since: %v", newer)
	}
	w.call("", "com.atproto.sync.listBlobs", q("did", alice, "cursor", "x"), nil).want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.sync.listBlobs", q("did", alice, "limit", "1001"), nil).want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.sync.listBlobs", q("did", alice, "since", "x"), nil).want(t, 400, "InvalidRequest")

	w.accounts[alice].Moderated = true
	w.hiddenBlob, _ = cid.Decode(ref)
	get("", alice, ref).want(t, 400, "InvalidRequest").says(t, "Blob not found")
	get("admin", alice, ref).want(t, 200, "")
	get("", alice, refs[1]).want(t, 200, "")
}

func TestGetRepoStatus(t *testing.T) {
	w := newWorld(t)
	type status struct {
		DID, Rev, Status string
		Active           bool
	}
	get := func(did string) answer {
		return w.call("", "com.atproto.sync.getRepoStatus", q("did", did), nil)
	}
	head, err := w.host.Head(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	for did, want := range map[string]status{
		alice: {alice, string(head.Rev), "", true}, dora: {dora, "", "deactivated", false}, sue: {sue, "", "suspended", false}, tom: {tom, "", "takendown", false},
	} {
		if got := into[status](t, get(did).want(t, 200, "")); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	get(nobody).want(t, 400, "RepoNotFound").says(t, "Could not find repo for DID: "+nobody)
	get("alice.test").want(t, 400, "InvalidRequest")
}

func TestListRepos(t *testing.T) {
	w := newWorld(t)
	list := func(in ...string) (repos []string, cursor string) {
		t.Helper()
		out := into[struct {
			Cursor string
			Repos  []struct {
				DID, Head, Rev, Status string
				Active                 bool
			}
		}](t, w.call("", "com.atproto.sync.listRepos", q(in...), nil).want(t, 200, ""))
		for _, r := range out.Repos {
			if r.Head == "" || r.Rev == "" {
				t.Errorf("%+v", r)
			}
			repos = append(repos, fmt.Sprintf("%s %v %s", strings.TrimRight(w.suffix(r.DID), "a"), r.Active, r.Status))
		}
		return repos, out.Cursor
	}
	// In the order of creation, two within one second; without those that have no repository.
	want := []string{"alice true ", "bob true ", "dor false deactivated", "sue false suspended", "tom false takendown"}
	all, _ := list()
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	var paged []string
	for cursor := ""; ; {
		repos, next := list("limit", "1", "cursor", cursor)
		if next == "" {
			break
		}
		paged, cursor = append(paged, repos...), next
	}
	if diff := cmp.Diff(want, paged); diff != "" {
		t.Error(diff)
	}
	for _, cursor := range []string{"x", "1::", "::" + alice, "x::" + alice, "1"} {
		w.call("", "com.atproto.sync.listRepos", q("cursor", cursor), nil).want(t, 400, "InvalidRequest")
	}
	w.call("", "com.atproto.sync.listRepos", q("limit", "1001"), nil).want(t, 400, "InvalidRequest")
}

// suffix is a did:plc without what all have in common.
func (w *world) suffix(did string) string { return strings.TrimPrefix(did, "did:plc:") }

// The stream's messages are as their schema says, and a follower who believes nothing believes
// them.
func TestSubscribeRepos(t *testing.T) {
	testenv.NotOnJS(t, "there are no WebSocket connections")
	w := newWorld(t)
	w.note(alice, "one", "x")
	w.note(bob, "one", "x")
	w.call("", "com.atproto.sync.subscribeRepos", nil, nil).want(t, 426, "InvalidRequest") // no WebSocket
	srv := httptest.NewServer(http.Handler(w.srv))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := &stream.Follower{
		Consumer: stream.Consumer{URL: srv.URL + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: new(int64)},
		Verifier: &commit.Verifier{Key: func(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) { return w.key.PublicKey(), nil }},
	}
	var seen []string
	for m, err := range f.Messages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Err != nil || m.Commit == nil {
			t.Fatalf("%s: %v", m.Frame.Kind, m.Err)
		}
		v, err := data.Decode(m.Frame.Payload, data.Limits{})
		if err == nil {
			err = schemas.ValidateMessage("com.atproto.sync.subscribeRepos", m.Frame.Kind, v)
		}
		if err != nil {
			t.Error(err)
		}
		seen = append(seen, fmt.Sprintf("%s %d", strings.TrimRight(w.suffix(string(m.DID)), "a"), len(m.Commit.Ops)))
		if len(seen) == 7 {
			break
		}
	}
	if diff := cmp.Diff([]string{"alice 0", "bob 0", "dor 0", "sue 0", "tom 0", "alice 1", "bob 1"}, seen); diff != "" {
		t.Error(diff)
	}
}
