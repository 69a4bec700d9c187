package main_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
)

// request makes a request and returns its status, error name, and body.
func request(t *testing.T, method, url, contentType, token string, body io.Reader) (status int, name, text string) {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var env struct{ Error, Message string }
	if resp.StatusCode >= 400 {
		if err := json.Unmarshal(b, &env); err != nil || env.Error == "" || env.Message == "" {
			t.Errorf("%s %s: status %d without the envelope: %q", method, url, resp.StatusCode, b)
		}
	}
	return resp.StatusCode, env.Error, string(b)
}

// TestBadRequests sends what no client should and expects the error of the
// protocol, and an unchanged repository.
func TestBadRequests(t *testing.T) {
	p := start(t, t.TempDir())
	alice, bob := p.register("alice"), p.register("bob")
	var post struct{ URI, CID string }
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{"text": "x"}}, &post)
	before := latest(t, alice)

	token := "Bearer " + alice.AccessJWT
	record := func(s string) string {
		return fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":%s}`, alice.DID, s)
	}
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	car := "application/vnd.ipld.car"
	otherRepo, _, export := request(t, "GET", p.url+"/xrpc/com.atproto.sync.getRepo?did="+string(bob.DID), "", "", nil)
	_, _, own := request(t, "GET", p.url+"/xrpc/com.atproto.sync.getRepo?did="+string(alice.DID), "", "", nil)
	if otherRepo != 200 {
		t.Fatal(otherRepo)
	}
	tests := []struct {
		name, method, nsid, contentType, token, body string
		status                                       int
		want                                         string
	}{
		{"no credentials", "POST", "repo.createRecord", "application/json", "", record(`{}`), 401, "AuthMissing"},
		{"a token that is none", "POST", "repo.createRecord", "application/json", "Bearer x.y.z", record(`{}`), 400, "InvalidToken"},
		{"the other kind of token", "POST", "repo.createRecord", "application/json", "Bearer " + alice.RefreshJWT, record(`{}`), 400, "InvalidToken"},
		{"an access token to refresh", "POST", "server.refreshSession", "", token, "", 400, "InvalidToken"},
		{"another scheme", "GET", "server.getSession", "", "Digest abc", "", 400, "InvalidToken"},
		{"a wrong admin password", "POST", "server.createInviteCode", "application/json", "Basic YWRtaW46YWRtaW4=", `{"useCount":1}`, 401, "AuthMissing"},
		{"malformed JSON", "POST", "repo.createRecord", "application/json", token, `{"repo":`, 400, "InvalidRequest"},
		{"no JSON", "POST", "repo.createRecord", "text/plain", token, `hello`, 400, "InvalidRequest"},
		{"no body", "POST", "repo.createRecord", "", token, ``, 400, "InvalidRequest"},
		{"a list for an object", "POST", "repo.createRecord", "application/json", token, `[]`, 400, "InvalidRequest"},
		{"wrong types", "POST", "repo.createRecord", "application/json", token, `{"repo":5,"collection":[],"record":"x"}`, 400, "InvalidRequest"},
		{"a string for a record", "POST", "repo.createRecord", "application/json", token, record(`"x"`), 400, "InvalidRequest"},
		{"a float", "POST", "repo.createRecord", "application/json", token, record(`{"n":1.5}`), 400, "InvalidRequest"},
		{"a huge integer", "POST", "repo.createRecord", "application/json", token, record(`{"n":99999999999999999999}`), 400, "InvalidRequest"},
		{"a malformed link", "POST", "repo.createRecord", "application/json", token, record(`{"l":{"$link":"bafy"}}`), 400, "InvalidRequest"},
		{"nested without end", "POST", "repo.createRecord", "application/json", token, record(deep), 400, "InvalidRequest"},
		{"a repeated key", "POST", "repo.createRecord", "application/json", token, record(`{"a":1,"a":2}`), 400, "InvalidRequest"},
		{"another $type", "POST", "repo.createRecord", "application/json", token, record(`{"$type":"com.example.other"}`), 400, "InvalidRequest"},
		{"no collection syntax", "POST", "repo.createRecord", "application/json", token, strings.Replace(record(`{}`), "com.example.note", "not a collection", 1), 400, "InvalidRequest"},
		{"no record key syntax", "POST", "repo.putRecord", "application/json", token, fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"a/b","record":{}}`, alice.DID), 400, "InvalidRequest"},
		{"an unknown lexicon with validate", "POST", "repo.createRecord", "application/json", token, strings.Replace(record(`{}`), "{", `{"validate":true,`, 1), 400, "InvalidRequest"},
		{"a record that exists", "POST", "repo.createRecord", "application/json", token, strings.Replace(record(`{}`), "{", `{"rkey":"one",`, 1), 400, "InvalidRequest"},
		{"somebody else's repository", "POST", "repo.createRecord", "application/json", token, strings.Replace(record(`{}`), string(alice.DID), string(bob.DID), 1), 401, "AuthenticationRequired"},
		{"an unknown repository", "POST", "repo.createRecord", "application/json", token, strings.Replace(record(`{}`), string(alice.DID), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", 1), 403, "AccountNotFound"},
		{"an oversized body", "POST", "repo.createRecord", "application/json", token, record(`{"t":"` + strings.Repeat("x", 1_100_000) + `"}`), 413, "PayloadTooLarge"},
		{"an oversized body elsewhere", "POST", "server.createSession", "application/json", "", `{"identifier":"` + strings.Repeat("x", 200_000) + `"}`, 413, "PayloadTooLarge"},
		{"swapCommit of another time", "POST", "repo.createRecord", "application/json", token, strings.Replace(record(`{}`), "{", fmt.Sprintf(`{"swapCommit":%q,`, post.CID), 1), 400, "InvalidSwap"},
		{"swapCommit of another time, of several", "POST", "repo.applyWrites", "application/json", token, fmt.Sprintf(`{"repo":%q,"writes":[],"swapCommit":%q}`, alice.DID, post.CID), 400, "InvalidSwap"},
		{"swapRecord of another value", "POST", "repo.deleteRecord", "application/json", token, fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"one","swapRecord":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"}`, alice.DID), 400, "InvalidSwap"},
		{"swapRecord null of a record", "POST", "repo.putRecord", "application/json", token, fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"one","record":{"text":"y"},"swapRecord":null}`, alice.DID), 400, "InvalidSwap"},
		{"a blob that was not uploaded", "POST", "repo.createRecord", "application/json", token, record(`{"b":{"$type":"blob","ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"image/png","size":1}}`), 400, "BlobNotFound"},
		{"one bad write of several", "POST", "repo.applyWrites", "application/json", token, fmt.Sprintf(`{"repo":%q,"writes":[{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.note","value":{}},{"$type":"com.atproto.repo.applyWrites#delete","collection":"com.example.note","rkey":"none"}]}`, alice.DID), 400, "InvalidRequest"},
		{"too many writes", "POST", "repo.applyWrites", "application/json", token, fmt.Sprintf(`{"repo":%q,"writes":[%s]}`, alice.DID, strings.TrimSuffix(strings.Repeat(`{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.note","value":{}},`, 201), ",")), 400, "InvalidRequest"},
		{"an unknown kind of write", "POST", "repo.applyWrites", "application/json", token, fmt.Sprintf(`{"repo":%q,"writes":[{"$type":"com.atproto.repo.applyWrites#move","collection":"com.example.note","rkey":"one"}]}`, alice.DID), 400, "InvalidRequest"},
		{"a CAR that is none", "POST", "repo.importRepo", car, token, "not a CAR", 400, "InvalidRequest"},
		{"an empty CAR", "POST", "repo.importRepo", car, token, "", 400, "InvalidRequest"},
		{"a torn CAR", "POST", "repo.importRepo", car, token, own[:len(own)-10], 400, "InvalidRequest"},
		{"a CAR with a changed byte", "POST", "repo.importRepo", car, token, own[:len(own)-5] + "\x00" + own[len(own)-4:], 400, "InvalidRequest"},
		{"the CAR of another account", "POST", "repo.importRepo", car, token, export, 400, "InvalidRequest"},
		{"a CAR as JSON", "POST", "repo.importRepo", "application/json", token, `{}`, 400, "InvalidRequest"},
		{"an upload without a type", "POST", "repo.uploadBlob", "", token, "x", 400, "InvalidRequest"},
		{"an oversized blob", "POST", "repo.uploadBlob", "image/png", token, strings.Repeat("x", 6<<20), 413, "PayloadTooLarge"},
		{"the wrong HTTP method", "GET", "repo.createRecord", "", token, "", 405, "InvalidRequest"},
		{"the other wrong HTTP method", "POST", "repo.getRecord", "", token, "", 405, "InvalidRequest"},
		{"an unknown method", "GET", "repo.noSuchMethod", "", "", "", 400, "InvalidRequest"},
		{"no method", "GET", "../..%2f", "", "", "", 400, "InvalidRequest"},
		{"a missing parameter", "GET", "repo.getRecord?repo=alice.test", "", "", "", 400, "InvalidRequest"},
		{"a limit out of range", "GET", "repo.listRecords?repo=alice.test&collection=com.example.note&limit=1000", "", "", "", 400, "InvalidRequest"},
		{"a limit that is no number", "GET", "repo.listRecords?repo=alice.test&collection=com.example.note&limit=ten", "", "", "", 400, "InvalidRequest"},
		{"a missing record", "GET", "repo.getRecord?repo=alice.test&collection=com.example.note&rkey=none", "", "", "", 400, "RecordNotFound"},
		{"records of nobody", "GET", "repo.listRecords?repo=nobody.test&collection=com.example.note", "", "", "", 400, "InvalidRequest"},
		{"the repository of nobody", "GET", "sync.getRepo?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "", "", "", 400, "RepoNotFound"},
		{"the status of nobody", "GET", "sync.getRepoStatus?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "", "", "", 400, "RepoNotFound"},
		{"missing blocks", "GET", "sync.getBlocks?did=" + string(alice.DID) + "&cids=bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi", "", "", "", 400, "InvalidRequest"},
		{"a malformed CID", "GET", "sync.getBlob?did=" + string(alice.DID) + "&cid=bafy", "", "", "", 400, "InvalidRequest"},
		{"a malformed cursor", "GET", "sync.listRepos?cursor=x", "", "", "", 400, "InvalidRequest"},
		{"a stream without WebSocket", "GET", "sync.subscribeRepos", "", "", "", 426, "InvalidRequest"},
		{"an unknown handle", "GET", "identity.resolveHandle?handle=nobody.test", "", "", "", 400, "InvalidRequest"},
		{"a malformed handle", "GET", "identity.resolveHandle?handle=no", "", "", "", 400, "InvalidRequest"},
		{"a wrong password", "POST", "server.createSession", "application/json", "", `{"identifier":"alice.test","password":"wrong"}`, 401, "AuthenticationRequired"},
		{"a handle that is taken", "POST", "server.createAccount", "application/json", "", `{"handle":"ALICE.test","email":"x@example.com","password":"x"}`, 400, "InvalidRequest"},
		{"an address that is taken", "POST", "server.createAccount", "application/json", "", `{"handle":"carol.test","email":"Alice@Example.com","password":"x"}`, 400, "InvalidRequest"},
		{"no address", "POST", "server.createAccount", "application/json", "", `{"handle":"carol.test","password":"x"}`, 400, "InvalidRequest"},
		{"a short handle", "POST", "server.createAccount", "application/json", "", `{"handle":"c.test","email":"c@example.com","password":"x"}`, 400, "InvalidHandle"},
		{"a handle with a dot", "POST", "server.createAccount", "application/json", "", `{"handle":"a.carol.test","email":"c@example.com","password":"x"}`, 400, "InvalidHandle"},
		{"a handle elsewhere", "POST", "server.createAccount", "application/json", "", `{"handle":"carol.example.org","email":"c@example.com","password":"x"}`, 400, "UnsupportedDomain"},
		{"a reserved handle", "POST", "server.createAccount", "application/json", "", `{"handle":"admin.test","email":"c@example.com","password":"x"}`, 400, "HandleNotAvailable"},
		{"somebody else's DID", "POST", "server.createAccount", "application/json", "", fmt.Sprintf(`{"handle":"carol.test","email":"c@example.com","password":"x","did":%q}`, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), 401, "AuthenticationRequired"},
		{"a plcOp", "POST", "server.createAccount", "application/json", "", `{"handle":"carol.test","email":"c@example.com","password":"x","plcOp":{}}`, 400, "InvalidRequest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var body io.Reader
			if tt.method == "POST" {
				body = strings.NewReader(tt.body)
			}
			status, name, text := request(t, tt.method, p.url+"/xrpc/com.atproto."+tt.nsid, tt.contentType, tt.token, body)
			if status != tt.status || name != tt.want {
				t.Errorf("status %d %s, want %d %s: %.200s", status, name, tt.status, tt.want, text)
			}
		})
	}
	if after := latest(t, alice); after != before {
		t.Errorf("the repository went from %s to %s", before, after)
	}
}

// TestSessions follows a session through its life.
func TestSessions(t *testing.T) {
	ctx := context.Background()
	p := start(t, t.TempDir())
	alice := p.register("alice")
	refresh := func(token string) (out user, err error) {
		c := &xrpc.Client{Host: p.url, Authorize: xrpc.Bearer(token)}
		err = c.Procedure(ctx, "com.atproto.server.refreshSession", nil, &out)
		return out, err
	}
	for _, id := range []string{"alice.test", "ALICE.test", string(alice.DID), "alice@example.com"} {
		var s struct {
			user
			Active bool
			DIDDoc json.RawMessage
			Email  string
		}
		err := p.anonymous().Procedure(ctx, "com.atproto.server.createSession", map[string]string{"identifier": id, "password": "password of alice"}, &s)
		if err != nil || s.user.DID != alice.DID || s.Handle != "alice.test" || !s.Active || s.Email != "alice@example.com" || len(s.DIDDoc) == 0 {
			t.Errorf("createSession %s: %+v %v", id, s, err)
		}
	}
	first, err := refresh(alice.RefreshJWT)
	if err != nil || first.DID != alice.DID || first.AccessJWT == "" {
		t.Fatal(first, err)
	}
	again, err := refresh(alice.RefreshJWT) // the answer was lost
	if err != nil {
		t.Fatal(err)
	}
	if claim(t, first.RefreshJWT, "jti") != claim(t, again.RefreshJWT, "jti") {
		t.Error("a token used twice has two successors")
	}
	status, _, body := request(t, "POST", p.url+"/xrpc/com.atproto.server.deleteSession", "", "Bearer "+first.RefreshJWT, nil)
	if status != 200 || body != "" {
		t.Errorf("deleteSession: %d %q", status, body)
	}
	if _, err := refresh(first.RefreshJWT); !isError(err, 400, "ExpiredToken") {
		t.Errorf("refresh after deleteSession: %v", err)
	}
}

func isError(err error, status int, name string) bool {
	e, ok := err.(*xrpc.Error)
	return ok && e.Status == status && e.Name == name
}

// claim reads a claim of a token without verifying it.
func claim(t *testing.T, token, name string) any {
	t.Helper()
	var claims map[string]any
	part := strings.Split(token, ".")[1]
	if err := json.NewDecoder(base64.NewDecoder(base64.RawURLEncoding, strings.NewReader(part))).Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims[name]
}

// TestImport moves records with importRepo: the new commit is later, the
// records are those of the file, and missing blobs are listed until they are uploaded.
func TestImport(t *testing.T) {
	ctx := context.Background()
	p := start(t, t.TempDir())
	alice := p.register("alice")
	want := map[string]string{}
	writeBlob(t, alice, want)
	_, _, file := request(t, "GET", p.url+"/xrpc/com.atproto.sync.getRepo?did="+string(alice.DID), "", "", nil)
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{}}, nil)
	before := latest(t, alice)
	if err := alice.Upload(ctx, "com.atproto.repo.importRepo", "application/vnd.ipld.car", strings.NewReader(file), nil); err != nil {
		t.Fatal(err)
	}
	if after := latest(t, alice); after <= before {
		t.Errorf("revision %s after %s", after, before)
	}
	var list struct{ Records []struct{ URI, CID string } }
	if err := alice.Query(ctx, "com.atproto.repo.listRecords", url.Values{"repo": {string(alice.DID)}, "collection": {"com.example.note"}}, &list); err != nil || len(list.Records) != 0 {
		t.Errorf("records that the file does not have: %v %v", list, err)
	}
	var rec struct{ CID string }
	if err := alice.Query(ctx, "com.atproto.repo.getRecord", url.Values{"repo": {"alice.test"}, "collection": {"app.bsky.actor.profile"}, "rkey": {"self"}}, &rec); err != nil || rec.CID != want["app.bsky.actor.profile/self"] {
		t.Errorf("record of the file: %v %v", rec, err)
	}
	var missing struct {
		Blobs []struct{ CID, RecordURI string }
	}
	if err := alice.Query(ctx, "com.atproto.repo.listMissingBlobs", nil, &missing); err != nil || len(missing.Blobs) != 0 {
		t.Errorf("missing blobs: %v %v", missing, err)
	}
}

// TestInvites makes an account where that needs an invite code.
func TestInvites(t *testing.T) {
	ctx := context.Background()
	p := start(t, t.TempDir(), "PDS_INVITE_REQUIRED=true", "PDS_ADMIN_PASSWORD=hunter2", "PDS_SERVICE_HANDLE_DOMAINS=.example.test,.test")
	admin := &xrpc.Client{Host: p.url, Authorize: func(r *http.Request) error { r.SetBasicAuth("admin", "hunter2"); return nil }}
	var invite struct{ Code string }
	if err := admin.Procedure(ctx, "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}, &invite); err != nil || !strings.HasPrefix(invite.Code, "localhost-") {
		t.Fatal(invite, err)
	}
	create := func(name, code string) error {
		return p.anonymous().Procedure(ctx, "com.atproto.server.createAccount", map[string]any{
			"handle": name + ".example.test", "email": name + "@example.com", "password": "x", "inviteCode": code}, nil)
	}
	if err := create("alice", ""); !isError(err, 400, "InvalidInviteCode") {
		t.Errorf("without a code: %v", err)
	}
	if err := create("alice", "localhost-aaaaa-bbbbb"); !isError(err, 400, "InvalidInviteCode") {
		t.Errorf("with a code of nobody: %v", err)
	}
	if err := create("alice", invite.Code); err != nil {
		t.Errorf("with the code: %v", err)
	}
	if err := create("bob", invite.Code); !isError(err, 400, "InvalidInviteCode") {
		t.Errorf("with the code once more: %v", err)
	}
	var d struct {
		AvailableUserDomains []string
		InviteCodeRequired   bool
	}
	if err := admin.Query(ctx, "com.atproto.server.describeServer", nil, &d); err != nil || !d.InviteCodeRequired || len(d.AvailableUserDomains) != 2 {
		t.Errorf("describeServer: %+v %v", d, err)
	}
}
