package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/stream"
)

const subscribeRepos = "/xrpc/com.atproto.sync.subscribeRepos"

// TestEndToEnd drives the server as clients and relays do: two accounts, 500
// records in several collections, updates, deletes, a blob; a follower that
// inverts and verifies every commit and ends up with what getRepo exports; a
// restart; and on from the last cursor.
func TestEndToEnd(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	p := start(t, dir)
	alice, bob := p.register("alice"), p.register("bob")

	f := newFollower(t, p)
	want := map[syntax.DID]map[string]string{alice.DID: {}, bob.DID: {}}
	rng := rand.New(rand.NewPCG(1, 2))
	writeRecords(t, rng, alice, want[alice.DID], 300)
	writeRecords(t, rng, bob, want[bob.DID], 200)
	blob := writeBlob(t, alice, want[alice.DID])
	f.until(p, map[syntax.DID]syntax.TID{alice.DID: latest(t, alice), bob.DID: latest(t, bob)})
	f.compare(want)
	for _, u := range []*user{alice, bob} {
		f.compareExport(u)
	}

	// Ctrl-C; all is there again under the same address.
	p.interrupt()
	p = start(t, dir, p.port())
	for _, line := range p.out {
		if strings.Contains(line, "shown only now") {
			t.Error("the admin password is shown at the second start")
		}
	}
	checkBlob(t, alice, blob)
	writeRecords(t, rng, alice, want[alice.DID], 40)
	f.until(p, map[syntax.DID]syntax.TID{alice.DID: latest(t, alice), bob.DID: latest(t, bob)})
	f.compare(want)

	// A crash loses nothing that was answered.
	writeRecords(t, rng, bob, want[bob.DID], 40)
	p.kill()
	p = start(t, dir, p.port())
	writeRecords(t, rng, bob, want[bob.DID], 10)
	f.until(p, map[syntax.DID]syntax.TID{bob.DID: latest(t, bob)})
	f.compare(want)
	f.compareExport(bob)

	var session struct{ DID syntax.DID }
	if err := alice.Query(ctx, "com.atproto.server.getSession", nil, &session); err != nil || session.DID != alice.DID {
		t.Errorf("session after restarts: %v %v", session, err)
	}
	p.interrupt()
	checkModes(t, dir)
}

