package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
)

// TestErrors calls methods with what they refuse. See also TestBadRequests, for what concerns all.
func TestErrors(t *testing.T) {
	n := newNetwork(t)
	b := n.start(nil)
	b.register("bob")
	alice, gone := b.register("alice"), b.register("gone")
	var app struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &app)
	phone, err := b.login(t, "alice.test", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	b.admin().call(t, "com.atproto.admin.deleteAccount", map[string]any{"did": gone.DID}, nil)
	var post struct{ URI, CID string }
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{}}, &post)

	const (
		nobody = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
		admin  = "Basic YWRtaW46aHVudGVyMg=="
		anyone = ""
	)
	user, appUser, goneUser := "Bearer "+alice.AccessJWT, "Bearer "+phone.AccessJWT, "Bearer "+gone.AccessJWT
	long := strings.Repeat("x", 600)
	exp := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	auth := func(pairs ...string) string {
		q := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return "server.getServiceAuth?" + q.Encode()
	}
	did, uri := string(alice.DID), post.URI
	repoRef := func(did string) string {
		return fmt.Sprintf(`"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q}`, did)
	}
	account := func(extra string) string {
		return `{"handle":"carol.test","email":"carol@example.com","password":"x"` + extra + `}`
	}
	op := func(rotation, endpoint, kind, key, handle string) string {
		return fmt.Sprintf(`{"operation":{"type":"plc_operation","rotationKeys":[%q],"verificationMethods":{"atproto":%q},"alsoKnownAs":["at://%s"],"services":{"atproto_pds":{"type":%q,"endpoint":%q}},"prev":null,"sig":"AAAA"}}`,
			rotation, key, handle, kind, endpoint)
	}
	var good struct {
		RotationKeys        []string
		VerificationMethods map[string]string
	}
	if err := alice.Query(t.Context(), "com.atproto.identity.getRecommendedDidCredentials", nil, &good); err != nil {
		t.Fatal(err)
	}
	ours, key, other := good.RotationKeys[0], good.VerificationMethods["atproto"], n.key.PublicKey().DIDKey()

	for _, tt := range []struct {
		token, call, body string // without a body: a query, or a procedure where it is "-"
		status            int
		want              string
	}{
		{anyone, "server.createAccount", `{"handle":"carol.test","email":"carol@example.com"}`, 400, "InvalidPassword"},
		{anyone, "server.createAccount", strings.Replace(account(""), `"x"`, `"`+long+`"`, 1), 400, "InvalidRequest"},
		{anyone, "server.createAccount", strings.Replace(account(""), "carol@example.com", "carol", 1), 400, "InvalidRequest"},
		{anyone, "server.createAccount", strings.Replace(account(""), "carol@example.com", "Carol <carol@example.com>", 1), 400, "InvalidRequest"},
		{anyone, "server.createAccount", account(`,"recoveryKey":"did:key:zzz"`), 400, "InvalidRequest"},
		{anyone, "server.createAccount", account(`,"did":"did:x"`), 400, "InvalidRequest"},
		{user, "server.createAccount", account(`,"did":"` + nobody + `"`), 401, "BadJwtType"},
		{anyone, "server.createSession", `{"identifier":"alice.test","password":"` + long + `"}`, 401, "AuthenticationRequired"},
		{anyone, "server.createSession", `{"identifier":"nobody@example.com","password":"x"}`, 401, "AuthenticationRequired"},
		{anyone, "server.createSession", `{"identifier":"alice.test"}`, 400, "InvalidRequest"},
		{anyone, "server.describeServer", "-", 405, "InvalidRequest"},
		{goneUser, "server.getSession", "", 403, "AccountNotFound"},
		{"Bearer " + gone.RefreshJWT, "server.refreshSession", "-", 400, "InvalidRequest"},
		{user, "server.refreshSession", "-", 400, "InvalidToken"},
		{user, "server.deleteSession", "-", 400, "InvalidToken"},
		{user, "server.createAppPassword", `{"name":""}`, 400, "InvalidRequest"},
		{user, "server.createAppPassword", `{"name":"` + long + `"}`, 400, "InvalidRequest"},
		{user, "server.createAppPassword", `{"name":"phone"}`, 400, "DuplicateName"},
		{goneUser, "server.createAppPassword", `{"name":"x"}`, 403, "AccountNotFound"},
		{goneUser, "server.listAppPasswords", "", 403, "AccountNotFound"},
		{goneUser, "server.revokeAppPassword", `{"name":"x"}`, 403, "AccountNotFound"},
		{goneUser, "server.activateAccount", "-", 403, "AccountNotFound"},
		{user, "server.deactivateAccount", `{"deleteAfter":"tomorrow"}`, 400, "InvalidRequest"},
		{goneUser, "server.deactivateAccount", `{}`, 403, "AccountNotFound"},
		{goneUser, "server.checkAccountStatus", "", 403, "AccountNotFound"},
		{goneUser, "server.requestAccountDelete", "-", 403, "AccountNotFound"},
		{anyone, "server.deleteAccount", fmt.Sprintf(`{"did":%q,"password":"x","token":"x"}`, nobody), 400, "InvalidRequest"},
		{anyone, "server.deleteAccount", fmt.Sprintf(`{"did":%q,"password":%q,"token":"x"}`, did, long), 401, "AuthenticationRequired"},
		{goneUser, "server.requestEmailConfirmation", "-", 403, "AccountNotFound"},
		{user, "server.confirmEmail", `{"email":"alice@example.com","token":""}`, 400, "InvalidToken"},
		{goneUser, "server.confirmEmail", `{"email":"gone@example.com","token":""}`, 403, "AccountNotFound"},
		{goneUser, "server.requestEmailUpdate", "-", 403, "AccountNotFound"},
		{user, "server.updateEmail", `{"email":"bob@example.com"}`, 400, "InvalidRequest"},
		{anyone, "server.requestPasswordReset", `{"email":5}`, 400, "InvalidRequest"},
		{anyone, "server.resetPassword", `{"token":"x","password":""}`, 400, "InvalidRequest"},
		{user, auth("aud", "x"), "", 400, "InvalidRequest"},
		{user, auth("aud", nobody+"#"), "", 400, "InvalidRequest"},
		{user, auth("aud", nobody, "exp", exp(-time.Minute)), "", 400, "BadExpiration"},
		{user, auth("aud", nobody, "exp", exp(5*time.Minute)), "", 400, "BadExpiration"},
		{user, auth("aud", nobody, "lxm", "com.example.x", "exp", exp(2*time.Hour)), "", 400, "BadExpiration"},
		{user, auth("aud", nobody, "lxm", "com.atproto.server.createAppPassword"), "", 400, "InvalidRequest"},
		{appUser, auth("aud", nobody, "lxm", "com.atproto.server.createAccount"), "", 400, "InvalidRequest"},
		{appUser, auth("aud", nobody, "lxm", "chat.bsky.convo.sendMessage"), "", 400, "InvalidRequest"},
		{goneUser, auth("aud", nobody), "", 403, "AccountNotFound"},
		{anyone, "server.reserveSigningKey", `{"did":"x"}`, 400, "InvalidRequest"},
		{appUser, "server.getAccountInviteCodes", "", 400, "InvalidToken"},
		{admin, "server.createInviteCode", `{"useCount":0}`, 400, "InvalidRequest"},
		{admin, "server.createInviteCodes", `{"codeCount":1001,"useCount":1}`, 400, "InvalidRequest"},

		{goneUser, "repo.listMissingBlobs", "", 403, "AccountNotFound"},
		{user, "repo.listMissingBlobs?cursor=x", "", 400, "InvalidRequest"},
		{anyone, "repo.listRecords?repo=alice.test&collection=x", "", 400, "InvalidRequest"},
		{anyone, "repo.describeRepo?repo=nobody.test", "", 400, "RepoNotFound"},
		{goneUser, "repo.createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{}}`, gone.DID), 403, "AccountNotFound"},
		{anyone, "repo.getRecord?repo=" + did + "&collection=com.example.note&rkey=one&cid=" + strings.Replace(post.CID, "bafyrei", "bafkrei", 1), "", 400, "RecordNotFound"},

		{anyone, "sync.getRepo?did=" + did + "&since=x", "", 400, "InvalidRequest"},
		{anyone, "sync.getLatestCommit?did=" + nobody, "", 400, "RepoNotFound"},
		{anyone, "sync.getRecord?did=" + nobody + "&collection=com.example.note&rkey=one", "", 400, "RepoNotFound"},
		{anyone, "sync.getRecord?did=" + did + "&collection=com.example.note&rkey=.", "", 400, "InvalidRequest"},
		{anyone, "sync.getBlocks?did=" + did + "&cids=x", "", 400, "InvalidRequest"},
		{anyone, "sync.getBlocks?did=" + did + strings.Repeat("&cids="+post.CID, 1001), "", 400, "InvalidRequest"},
		{anyone, "sync.getBlob?did=" + nobody + "&cid=" + post.CID, "", 400, "RepoNotFound"},
		{anyone, "sync.getBlob?did=" + did + "&cid=" + post.CID, "", 400, "InvalidRequest"},
		{anyone, "sync.listBlobs?did=" + did + "&cursor=x", "", 400, "InvalidRequest"},
		{anyone, "sync.listBlobs?did=" + did + "&limit=0", "", 400, "InvalidRequest"},
		{anyone, "sync.listRepos?limit=1001", "", 400, "InvalidRequest"},
		{anyone, "sync.getHead?did=" + nobody, "", 400, "HeadNotFound"},
		{anyone, "sync.getCheckout?did=" + nobody, "", 400, "RepoNotFound"},
		{anyone, "sync.subscribeRepos?cursor=x", "", 426, "InvalidRequest"},
		{"Digest x", "sync.getRepo?did=" + did, "", 400, "InvalidToken"},
		{"Basic YWRtaW46YWRtaW4=", "sync.getRepo?did=" + did, "", 401, "AuthMissing"},

		{user, "identity.updateHandle", `{"handle":"admin.test"}`, 400, "HandleNotAvailable"},
		{user, "identity.updateHandle", `{"handle":"x"}`, 400, "InvalidRequest"},
		{goneUser, "identity.updateHandle", `{"handle":"other.test"}`, 403, "AccountNotFound"},
		{goneUser, "identity.getRecommendedDidCredentials", "", 403, "AccountNotFound"},
		{goneUser, "identity.requestPlcOperationSignature", "-", 403, "AccountNotFound"},
		{user, "identity.submitPlcOperation", op(other, b.url, "AtprotoPersonalDataServer", key, "alice.test"), 400, "InvalidRequest"},
		{user, "identity.submitPlcOperation", op(ours, "https://example.com", "AtprotoPersonalDataServer", key, "alice.test"), 400, "InvalidRequest"},
		{user, "identity.submitPlcOperation", op(ours, b.url, "Other", key, "alice.test"), 400, "InvalidRequest"},
		{user, "identity.submitPlcOperation", op(ours, b.url, "AtprotoPersonalDataServer", other, "alice.test"), 400, "InvalidRequest"},
		{user, "identity.submitPlcOperation", op(ours, b.url, "AtprotoPersonalDataServer", key, "bob.test"), 400, "InvalidRequest"},
		{user, "identity.submitPlcOperation", op(ours, b.url, "AtprotoPersonalDataServer", key, "alice.test"), 400, "InvalidRequest"}, // not signed

		{admin, "admin.getAccountInfo?did=x", "", 400, "InvalidRequest"},
		{admin, "admin.getAccountInfos?dids=x", "", 400, "InvalidRequest"},
		{admin, "admin.getInviteCodes?sort=other", "", 400, "InvalidRequest"},
		{admin, "admin.getInviteCodes?cursor=x", "", 400, "InvalidRequest"},
		{admin, "admin.getInviteCodes?cursor=x::y", "", 400, "InvalidRequest"},
		{admin, "admin.getInviteCodes?limit=501", "", 400, "InvalidRequest"},
		{admin, "admin.disableInviteCodes", `{"codes":5}`, 400, "InvalidRequest"},
		{admin, "admin.disableAccountInvites", fmt.Sprintf(`{"account":%q}`, nobody), 400, "InvalidRequest"},
		{admin, "admin.enableAccountInvites", fmt.Sprintf(`{"account":%q}`, nobody), 400, "InvalidRequest"},
		{admin, "admin.getSubjectStatus?blob=" + post.CID, "", 400, "InvalidRequest"},
		{admin, "admin.getSubjectStatus?did=" + nobody + "&blob=" + post.CID, "", 400, "NotFound"},
		{admin, "admin.getSubjectStatus?did=" + did + "&blob=" + post.CID, "", 400, "NotFound"},
		{admin, "admin.getSubjectStatus?uri=" + strings.Replace(uri, "/one", "/two", 1), "", 400, "NotFound"},
		{admin, "admin.getSubjectStatus?uri=" + strings.Replace(uri, did, nobody, 1), "", 400, "NotFound"},
		{admin, "admin.getSubjectStatus?uri=at://" + did, "", 400, "InvalidRequest"},
		{admin, "admin.getSubjectStatus?uri=at://alice.test/com.example.note/one", "", 400, "InvalidRequest"},
		{admin, "admin.updateSubjectStatus", `{"subject":{"$type":"com.example.other"},"takedown":{"applied":true}}`, 400, "InvalidRequest"},
		{admin, "admin.updateSubjectStatus", `{"subject":{},"takedown":{"applied":true}}`, 400, "InvalidRequest"},
		{admin, "admin.updateSubjectStatus", `{` + repoRef(nobody) + `,"takedown":{"applied":true}}`, 400, "NotFound"},
		{admin, "admin.updateSubjectStatus", `{` + repoRef(nobody) + `,"deactivated":{"applied":true}}`, 400, "NotFound"},
		{admin, "admin.updateSubjectStatus", `{` + repoRef(nobody) + `,"deactivated":{"applied":false}}`, 400, "NotFound"},
		{admin, "admin.updateSubjectStatus", `{` + repoRef(nobody) + `}`, 400, "NotFound"},
		{admin, "admin.updateSubjectStatus", `{` + repoRef(did) + `,"takedown":{"applied":true},"deactivated":{"applied":false}}`, 400, "InvalidRequest"},
		{admin, "admin.updateSubjectStatus", fmt.Sprintf(`{"subject":{"$type":"com.atproto.repo.strongRef","uri":"at://%s","cid":%q},"takedown":{"applied":true}}`, did, post.CID), 400, "InvalidRequest"},
		{admin, "admin.sendEmail", fmt.Sprintf(`{"recipientDid":%q,"content":"x","senderDid":%q}`, nobody, did), 400, "InvalidRequest"},
		{admin, "admin.deleteAccount", `{"did":"x"}`, 400, "InvalidRequest"},
		{admin, "admin.updateAccountEmail", fmt.Sprintf(`{"account":%q,"email":"x@example.com"}`, nobody), 400, "InvalidRequest"},
		{admin, "admin.updateAccountEmail", fmt.Sprintf(`{"account":%q,"email":"x"}`, did), 400, "InvalidRequest"},
		{admin, "admin.updateAccountEmail", fmt.Sprintf(`{"account":%q,"email":"bob@example.com"}`, did), 400, "InvalidRequest"},
		{admin, "admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":"bob.test"}`, did), 400, "InvalidRequest"},
		{admin, "admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":"alice.example.org"}`, did), 400, "InvalidRequest"},
		{admin, "admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":"nobody.test"}`, nobody), 403, "AccountNotFound"},
		{admin, "admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":%q}`, did, long), 400, "InvalidRequest"},
		{admin, "admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":""}`, did), 400, "InvalidRequest"},
		{admin, "admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":"x"}`, nobody), 400, "InvalidRequest"},
		{goneUser, "temp.checkSignupQueue", "", 403, "AccountNotFound"},
	} {
		method, contentType, body := "GET", "", io.Reader(nil)
		switch tt.body {
		case "":
		case "-":
			method = "POST"
		default:
			method, contentType, body = "POST", "application/json", strings.NewReader(tt.body)
		}
		status, name, text := request(t, method, b.url+"/xrpc/com.atproto."+tt.call, contentType, tt.token, body)
		if status != tt.status || name != tt.want {
			t.Errorf("%.80s %.100s: status %d %s, want %d %s: %.200s", tt.call, tt.body, status, name, tt.status, tt.want, text)
		}
	}
	// What is done already is no error, and answers with nothing.
	for call, body := range map[string]string{
		"server.revokeAppPassword":    `{"name":"none"}`,
		"server.requestPasswordReset": `{"email":"nobody@example.com"}`,
		"admin.deleteAccount":         fmt.Sprintf(`{"did":%q}`, nobody),
	} {
		token := user
		if strings.HasPrefix(call, "admin.") {
			token = admin
		}
		if status, _, text := request(t, "POST", b.url+"/xrpc/com.atproto."+call, "application/json", token, strings.NewReader(body)); status != 200 || text != "" {
			t.Errorf("%s: status %d %q", call, status, text)
		}
	}
}

