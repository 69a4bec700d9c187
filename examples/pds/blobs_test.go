package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

// blob is a reference to an upload.
type blob struct {
	Type string `json:"$type"`
	Ref  struct {
		Link string `json:"$link"`
	} `json:"ref"`
	MIME string `json:"mimeType"`
	Size int    `json:"size"`
}

func (u *user) upload(t *testing.T, contentType string, content []byte) (out blob, err error) {
	t.Helper()
	var up struct{ Blob json.RawMessage }
	if err := u.Upload(t.Context(), "com.atproto.repo.uploadBlob", contentType, bytes.NewReader(content), &up); err != nil {
		return out, err
	}
	return out, json.Unmarshal(up.Blob, &out)
}

// refer writes a profile with a picture.
func (u *user) refer(t *testing.T, avatar blob) error {
	return u.Procedure(t.Context(), "com.atproto.repo.putRecord", map[string]any{
		"repo": u.DID, "collection": "app.bsky.actor.profile", "rkey": "self",
		"record": map[string]any{"$type": "app.bsky.actor.profile", "avatar": avatar},
	}, nil)
}

func TestBlobs(t *testing.T) {
	n := newNetwork(t)
	limit, quota := len(picture)+1000, len(picture)+4000
	b := n.start(map[string]string{"PDS_BLOB_ACCOUNT_QUOTA": fmt.Sprint(quota), "PDS_BLOB_UPLOAD_LIMIT": fmt.Sprint(limit)})
	alice, bob := b.register("alice"), b.register("bob")

	// What the bytes are counts, if they say.
	page := []byte("<!DOCTYPE html><script>alert(1)</script>")
	for _, tt := range []struct {
		declared string
		content  []byte
		want     string
	}{
		{"text/plain", picture, "image/png"}, {"*/*", picture, "image/png"}, {"text/plain; charset=utf-8", []byte("hello"), "text/plain"},
		{"*/*", []byte{1, 2, 3}, "application/octet-stream"}, {"video/mp4", []byte{1, 2, 4}, "video/mp4"}, {"image/png", nil, "image/png"},
	} {
		if up, err := alice.upload(t, tt.declared, tt.content); err != nil || up.MIME != tt.want || up.Size != len(tt.content) || up.Type != "blob" {
			t.Errorf("%s: %+v %v", tt.declared, up, err)
		}
	}
	_, err := alice.upload(t, "no/such/type", []byte("x"))
	fails(t, err, 400, "InvalidRequest")

	// A record must say of a blob what it is.
	up, err := alice.upload(t, "image/png", picture)
	if err != nil {
		t.Fatal(err)
	}
	wrong := up
	wrong.Size++
	fails(t, alice.refer(t, wrong), 400, "InvalidSize")
	wrong = up
	wrong.MIME = "image/jpeg"
	fails(t, alice.refer(t, wrong), 400, "InvalidMimeType")
	fails(t, bob.refer(t, up), 400, "BlobNotFound") // another account's
	did := url.Values{"did": {string(alice.DID)}, "cid": {up.Ref.Link}}
	fails(t, b.anonymous().Query(t.Context(), "com.atproto.sync.getBlob", did, nil), 400, "InvalidRequest")
	if err := alice.refer(t, up); err != nil {
		t.Fatal(err)
	}

	// Ranges, conditions, and headers that keep it from running.
	get := func(method string, header ...string) (*http.Response, []byte) {
		t.Helper()
		r, err := http.NewRequest(method, b.url+"/xrpc/com.atproto.sync.getBlob?"+did.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	}
	size := len(picture)
	res, body := get("GET", "Range", "bytes=4-9")
	if res.StatusCode != 206 || !bytes.Equal(body, picture[4:10]) || res.Header.Get("Content-Range") != fmt.Sprintf("bytes 4-9/%d", size) {
		t.Errorf("a range: %s %v", res.Status, res.Header)
	}
	if res, body = get("GET", "Range", "bytes=-4"); res.StatusCode != 206 || !bytes.Equal(body, picture[size-4:]) {
		t.Errorf("the end: %s", res.Status)
	}
	if res, _ = get("HEAD"); res.StatusCode != 200 || res.ContentLength != int64(size) {
		t.Errorf("HEAD: %s, %d bytes", res.Status, res.ContentLength)
	}
	if res, body = get("GET", "If-None-Match", res.Header.Get("ETag")); res.StatusCode != 304 || len(body) > 0 {
		t.Errorf("what the client has: %s", res.Status)
	}
	res, _ = get("GET")
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
		"Content-Disposition": fmt.Sprintf("attachment; filename=%q", up.Ref.Link),
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	// Bounds.
	_, err = alice.upload(t, "text/html", append(bytes.Clone(page), make([]byte, limit)...))
	fails(t, err, 413, "PayloadTooLarge")
	err = alice.Upload(t.Context(), "com.atproto.repo.uploadBlob", "text/html", io.MultiReader(bytes.NewReader(make([]byte, limit+1))), nil) // of unknown length
	fails(t, err, 413, "PayloadTooLarge")
	full, unit := false, quota/4-100
	for i := range 5 {
		_, err := bob.upload(t, "text/plain", bytes.Repeat([]byte{'a' + byte(i)}, unit))
		if full = err != nil; full {
			fails(t, err, 413, "BlobQuotaExceeded")
			if i != 4 {
				t.Errorf("%d blobs of %d bytes in %d", i, unit, quota)
			}
		}
	}
	if _, err := bob.upload(t, "text/plain", bytes.Repeat([]byte{'a'}, unit)); err != nil || !full {
		t.Errorf("a blob that is there: %v", err)
	}
	if _, err := bob.upload(t, "text/plain", bytes.Repeat([]byte{'z'}, 300)); err != nil {
		t.Errorf("a small blob: %v", err)
	}
}

// TestUploadLengthLies: a body that ends before or goes on after its declared length leaves no blob
// of another size.
func TestUploadLengthLies(t *testing.T) {
	n := newNetwork(t)
	b := n.start(nil)
	alice := b.register("alice")
	send := func(length int, body string, hangUp bool) (answer string) {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "POST /xrpc/com.atproto.repo.uploadBlob HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", alice.AccessJWT, length, body)
		if hangUp {
			c.(*net.TCPConn).CloseWrite()
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return fmt.Sprint(res.StatusCode, " ", string(text))
	}
	if got := send(10, "short", true); !strings.HasPrefix(got, "400 ") && !strings.Contains(got, "EOF") {
		t.Errorf("a short body: %s", got)
	}
	if got := send(5, "short and more", false); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"size":5`) {
		t.Errorf("a long body: %s", got)
	}
	if got := send(-1, "", true); !strings.HasPrefix(got, "400 ") {
		t.Errorf("a negative length: %s", got)
	}
	var list struct{ CIDs []string }
	if err := b.anonymous().Query(t.Context(), "com.atproto.sync.listBlobs", url.Values{"did": {string(alice.DID)}}, &list); err != nil || len(list.CIDs) != 0 {
		t.Errorf("blobs %v %v", list, err)
	}
}

// TestOptions: what the operator forbids or bounds.
func TestOptions(t *testing.T) {
	ctx := t.Context()
	n := newNetwork(t)
	b := n.start(map[string]string{"PDS_ACCEPTING_REPO_IMPORTS": "false", "PDS_INVITE_REQUIRED": "true", "PDS_INVITE_INTERVAL": "1"})
	var invite struct{ Code string }
	b.admin().call(t, "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}, &invite)
	register := func(name, code string) (*user, error) {
		u := &user{}
		err := b.anonymous().Procedure(ctx, "com.atproto.server.createAccount", map[string]any{
			"handle": name + ".test", "email": name + "@example.com", "password": "x", "inviteCode": code}, u)
		u.Client = &xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(u.AccessJWT)}
		return u, err
	}
	alice, err := register("alice", invite.Code)
	if err != nil {
		t.Fatal(err)
	}
	// The account earns five codes, of which others can make accounts.
	type codes struct {
		Codes []struct {
			Code      string
			CreatedBy string
			Uses      []any
		}
	}
	list := func(q url.Values) (out codes) {
		t.Helper()
		if err := alice.Query(ctx, "com.atproto.server.getAccountInviteCodes", q, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := list(url.Values{"createAvailable": {"false"}}); len(got.Codes) != 0 {
		t.Errorf("codes %+v", got)
	}
	deadline := time.Now().Add(time.Minute)
	got := list(nil)
	for len(got.Codes) < 5 && time.Now().Before(deadline) {
		got = list(nil)
	}
	if len(got.Codes) != 5 || got.Codes[0].CreatedBy != string(alice.DID) {
		t.Fatalf("codes %+v", got)
	}
	if _, err := register("bob", got.Codes[0].Code); err != nil {
		t.Error(err)
	}
	_, err = register("carol", got.Codes[0].Code)
	fails(t, err, 400, "InvalidInviteCode")
	if used := list(url.Values{"createAvailable": {"false"}, "includeUsed": {"true"}}); len(used.Codes) != 5 {
		t.Errorf("codes with the used one %+v", used)
	}
	if open := list(url.Values{"createAvailable": {"false"}, "includeUsed": {"false"}}); len(open.Codes) != 4 {
		t.Errorf("codes without the used one %+v", open)
	}
	err = alice.Upload(ctx, "com.atproto.repo.importRepo", "application/vnd.ipld.car", strings.NewReader("x"), nil)
	if !isError(err, 400, "InvalidRequest") || !strings.Contains(err.Error(), "not accepting repo imports") {
		t.Errorf("import: %v", err)
	}

	b = n.start(map[string]string{"PDS_MAX_REPO_IMPORT_SIZE": "100"})
	dora := b.register("dora")
	for name, body := range map[string]io.Reader{"a long CAR": strings.NewReader(strings.Repeat("x", 101)), "one of unknown length": io.MultiReader(bytes.NewReader(longHeader(200)))} {
		err := dora.Upload(ctx, "com.atproto.repo.importRepo", "application/vnd.ipld.car", body, nil)
		if !isError(err, 413, "PayloadTooLarge") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Answers to somebody are not for everybody's cache, the bad ones included.
	for _, token := range []string{"Bearer " + dora.AccessJWT, "Bearer x", ""} {
		r, err := http.NewRequest("GET", b.url+"/xrpc/com.atproto.server.getSession", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("Cache-Control") != "private" || !strings.Contains(strings.Join(res.Header.Values("Vary"), ","), "Authorization") {
			t.Errorf("%.10q: headers %v", token, res.Header)
		}
	}
}

// longHeader is the beginning of a CAR file whose header claims to be longer than all that follows.
func longHeader(n int) []byte {
	return append([]byte{0xc8, 0x01}, bytes.Repeat([]byte{0xa2}, n)...) // 200 bytes
}