// writeRecords makes n writes, most of them creates, and keeps account of what must be there.
func writeRecords(t *testing.T, rng *rand.Rand, u *user, want map[string]string, n int) {
	t.Helper()
	collections := []string{"app.bsky.feed.post", "app.bsky.feed.generator", "com.example.note", "com.example.deep.nested.thing"}
	for i := range n {
		collection := collections[rng.IntN(len(collections))]
		record := map[string]any{
			"$type": collection, "text": fmt.Sprintf("record %d of %s", rng.Uint32(), u.Handle), "createdAt": syntax.NewDatetime(time.Now()),
		}
		if collection == "app.bsky.feed.generator" {
			record["did"], record["displayName"] = u.DID, fmt.Sprint(rng.Uint32())
		}
		paths := sortedKeys(want)
		pick := func() string { return paths[rng.IntN(len(paths))] }
		var out struct{ URI, CID string }
		switch r := rng.IntN(20); {
		case r < 2 && len(paths) > 0: // update
			path := pick()
			collection, rkey, _ := strings.Cut(path, "/")
			record["$type"] = collection
			record["did"], record["displayName"] = u.DID, fmt.Sprint(rng.Uint32())
			u.call(t, "com.atproto.repo.putRecord", map[string]any{"repo": u.DID, "collection": collection, "rkey": rkey, "record": record}, &out)
			want[path] = out.CID
		case r < 4 && len(paths) > 0: // delete
			path := pick()
			collection, rkey, _ := strings.Cut(path, "/")
			u.call(t, "com.atproto.repo.deleteRecord", map[string]any{"repo": u.Handle, "collection": collection, "rkey": rkey}, nil)
			delete(want, path)
		case r < 5 && len(paths) > 0: // several at once
			gone := pick()
			goneCollection, goneKey, _ := strings.Cut(gone, "/")
			var out struct{ Results []struct{ URI, CID string } }
			u.call(t, "com.atproto.repo.applyWrites", map[string]any{"repo": u.DID, "writes": []any{
				map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": goneCollection, "rkey": goneKey},
				map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "value": record},
				map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": fmt.Sprintf("3jzfcijpj%s%s%s%s", letter(i), letter(i/32), letter(i/1024), "2"), "value": record},
			}}, &out)
			delete(want, gone)
			for _, res := range out.Results[1:] {
				want[pathOf(res.URI)] = res.CID
			}
		default:
			u.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": u.DID, "collection": collection, "record": record}, &out)
			want[pathOf(out.URI)] = out.CID
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	// Map order would make the test's choices differ from run to run.
	for i := 1; i < len(keys); i++ {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// pathOf is the path in an at:// URI.
func pathOf(uri string) string {
	parts := strings.SplitN(uri, "/", 4)
	return parts[3]
}

// picture is a blob that says what it is.
var picture = append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), bytes.Repeat([]byte("pixels"), 20_000)...)

// writeBlob uploads a blob and refers to it.
func writeBlob(t *testing.T, u *user, want map[string]string) (ref string) {
	t.Helper()
	var up struct{ Blob json.RawMessage }
	if err := u.Upload(context.Background(), "com.atproto.repo.uploadBlob", "*/*", bytes.NewReader(picture), &up); err != nil {
		t.Fatal(err)
	}
	var blob struct {
		Ref struct {
			Link string `json:"$link"`
		}
		MimeType string
		Size     int
	}
	if err := json.Unmarshal(up.Blob, &blob); err != nil {
		t.Fatal(err)
	}
	if blob.MimeType != "image/png" || blob.Size != len(picture) {
		t.Errorf("uploaded blob is %+v", blob)
	}
	err := u.Query(context.Background(), "com.atproto.sync.getBlob", url.Values{"did": {string(u.DID)}, "cid": {blob.Ref.Link}}, nil)
	if !errors.Is(err, &xrpc.Error{Status: 400, Name: "InvalidRequest"}) {
		t.Errorf("a blob that no record refers to: %v", err)
	}
	var out struct{ URI, CID string }
	u.call(t, "com.atproto.repo.putRecord", map[string]any{
		"repo": u.DID, "collection": "app.bsky.actor.profile", "rkey": "self",
		"record": map[string]any{"$type": "app.bsky.actor.profile", "avatar": up.Blob},
	}, &out)
	want["app.bsky.actor.profile/self"] = out.CID
	checkBlob(t, u, blob.Ref.Link)
	return blob.Ref.Link
}

func checkBlob(t *testing.T, u *user, ref string) {
	t.Helper()
	ctx := context.Background()
	resp, err := u.Get(ctx, "com.atproto.sync.getBlob", url.Values{"did": {string(u.DID)}, "cid": {ref}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || sha256.Sum256(got) != sha256.Sum256(picture) {
		t.Errorf("downloaded blob differs (%d bytes, %v)", len(got), err)
	}
	if h := resp.Header; h.Get("Content-Type") != "image/png" || h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("headers of a blob: %v", h)
	}
	var list struct{ CIDs []string }
	if err := u.Query(ctx, "com.atproto.sync.listBlobs", url.Values{"did": {string(u.DID)}}, &list); err != nil || !cmp.Equal(list.CIDs, []string{ref}) {
		t.Errorf("listBlobs: %v %v", list, err)
	}
}

func latest(t *testing.T, u *user) syntax.TID {
	t.Helper()
	var out struct{ Rev syntax.TID }
	if err := u.Query(context.Background(), "com.atproto.sync.getLatestCommit", url.Values{"did": {string(u.DID)}}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Rev
}

// follower replays the firehose like a relay that trusts nobody.
type follower struct {
	t      *testing.T
	cursor int64
	seen   int64 // newest sequence number, across connections
	keys   map[syntax.DID]*crypto.PublicKey
	plc    *identity.PLCClient
	verify commit.Verifier
	states map[syntax.DID]commit.State
	repos  map[syntax.DID]map[string]string
	kinds  map[syntax.DID][]string // of the messages before the first record

	replayed []event // all that it was sent
}

func newFollower(t *testing.T, p *process) *follower {
	f := &follower{
		t: t, keys: map[syntax.DID]*crypto.PublicKey{}, states: map[syntax.DID]commit.State{},
		repos: map[syntax.DID]map[string]string{}, kinds: map[syntax.DID][]string{},
	}
	for _, line := range p.out {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "PLC"); ok {
			f.plc = &identity.PLCClient{URL: urlPattern.FindString(rest), Verify: true}
		}
	}
	f.verify.Key = func(_ context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) { return f.key(did), nil }
	return f
}

// key returns the signing key that the directory's verified log has for an account.
func (f *follower) key(did syntax.DID) *crypto.PublicKey {
	if f.keys[did] == nil {
		doc, err := f.plc.Resolve(context.Background(), did)
		if err != nil {
			f.t.Fatal(err)
		}
		if f.keys[did], err = doc.SigningKey(); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.keys[did]
}

// until follows the stream from the cursor until it has seen the given revisions.
func (f *follower) until(p *process, revs map[syntax.DID]syntax.TID) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &f.cursor}
	for frame, err := range c.Frames(ctx) {
		if err != nil {
			f.t.Fatalf("firehose: %v (seen up to %d)", err, f.seen)
		}
		f.frame(frame)
		missing := false
		for did, rev := range revs {
			missing = missing || f.states[did].Rev < rev
		}
		if !missing {
			break
		}
	}
	f.cursor = f.seen
}

func (f *follower) frame(frame stream.Frame) {
	t := f.t
	if frame.Seq <= f.seen {
		t.Fatalf("sequence number %d after %d", frame.Seq, f.seen)
	}
	f.seen = frame.Seq
	f.replayed = append(f.replayed, event{frame.Seq, sha256.Sum256(frame.Payload)})
	switch frame.Kind {
	case commit.KindCommit:
		e, err := commit.DecodeEvent(frame.Payload)
		if err != nil {
			t.Fatal(err)
		}
		f.commit(e)
		if len(f.repos[e.Repo]) == 0 {
			f.kinds[e.Repo] = append(f.kinds[e.Repo], frame.Kind)
		}
	case commit.KindSync:
		s, err := commit.DecodeSync(frame.Payload)
		if err != nil {
			t.Fatal(err)
		}
		st, err := f.verify.Sync(context.Background(), f.states[s.DID], s)
		if err != nil || st != f.states[s.DID] {
			t.Errorf("#sync announces %v, the last commit %v (%v)", st, f.states[s.DID], err)
		}
		f.kinds[s.DID] = append(f.kinds[s.DID], frame.Kind)
	case commit.KindIdentity:
		m, err := commit.DecodeIdentity(frame.Payload)
		if err != nil {
			t.Fatal(err)
		}
		f.kinds[m.DID] = append(f.kinds[m.DID], frame.Kind)
	case commit.KindAccount:
		m, err := commit.DecodeAccount(frame.Payload)
		if err != nil || !m.Active {
			t.Fatal(m, err)
		}
		f.kinds[m.DID] = append(f.kinds[m.DID], frame.Kind)
	default:
		t.Errorf("unexpected frame %s", frame.Kind)
	}
}

// commit verifies a commit, inverts it back to prevData by hand, and replays it.
func (f *follower) commit(e *commit.Event) {
	t := f.t
	if f.repos[e.Repo] == nil {
		f.repos[e.Repo] = map[string]string{}
	}
	repo, last := f.repos[e.Repo], f.states[e.Repo]
	next, records, err := f.verify.Commit(context.Background(), last, e)
	if err != nil {
		t.Fatalf("commit %d: %v", e.Seq, err)
	}
	_, blocks, err := car.ReadAll(e.Blocks, car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	source := mst.BlockMap{}
	for _, b := range blocks {
		source[b.CID] = b.Data
	}
	tree, err := mst.Open(source, next.Data, mst.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var undo []mst.InvertOp
	for _, op := range e.Ops {
		undo = append(undo, mst.InvertOp{Key: op.Path, Value: op.CID, Prev: op.Prev})
		if had, claimed := repo[op.Path], op.Prev; had != text(claimed) {
			t.Fatalf("commit %d: %s was %q, the operation says %q", e.Seq, op.Path, had, text(claimed))
		}
		if op.CID.Defined() {
			repo[op.Path] = op.CID.String()
			if len(records[op.Path]) == 0 {
				t.Errorf("commit %d has no record for %s", e.Seq, op.Path)
			}
		} else {
			delete(repo, op.Path)
		}
	}
	before, err := mst.Invert(tree, undo)
	if err != nil {
		t.Fatalf("invert commit %d: %v", e.Seq, err)
	}
	switch {
	case last == commit.State{}:
		if e.PrevData.Defined() || !before.IsEmpty() {
			t.Errorf("the first commit follows %v", e.PrevData)
		}
	case before.Root() != e.PrevData || e.PrevData != last.Data || e.Since != last.Rev:
		t.Errorf("commit %d inverts to %s, prevData is %s, the last commit had %s", e.Seq, before.Root(), e.PrevData, last.Data)
	}
	f.states[e.Repo] = next
}

func text(c cid.Cid) string {
	if !c.Defined() {
		return ""
	}
	return c.String()
}

// compare holds the replayed repositories against what was written.
func (f *follower) compare(want map[syntax.DID]map[string]string) {
	f.t.Helper()
	for did, repo := range want {
		if diff := cmp.Diff(repo, f.repos[did]); diff != "" {
			f.t.Errorf("replay of %s (-written +replayed):\n%s", did, diff)
		}
		if diff := cmp.Diff([]string{"#identity", "#account", "#commit", "#sync"}, f.kinds[did]); diff != "" {
			f.t.Errorf("first messages of %s:\n%s", did, diff)
		}
	}
}

// compareExport verifies an export (signature, DID, CIDs, tree) and holds it against
// the replay.
func (f *follower) compareExport(u *user) {
	t := f.t
	t.Helper()
	resp, err := u.Get(context.Background(), "com.atproto.sync.getRepo", url.Values{"did": {string(u.DID)}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rd, err := commit.ReadRepo(resp.Body, commit.RepoOptions{DID: u.DID, Key: f.key(u.DID), Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	got := map[string]string{}
	for rec, err := range rd.Records() {
		if err != nil {
			t.Fatal(err)
		}
		got[rec.Path] = rec.CID.String()
	}
	if diff := cmp.Diff(f.repos[u.DID], got); diff != "" {
		t.Errorf("export of %s (-replayed +exported):\n%s", u.DID, diff)
	}
	if st := f.states[u.DID]; rd.Commit().Data != st.Data || rd.Commit().Rev != st.Rev {
		t.Errorf("exported commit is %v, the last in the stream %v", rd.Commit(), st)
	}
}

// checkModes looks for files of the data directory that others may read.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// letter is a digit of a TID.
func letter(i int) string { return string("234567abcdefghijklmnopqrstuvwxyz"[i%32]) }