// TestUnavailable: what others can read of an account that is deactivated or was taken down, and
// what its sessions can do.
func TestUnavailable(t *testing.T) {
	ctx := t.Context()
	n := newNetwork(t)
	b := n.start(nil)
	alice, bob := b.register("alice"), b.register("bob")
	all := func(u *user, call func(method string, q url.Values)) {
		t.Helper()
		head := struct{ CID string }{}
		if err := b.admin().Query(ctx, "com.atproto.sync.getLatestCommit", url.Values{"did": {string(u.DID)}}, &head); err != nil {
			t.Fatal(err)
		}
		for method, more := range map[string][]string{
			"getRepo": nil, "getLatestCommit": nil, "getHead": nil, "getCheckout": nil, "listBlobs": nil, "getBlocks": {"cids", head.CID},
			"getRecord": {"collection", "app.bsky.actor.profile", "rkey", "self"}, "getBlob": {"cid", u.ref},
		} {
			q := url.Values{"did": {string(u.DID)}}
			for i := 0; i < len(more); i += 2 {
				q.Set(more[i], more[i+1])
			}
			call("com.atproto.sync."+method, q)
		}
	}
	readable := func(u *user, by *xrpc.Client) {
		t.Helper()
		all(u, func(method string, q url.Values) {
			t.Helper()
			res, err := by.Get(ctx, method, q)
			if err != nil {
				t.Errorf("%s: %v", method, err)
				return
			}
			res.Body.Close()
		})
	}
	for _, u := range []*user{alice, bob} {
		u.ref = writeBlob(t, u, map[string]string{})
		readable(u, b.anonymous())
	}
	var resolved struct{ DID syntax.DID }
	if err := b.anonymous().Query(ctx, "com.atproto.identity.resolveHandle", url.Values{"handle": {"ALICE.test"}}, &resolved); err != nil || resolved.DID != alice.DID {
		t.Errorf("resolveHandle: %v %v", resolved, err)
	}
	alice.call(t, "com.atproto.server.deactivateAccount", map[string]any{}, nil)
	set := func(u *user, what string, applied bool) {
		t.Helper()
		b.admin().call(t, "com.atproto.admin.updateSubjectStatus", map[string]any{
			"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": u.DID}, what: map[string]any{"applied": applied}}, nil)
	}
	set(bob, "takedown", true)
	for name, u := range map[string]*user{"RepoDeactivated": alice, "RepoTakendown": bob} {
		all(u, func(method string, q url.Values) {
			fails(t, b.anonymous().Query(ctx, method, q, nil), 400, name)
		})
		readable(u, u.Client)
		readable(u, b.admin().Client)
		q := url.Values{"repo": {string(u.DID)}, "collection": {"app.bsky.actor.profile"}, "rkey": {"self"}}
		fails(t, b.anonymous().Query(ctx, "com.atproto.repo.getRecord", q, nil), 400, "InvalidRequest")
		q.Del("rkey")
		fails(t, b.anonymous().Query(ctx, "com.atproto.repo.listRecords", q, nil), 400, "InvalidRequest")
		fails(t, b.anonymous().Query(ctx, "com.atproto.repo.describeRepo", url.Values{"repo": q["repo"]}, nil), 400, name)
		fails(t, b.anonymous().Query(ctx, "com.atproto.identity.resolveHandle", url.Values{"handle": {u.Handle}}, nil), 400, "InvalidRequest")
	}
	// A token from before the takedown is good for nothing that matters.
	for method, in := range map[string]map[string]any{
		"com.atproto.server.createAppPassword": {"name": "x"}, "com.atproto.server.activateAccount": nil, "com.atproto.server.updateEmail": {"email": "x@example.com"},
		"com.atproto.identity.updateHandle": {"handle": "robert.test"}, "app.bsky.actor.putPreferences": {"preferences": []any{}},
		"com.atproto.repo.createRecord": {"repo": bob.DID, "collection": "com.example.note", "record": map[string]any{}},
	} {
		var body any
		if in != nil {
			body = in
		}
		fails(t, bob.Procedure(ctx, method, body, nil), 401, "AccountTakedown")
	}
	fails(t, bob.Query(ctx, "com.atproto.server.listAppPasswords", nil, nil), 401, "AccountTakedown")
	_, err := bob.upload(t, "text/plain", []byte("x"))
	fails(t, err, 401, "AccountTakedown")
	set(bob, "takedown", false)
	set(bob, "deactivated", true)
	all(bob, func(method string, q url.Values) {
		fails(t, b.anonymous().Query(ctx, method, q, nil), 400, "RepoDeactivated")
	})
	set(bob, "deactivated", false)
	readable(bob, b.anonymous())
}

