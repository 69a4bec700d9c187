package readafter

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

const (
	alice = "did:plc:alice7aliceliceali23aaaa"
	bob   = "did:plc:bobbobbobbobbobbobbobbob"
)

// account is a repository with one record that the AppView knows.
type account struct {
	t    testing.TB
	host *repo.Host
	rev  syntax.TID // that the AppView has
}

func newAccount(t testing.TB) *account {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	a := &account{t: t}
	a.host = repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	if _, err := a.host.Create(t.Context(), alice, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	a.put("app.bsky.feed.like/3aaaaaaaaaa2a", map[string]any{"createdAt": "2024-01-01T00:00:00.000Z"})
	head, err := a.host.Head(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	a.rev = head.Rev
	return a
}

// put writes a record and returns its URI.
func (a *account) put(path string, record map[string]any) string {
	a.t.Helper()
	collection, rkey, err := syntax.ParsePath(path)
	if err != nil {
		a.t.Fatal(err)
	}
	record["$type"] = string(collection)
	cbor, err := data.Encode(record)
	if err != nil {
		a.t.Fatal(err)
	}
	w := repo.Write{Action: repo.Put, Collection: collection, RKey: rkey, Record: cbor}
	if _, err := a.host.Apply(a.t.Context(), alice, repo.Batch{Writes: []repo.Write{w}}); err != nil {
		a.t.Fatal(err)
	}
	return "at://" + alice + "/" + path
}

// post writes a post.
func (a *account) post(rkey, text string, more map[string]any) string {
	record := map[string]any{"text": text, "createdAt": "2026-01-01T00:00:00.000Z"}
	for k, v := range more {
		record[k] = v
	}
	return a.put("app.bsky.feed.post/"+rkey, record)
}

func (a *account) load(rev syntax.TID) (l *local) {
	a.t.Helper()
	err := a.host.View(a.t.Context(), alice, func(r storage.Reader) (err error) {
		l, err = load(a.t.Context(), r, alice, rev)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return l
}

// replyTo is the member "reply" of a post.
func replyTo(root, parent string) map[string]any {
	ref := func(uri string) map[string]any { return map[string]any{"uri": uri, "cid": someCID} }
	return map[string]any{"reply": map[string]any{"root": ref(root), "parent": ref(parent)}}
}

const someCID = "bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"

func TestLoad(t *testing.T) {
	a := newAccount(t)
	if l := a.load(a.rev); l != nil {
		t.Errorf("nothing is new, got %+v", l)
	}
	a.put("app.bsky.feed.like/3aaaaaaaaaa2b", map[string]any{"createdAt": "2024-01-01T00:00:00.000Z"})
	if l := a.load(a.rev); l != nil {
		t.Errorf("nothing to show is new, got %+v", l)
	}
	// Record keys in another order than the writes.
	first, second := a.post("3zzzzzzzzzz2a", "first", nil), a.post("3zaaaaaaaaa2a", "second", nil)
	a.put("app.bsky.feed.post/3zzzzzzzzzz2b", map[string]any{"text": "no post", "reply": "of no kind"})
	l := a.load(a.rev)
	if l == nil || len(l.Posts) != 2 || l.Posts[0].URI != first || l.Posts[1].URI != second || l.Profile != nil {
		t.Fatalf("got %+v", l)
	}
	head, _ := a.host.Head(t.Context(), alice)
	a.put("app.bsky.actor.profile/self", map[string]any{"displayName": "Alice", "avatar": "of no kind"})
	if l := a.load(head.Rev); l != nil {
		t.Errorf("a profile that is none: %+v", l)
	}
	a.put("app.bsky.actor.profile/self", map[string]any{"displayName": "Alice"})
	if l := a.load(head.Rev); l == nil || l.Profile == nil || l.ProfileChanged.IsZero() || l.Posts != nil {
		t.Errorf("got %+v", l)
	}
	head, _ = a.host.Head(t.Context(), alice)
	a.post("3zzzzzzzzzz2c", "third", nil)
	if l := a.load(head.Rev); l == nil || l.Profile == nil || !l.ProfileChanged.IsZero() || len(l.Posts) != 1 {
		t.Errorf("got %+v", l)
	}
}

// TestLoadAfterMove: of an account that has just moved here, an AppView knows an
// older revision than that of any record.
func TestLoadAfterMove(t *testing.T) {
	a := newAccount(t)
	a.post("3zzzzzzzzzz2a", "old", nil)
	a.put("app.bsky.actor.profile/self", map[string]any{"displayName": "Alice"})
	if l := a.load("3aaaaaaaaaa2a"); l != nil {
		t.Errorf("got %+v", l)
	}
}

func TestLoadIsBounded(t *testing.T) {
	a := newAccount(t)
	for i := range maxPosts + 5 {
		a.post(fmt.Sprintf("3zzzzzzzz%02d2a", i), fmt.Sprint(i), nil)
	}
	l := a.load(a.rev)
	if len(l.Posts) != maxPosts {
		t.Errorf("%d posts", len(l.Posts))
	}
	if want := fmt.Sprintf("3zzzzzzzz%02d2a", maxPosts+4); l.Posts[maxPosts-1].URI != "at://"+alice+"/app.bsky.feed.post/"+want {
		t.Errorf("the newest is %s", l.Posts[maxPosts-1].URI)
	}
}

// Posts and a profile of almost a megabyte each, which schemas do not allow, but a client may write
// without validation, are not held in memory for every answer.
func TestLoadOfLargeRecords(t *testing.T) {
	a := newAccount(t)
	huge := strings.Repeat("\x00", 900_000)
	a.put("app.bsky.actor.profile/self", map[string]any{"displayName": huge})
	for i := range 10 {
		a.post(fmt.Sprintf("3zaaaaaaaaa2%c", 'a'+i), huge, nil)
	}
	size := func(l *local) (n int) {
		for _, p := range l.Posts {
			n += len(p.JSON)
		}
		return n
	}
	if l := a.load(a.rev); l != nil && (l.Profile != nil || size(l) > 0) {
		t.Errorf("a profile of %d bytes, posts of %d", len(l.Profile.DisplayName), size(l))
	}
	// The newest that fit are shown; of many of middle size, not all.
	small := a.post("3zzzzzzzzzz2z", "hello", nil)
	if l := a.load(a.rev); l == nil || len(l.Posts) != 1 || l.Posts[0].URI != small {
		t.Errorf("%+v", l)
	}
	for i := range 40 {
		a.post(fmt.Sprintf("3zzzzzzzzzz3%c", '2'+i%6)+fmt.Sprint(i), strings.Repeat("\x00", 20_000), nil)
	}
	if l := a.load(a.rev); l == nil || len(l.Posts) < 5 || size(l) > 6*maxBytes {
		t.Errorf("%d posts, %d bytes", len(l.Posts), size(l))
	}
}
