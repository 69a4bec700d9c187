package main_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// unpack unpacks a .tar.gz of files and folders.
func unpack(t *testing.T, name, dir string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpgradeFromTheFirstSchema: what a server of the first schema has kept is there, and works, in
// the present one. testdata/schema1.tar.gz is its folder with two accounts: alice has 20 posts, a
// profile with a picture, an app password, preferences; bob is taken down; an invite code is good
// for three. It stays as it is: files of that schema are opened for good.
func TestUpgradeFromTheFirstSchema(t *testing.T) {
	if os.Getenv("PDSKIT_PDS_BACKEND") != "" {
		t.Skip("the folder is that of a server on SQLite")
	}
	dir := t.TempDir()
	unpack(t, "testdata/schema1.tar.gz", dir)
	const (
		alice  = "did:plc:kk5nss3fbaxl4nh5mafluvsg"
		avatar = "bafkreico7dtd4mhtbij477thovlltnt5sxjx4q23g3zvspo5g4slcan6ri"
		head   = "bafyreib2jstqhkuhldcxlqj4ilnniip6zcyepqb2mdofcsqo43bcpithc4"
	)
	for round, posts := range []int{20, 21} { // upgraded, and opened again
		p := start(t, dir)
		var commit struct{ CID, Rev string }
		if err := p.anonymous().Query(t.Context(), "com.atproto.sync.getLatestCommit", url.Values{"did": {alice}}, &commit); err != nil {
			t.Fatal(err)
		}
		if (commit.CID == head) != (round == 0) {
			t.Errorf("round %d: the head is %s", round, commit.CID)
		}
		u, err := p.login(t, "alice.test", "a password of alice")
		if err != nil || u.DID != alice {
			t.Fatal(u.DID, err)
		}
		if _, err := p.login(t, "alice@example.com", "mfy3-wsrn-lnqm-qcj2"); err != nil {
			t.Error("the app password:", err)
		}
		_, err = p.login(t, "bob.test", "a password of bob")
		fails(t, err, 401, "AccountTakedown")
		var list struct {
			Records []struct{ Value struct{ Text string } }
		}
		if err := p.anonymous().Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {alice}, "collection": {"app.bsky.feed.post"}, "limit": {"50"}}, &list); err != nil || len(list.Records) != posts {
			t.Fatal(len(list.Records), err)
		}
		if oldest := list.Records[posts-1].Value.Text; oldest != "post 1" {
			t.Error(oldest)
		}
		resp, err := http.Get(p.url + "/xrpc/com.atproto.sync.getBlob?did=" + alice + "&cid=" + avatar)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || len(picture) != 3000 {
			t.Error("the picture:", resp.Status, len(picture), err)
		}
		var prefs struct{ Preferences []map[string]any }
		if err := u.Query(t.Context(), "app.bsky.actor.getPreferences", nil, &prefs); err != nil || fmt.Sprint(prefs.Preferences) != "[map[$type:app.bsky.actor.defs#adultContentPref enabled:false]]" {
			t.Error(prefs, err)
		}
		invited := map[string]string{
			"handle": fmt.Sprintf("carol%d.test", round), "email": fmt.Sprintf("carol%d@example.com", round), "password": "a password of carol",
			"inviteCode": "localhost-guka2-lxmyp",
		}
		if err := p.anonymous().Procedure(t.Context(), "com.atproto.server.createAccount", invited, new(any)); err != nil {
			t.Error("the invite code:", err)
		}
		u.call(t, "com.atproto.repo.createRecord", map[string]any{
			"repo": alice, "collection": "app.bsky.feed.post",
			"record": map[string]any{"$type": "app.bsky.feed.post", "text": "later", "createdAt": "2026-01-02T00:00:00Z"},
		}, nil)
		p.interrupt()
		newOperator(t, dir).fails(0, "All is well", "check")
	}
}