// TestMailTokensExpire: a token that was sent a quarter of an hour ago is good for nothing.
func TestMailTokensExpire(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	n := newNetwork(t)
	b := n.start(map[string]string{"PDS_DATA_DIRECTORY": dir})
	alice := b.register("alice")
	db, err := sqlite.Open(ctx, filepath.Join(dir, "pds.sqlite"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// age makes the token for a purpose older.
	age := func(purpose string) {
		t.Helper()
		key := "mailtoken/" + purpose
		var c storage.Change
		err := db.Store().Repos.View(ctx, alice.DID, func(r storage.Reader) error {
			doc, err := r.Get(ctx, key)
			if err != nil {
				return err
			}
			var token map[string]any
			if err := json.Unmarshal(doc, &token); err != nil {
				return err
			}
			token["created"] = time.Now().Add(-15*time.Minute - time.Second)
			doc, err = json.Marshal(token)
			c = storage.Change{Prev: r.Head(), Head: r.Head(), KV: []storage.KVWrite{{Key: key, Value: doc, Expires: time.Now().Add(time.Hour)}}}
			return err
		})
		if err == nil {
			_, err = db.Store().Repos.Apply(ctx, alice.DID, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	anyone := b.anonymous()
	const address = "alice@example.com"
	confirm := func(token string) error {
		return alice.Procedure(ctx, "com.atproto.server.confirmEmail", map[string]any{"email": address, "token": token}, nil)
	}
	// Tokens become old after their mail has come: one that is void is not sent.
	old := func(purpose string) string {
		t.Helper()
		token := b.token(t, address)
		age(purpose)
		return token
	}
	alice.call(t, "com.atproto.server.requestEmailConfirmation", nil, nil)
	fails(t, confirm(old("confirm_email")), 400, "ExpiredToken")
	alice.call(t, "com.atproto.server.requestEmailConfirmation", nil, nil)
	if err := confirm(b.token(t, address)); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.server.requestEmailUpdate", nil, nil)
	fails(t, alice.Procedure(ctx, "com.atproto.server.updateEmail", map[string]any{"email": "new@example.com", "token": old("update_email")}, nil), 400, "ExpiredToken")
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	fails(t, alice.Procedure(ctx, "com.atproto.identity.signPlcOperation", map[string]any{"token": old("plc_operation")}, nil), 400, "ExpiredToken")
	alice.call(t, "com.atproto.server.requestAccountDelete", nil, nil)
	fails(t, anyone.Procedure(ctx, "com.atproto.server.deleteAccount", map[string]any{"did": alice.DID, "password": "password of alice", "token": old("delete_account")}, nil), 400, "ExpiredToken")
	if err := anyone.Procedure(ctx, "com.atproto.server.requestPasswordReset", map[string]any{"email": address}, nil); err != nil {
		t.Fatal(err)
	}
	fails(t, anyone.Procedure(ctx, "com.atproto.server.resetPassword", map[string]any{"token": old("reset_password"), "password": "x"}, nil), 400, "ExpiredToken")
}
