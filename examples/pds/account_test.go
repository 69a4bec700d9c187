package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// sandbox is a server with a file for its mail and an administrator.
type sandbox struct {
	*process
	mail string
}

func newSandbox(t *testing.T, env ...string) *sandbox {
	mail := filepath.Join(t.TempDir(), "mail.jsonl")
	return &sandbox{start(t, t.TempDir(), append(env, "PDS_EMAIL_SINK_FILE="+mail, "PDS_ADMIN_PASSWORD=hunter2")...), mail}
}

func (b *sandbox) admin() *user {
	return &user{Client: &xrpc.Client{Host: b.url, Authorize: func(r *http.Request) error { r.SetBasicAuth("admin", "hunter2"); return nil }}}
}

var tokenPattern = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// newMail is the last line of the file of mail that has an address and a text. It waits until there is one
// that no call has seen: mail is sent besides the answer.
func (b *sandbox) newMail(t *testing.T, to string, has *regexp.Regexp) string {
	t.Helper()
	key := b.mail + " " + to + " " + has.String()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		text, err := os.ReadFile(b.mail)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		n, last := 0, ""
		for line := range strings.Lines(string(text)) {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, to) && has.MatchString(line) {
				n, last = n+1, line
			}
		}
		before, _ := seenMail.Load(key)
		if seen, _ := before.(int); n > seen {
			seenMail.Store(key, n)
			return last
		}
		if time.Now().After(end) {
			t.Fatalf("no new mail to %s", to)
		}
	}
}

// seenMail is how many messages newMail has seen.
var seenMail sync.Map

// token is the one in the last mail to an address that has one, which was not asked for before.
func (b *sandbox) token(t *testing.T, to string) string {
	t.Helper()
	return tokenPattern.FindString(b.newMail(t, to, tokenPattern))
}

func (p *process) login(t *testing.T, identifier, password string) (*user, error) {
	t.Helper()
	u := &user{}
	err := p.anonymous().Procedure(context.Background(), "com.atproto.server.createSession", map[string]string{"identifier": identifier, "password": password}, u)
	u.Client = &xrpc.Client{Host: p.url, Authorize: xrpc.Bearer(u.AccessJWT)}
	return u, err
}

// fails expects an error of a status and name.
func fails(t *testing.T, err error, status int, name string) {
	t.Helper()
	if !isError(err, status, name) {
		t.Errorf("error %v, want %d %s", err, status, name)
	}
}

func (u *user) refresh(host string) (next user, err error) {
	c := &xrpc.Client{Host: host, Authorize: xrpc.Bearer(u.RefreshJWT)}
	err = c.Procedure(context.Background(), "com.atproto.server.refreshSession", nil, &next)
	return next, err
}

// events are the kinds (with statuses) of an account's messages in the firehose, up to now.
func (p *process) events(t *testing.T, did syntax.DID) (kinds []string) {
	t.Helper()
	zero := int64(0)
	probe := p.register("probe" + syntaxKey())
	c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &zero}
	for f, err := range c.Frames(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var of syntax.DID
		kind := f.Kind
		switch f.Kind {
		case commit.KindCommit:
			m, err := commit.DecodeEvent(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			of = m.Repo
		case commit.KindSync:
			m, err := commit.DecodeSync(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			of = m.DID
		case commit.KindIdentity:
			m, err := commit.DecodeIdentity(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			of = m.DID
		case commit.KindAccount:
			m, err := commit.DecodeAccount(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			of = m.DID
			kind += " " + m.Status
		}
		if of == probe.DID {
			return kinds
		}
		if of == did {
			kinds = append(kinds, strings.TrimSpace(kind))
		}
	}
	return kinds
}

var probes int

// syntaxKey makes names of probes differ.
func syntaxKey() string { probes++; return letter(probes/32) + letter(probes) }

func TestAppPasswords(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	alice := b.register("alice")
	var app, privileged struct {
		Name, Password string
		Privileged     bool
	}
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &app)
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "chat", "privileged": true}, &privileged)
	if !regexp.MustCompile(`^[a-z2-7]{4}(-[a-z2-7]{4}){3}$`).MatchString(app.Password) || !privileged.Privileged {
		t.Errorf("app passwords %+v %+v", app, privileged)
	}
	fails(t, alice.Procedure(ctx, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, nil), 400, "DuplicateName")
	phone, err := b.login(t, "alice.test", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	if s := claim(t, phone.AccessJWT, "scope"); s != "com.atproto.appPass" {
		t.Errorf("scope %v", s)
	}
	phone.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": phone.DID, "collection": "com.example.note", "record": map[string]any{}}, nil)
	fails(t, phone.Procedure(ctx, "com.atproto.server.createAppPassword", map[string]any{"name": "x"}, nil), 400, "InvalidToken")
	fails(t, phone.Procedure(ctx, "com.atproto.server.deactivateAccount", map[string]any{}, nil), 400, "InvalidToken")
	var list struct {
		Passwords []struct{ Name, Password string }
	}
	if err := phone.Query(ctx, "com.atproto.server.listAppPasswords", nil, &list); err != nil || len(list.Passwords) != 2 || list.Passwords[0].Password != "" {
		t.Errorf("list: %+v %v", list, err)
	}
	next, err := phone.refresh(b.url)
	if err != nil || claim(t, next.AccessJWT, "scope") != "com.atproto.appPass" {
		t.Errorf("refresh: %v", err)
	}
	alice.call(t, "com.atproto.server.revokeAppPassword", map[string]any{"name": "phone"}, nil)
	_, err = next.refresh(b.url)
	fails(t, err, 400, "ExpiredToken")
	_, err = b.login(t, "alice.test", app.Password)
	fails(t, err, 401, "AuthenticationRequired")
	if _, err := b.login(t, "alice.test", privileged.Password); err != nil {
		t.Error(err)
	}
}

func TestPreferences(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	alice := b.register("alice")
	put := func(u *user, prefs ...any) error {
		return u.Procedure(ctx, "app.bsky.actor.putPreferences", map[string]any{"preferences": append([]any{}, prefs...)}, nil)
	}
	get := func(u *user) (types []string) {
		var out struct{ Preferences []map[string]any }
		if err := u.Query(ctx, "app.bsky.actor.getPreferences", nil, &out); err != nil {
			t.Fatal(err)
		}
		for _, p := range out.Preferences {
			types = append(types, strings.TrimPrefix(p["$type"].(string), "app.bsky.actor.defs#"))
		}
		return types
	}
	adult := map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": false}
	details := map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-01-01T00:00:00Z"}
	if err := put(alice, adult, details); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"adultContentPref", "personalDetailsPref", "declaredAgePref"}, get(alice)); diff != "" {
		t.Error(diff)
	}
	var app struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &app)
	phone, err := b.login(t, "alice.test", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"adultContentPref", "declaredAgePref"}, get(phone)); diff != "" {
		t.Error(diff)
	}
	fails(t, put(phone, details), 400, "InvalidRequest")
	fails(t, put(alice, map[string]any{"enabled": true}), 400, "InvalidRequest")
	fails(t, put(alice, map[string]any{"$type": "com.example.pref"}), 400, "InvalidRequest")
	if err := put(phone); err != nil { // leaves what it cannot see
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"personalDetailsPref", "declaredAgePref"}, get(alice)); diff != "" {
		t.Error(diff)
	}
}

func TestEmail(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	alice := b.register("alice")
	b.register("bob")
	session := func() (s struct {
		Email          string
		EmailConfirmed bool
	}) {
		if err := alice.Query(ctx, "com.atproto.server.getSession", nil, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice.call(t, "com.atproto.server.requestEmailConfirmation", nil, nil)
	token := b.token(t, "alice@example.com")
	confirm := func(email, token string) error {
		return alice.Procedure(ctx, "com.atproto.server.confirmEmail", map[string]any{"email": email, "token": token}, nil)
	}
	fails(t, confirm("bob@example.com", token), 400, "InvalidEmail")
	fails(t, confirm("alice@example.com", "AAAAA-BBBBB"), 400, "InvalidToken")
	if err := confirm("Alice@Example.com", strings.ToLower(token)); err != nil || !session().EmailConfirmed {
		t.Errorf("confirm: %v %+v", err, session())
	}
	fails(t, confirm("alice@example.com", token), 400, "InvalidToken") // used

	var required struct{ TokenRequired bool }
	alice.call(t, "com.atproto.server.requestEmailUpdate", nil, &required)
	if !required.TokenRequired {
		t.Error("no token required to change a confirmed address")
	}
	update := func(email, token string) error {
		in := map[string]any{"email": email}
		if token != "" {
			in["token"] = token
		}
		return alice.Procedure(ctx, "com.atproto.server.updateEmail", in, nil)
	}
	token = b.token(t, "alice@example.com")
	fails(t, update("new@example.com", ""), 400, "TokenRequired")
	fails(t, update("new@example.com", "AAAAA-BBBBB"), 400, "InvalidToken")
	fails(t, update("not an address", token), 400, "InvalidRequest")
	fails(t, update("bob@example.com", token), 400, "InvalidRequest")
	if err := update("new@example.com", token); err != nil || session().Email != "new@example.com" || session().EmailConfirmed {
		t.Errorf("update: %v %+v", err, session())
	}
	if _, err := b.login(t, "new@example.com", "password of alice"); err != nil {
		t.Error(err)
	}
	if err := update("newer@example.com", ""); err != nil { // not confirmed: no token
		t.Error(err)
	}

	// Password reset.
	reset := func(token, password string) error {
		return b.anonymous().Procedure(ctx, "com.atproto.server.resetPassword", map[string]any{"token": token, "password": password}, nil)
	}
	for _, email := range []string{"NEWER@example.com", "nobody@example.com"} {
		if err := b.anonymous().Procedure(ctx, "com.atproto.server.requestPasswordReset", map[string]any{"email": email}, nil); err != nil {
			t.Error(err)
		}
	}
	token = b.token(t, "newer@example.com")
	fails(t, reset("AAAAA-BBBBB", "another"), 400, "InvalidToken")
	fails(t, reset(token, strings.Repeat("x", 300)), 400, "InvalidRequest")
	if err := reset(token, "another"); err != nil {
		t.Fatal(err)
	}
	fails(t, reset(token, "a third"), 400, "InvalidToken")
	_, err := alice.refresh(b.url)
	fails(t, err, 400, "ExpiredToken")
	_, err = b.login(t, "alice.test", "password of alice")
	fails(t, err, 401, "AuthenticationRequired")
	if _, err := b.login(t, "alice.test", "another"); err != nil {
		t.Error(err)
	}
}

func TestDeactivateAndDelete(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	alice := b.register("alice")
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{}}, nil)
	alice.call(t, "com.atproto.server.deactivateAccount", map[string]any{}, nil)
	status, _, body := request(t, "POST", b.url+"/xrpc/com.atproto.server.deactivateAccount", "application/json", "Bearer "+alice.AccessJWT, strings.NewReader("{}"))
	if status != 200 || body != "" {
		t.Errorf("answer %d %q", status, body)
	}
	anyone := b.anonymous()
	did := url.Values{"did": {string(alice.DID)}}
	fails(t, anyone.Query(ctx, "com.atproto.sync.getLatestCommit", did, nil), 400, "RepoDeactivated")
	fails(t, alice.Procedure(ctx, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{}}, nil), 401, "AccountDeactivated")
	var st struct {
		Active bool
		Status string
	}
	if err := anyone.Query(ctx, "com.atproto.sync.getRepoStatus", did, &st); err != nil || st.Active || st.Status != "deactivated" {
		t.Errorf("status %+v %v", st, err)
	}
	if err := alice.Query(ctx, "com.atproto.server.getSession", nil, &st); err != nil || st.Active || st.Status != "deactivated" {
		t.Errorf("session %+v %v", st, err)
	}
	var check struct {
		Activated, ValidDid          bool
		IndexedRecords, RepoBlocks   int
		ExpectedBlobs, ImportedBlobs int
	}
	if err := alice.Query(ctx, "com.atproto.server.checkAccountStatus", nil, &check); err != nil || check.Activated || !check.ValidDid || check.IndexedRecords != 1 || check.RepoBlocks != 3 {
		t.Errorf("checkAccountStatus %+v %v", check, err)
	}
	if _, err := b.login(t, "alice.test", "password of alice"); err != nil {
		t.Error(err)
	}
	alice.call(t, "com.atproto.server.activateAccount", nil, nil)
	if err := anyone.Query(ctx, "com.atproto.sync.getLatestCommit", did, nil); err != nil {
		t.Error(err)
	}
	want := []string{"#identity", "#account", "#commit", "#sync", "#commit", "#account deactivated", "#account deactivated", "#account", "#identity", "#sync"}
	if diff := cmp.Diff(want, b.events(t, alice.DID)); diff != "" {
		t.Error(diff)
	}

	alice.call(t, "com.atproto.server.requestAccountDelete", nil, nil)
	token := b.token(t, "alice@example.com")
	del := func(password, token string) error {
		return anyone.Procedure(ctx, "com.atproto.server.deleteAccount", map[string]any{"did": alice.DID, "password": password, "token": token}, nil)
	}
	fails(t, del("wrong", token), 401, "AuthenticationRequired")
	fails(t, del("password of alice", "AAAAA-BBBBB"), 400, "InvalidToken")
	if err := del("password of alice", token); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"#account deleted"}, b.events(t, alice.DID)); diff != "" {
		t.Error(diff)
	}
	fails(t, anyone.Query(ctx, "com.atproto.sync.getRepo", did, nil), 400, "RepoNotFound")
	fails(t, alice.Query(ctx, "com.atproto.server.getSession", nil, nil), 403, "AccountNotFound")
	b.register("alice") // the names are free again
}

func TestModeration(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	admin, alice := b.admin(), b.register("alice")
	var rec struct{ URI, CID string }
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{}}, &rec)
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "two", "record": map[string]any{}}, nil)
	blob := writeBlob(t, alice, map[string]string{})
	set := func(subject map[string]any, applied bool) {
		t.Helper()
		admin.call(t, "com.atproto.admin.updateSubjectStatus", map[string]any{"subject": subject, "takedown": map[string]any{"applied": applied, "ref": "case 1"}}, nil)
	}
	get := func(q url.Values) (out struct {
		Subject  map[string]any
		Takedown struct {
			Applied bool
			Ref     string
		}
	}) {
		t.Helper()
		if err := admin.Query(ctx, "com.atproto.admin.getSubjectStatus", q, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	anyone := b.anonymous()

	record := map[string]any{"$type": "com.atproto.repo.strongRef", "uri": rec.URI, "cid": rec.CID}
	set(record, true)
	getRecord := url.Values{"repo": {"alice.test"}, "collection": {"com.example.note"}, "rkey": {"one"}}
	fails(t, anyone.Query(ctx, "com.atproto.repo.getRecord", getRecord, nil), 400, "RecordNotFound")
	var list struct{ Records []any }
	if err := anyone.Query(ctx, "com.atproto.repo.listRecords", url.Values{"repo": {"alice.test"}, "collection": {"com.example.note"}}, &list); err != nil || len(list.Records) != 1 {
		t.Errorf("list: %v %v", list, err)
	}
	if st := get(url.Values{"uri": {rec.URI}}); !st.Takedown.Applied || st.Takedown.Ref != "case 1" {
		t.Errorf("status %+v", st)
	}
	set(record, false)
	if err := anyone.Query(ctx, "com.atproto.repo.getRecord", getRecord, nil); err != nil {
		t.Error(err)
	}

	blobRef := map[string]any{"$type": "com.atproto.admin.defs#repoBlobRef", "did": alice.DID, "cid": blob}
	set(blobRef, true)
	getBlob := url.Values{"did": {string(alice.DID)}, "cid": {blob}}
	fails(t, anyone.Query(ctx, "com.atproto.sync.getBlob", getBlob, nil), 400, "InvalidRequest")
	if st := get(url.Values{"did": {string(alice.DID)}, "blob": {blob}}); !st.Takedown.Applied {
		t.Errorf("status %+v", st)
	}
	set(blobRef, false)
	checkBlob(t, alice, blob)

	account := map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}
	set(account, true)
	fails(t, anyone.Query(ctx, "com.atproto.sync.getRepo", url.Values{"did": {string(alice.DID)}}, nil), 400, "RepoTakendown")
	fails(t, alice.Query(ctx, "com.atproto.server.getSession", nil, nil), 401, "AccountTakedown")
	_, err := alice.refresh(b.url)
	fails(t, err, 401, "AccountTakedown")
	_, err = b.login(t, "alice.test", "password of alice")
	fails(t, err, 401, "AccountTakedown")
	set(account, false)
	if _, err := b.login(t, "alice.test", "password of alice"); err != nil {
		t.Error(err)
	}
	events := b.events(t, alice.DID)
	if diff := cmp.Diff([]string{"#account takendown", "#account"}, events[len(events)-2:]); diff != "" {
		t.Error(diff)
	}
	fails(t, admin.Query(ctx, "com.atproto.admin.getSubjectStatus", url.Values{"did": {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}}, nil), 400, "NotFound")
	fails(t, admin.Query(ctx, "com.atproto.admin.getSubjectStatus", nil, nil), 400, "InvalidRequest")
	fails(t, alice.Query(ctx, "com.atproto.admin.getSubjectStatus", url.Values{"did": {string(alice.DID)}}, nil), 401, "UntrustedIss")
}

func TestAdmin(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	admin, alice, bob := b.admin(), b.register("alice"), b.register("bob")
	var info struct {
		DID, Handle, Email string
		IndexedAt          string
	}
	if err := admin.Query(ctx, "com.atproto.admin.getAccountInfo", url.Values{"did": {string(alice.DID)}}, &info); err != nil || info.Handle != "alice.test" || info.Email != "alice@example.com" {
		t.Errorf("info %+v %v", info, err)
	}
	fails(t, admin.Query(ctx, "com.atproto.admin.getAccountInfo", url.Values{"did": {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}}, nil), 400, "NotFound")
	var infos struct{ Infos []any }
	if err := admin.Query(ctx, "com.atproto.admin.getAccountInfos", url.Values{"dids": {string(alice.DID), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", string(bob.DID)}}, &infos); err != nil || len(infos.Infos) != 2 {
		t.Errorf("infos %+v %v", infos, err)
	}
	admin.call(t, "com.atproto.admin.updateAccountEmail", map[string]any{"account": "bob.test", "email": "robert@example.com"}, nil)
	admin.call(t, "com.atproto.admin.updateAccountHandle", map[string]any{"did": bob.DID, "handle": "admin.test"}, nil) // reserved, but not for the administrator
	admin.call(t, "com.atproto.admin.updateAccountPassword", map[string]any{"did": bob.DID, "password": "changed"}, nil)
	if u, err := b.login(t, "robert@example.com", "changed"); err != nil || u.Handle != "admin.test" {
		t.Errorf("login %+v %v", u, err)
	}
	admin.call(t, "com.atproto.admin.sendEmail", map[string]any{"recipientDid": bob.DID, "content": "token AAAAA-AAAAA", "senderDid": bob.DID}, nil)
	if b.token(t, "robert@example.com") != "AAAAA-AAAAA" {
		t.Error("the message did not arrive")
	}
	fails(t, admin.Procedure(ctx, "com.atproto.admin.sendEmail", map[string]any{"recipientDid": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "content": "x", "senderDid": bob.DID}, nil), 400, "InvalidRequest")

	var made struct {
		Codes []struct {
			Account string
			Codes   []string
		}
	}
	admin.call(t, "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 2, "useCount": 1, "forAccounts": []string{string(alice.DID)}}, &made)
	var codes struct {
		Cursor string
		Codes  []struct {
			Code     string
			Disabled bool
		}
	}
	if err := alice.Query(ctx, "com.atproto.server.getAccountInviteCodes", nil, &codes); err != nil || len(codes.Codes) != 2 {
		t.Errorf("codes %+v %v", codes, err)
	}
	admin.call(t, "com.atproto.admin.disableInviteCodes", map[string]any{"codes": made.Codes[0].Codes[:1]}, nil)
	fails(t, admin.Procedure(ctx, "com.atproto.admin.disableInviteCodes", map[string]any{"accounts": []string{"admin"}}, nil), 400, "InvalidRequest")
	seen := map[string]bool{}
	for cursor := ""; ; cursor = codes.Cursor {
		q := url.Values{"limit": {"1"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		codes.Cursor, codes.Codes = "", nil
		if err := admin.Query(ctx, "com.atproto.admin.getInviteCodes", q, &codes); err != nil {
			t.Fatal(err)
		}
		if len(codes.Codes) == 0 {
			break
		}
		seen[codes.Codes[0].Code] = codes.Codes[0].Disabled
	}
	if len(seen) != 2 || !seen[made.Codes[0].Codes[0]] || seen[made.Codes[0].Codes[1]] {
		t.Errorf("all codes: %v", seen)
	}
	admin.call(t, "com.atproto.admin.disableAccountInvites", map[string]any{"account": alice.DID}, nil)
	admin.call(t, "com.atproto.admin.enableAccountInvites", map[string]any{"account": alice.DID}, nil)

	for range 2 {
		admin.call(t, "com.atproto.admin.deleteAccount", map[string]any{"did": bob.DID}, nil) // again is no error
	}
	if diff := cmp.Diff([]string{"#account deleted"}, b.events(t, bob.DID)); diff != "" {
		t.Error(diff)
	}
}

func TestIdentity(t *testing.T) {
	ctx := context.Background()
	b := newSandbox(t)
	alice := b.register("alice")
	b.register("bob")
	update := func(handle string) error {
		return alice.Procedure(ctx, "com.atproto.identity.updateHandle", map[string]any{"handle": handle}, nil)
	}
	fails(t, update("bob.test"), 400, "InvalidRequest")
	fails(t, update("x.test"), 400, "InvalidHandle")
	fails(t, update("alice.example.org"), 400, "InvalidRequest")
	if err := update("Alicia.test"); err != nil {
		t.Fatal(err)
	}
	var d struct {
		Handle          string
		HandleIsCorrect bool
		DIDDoc          struct{ AlsoKnownAs []string }
	}
	if err := alice.Query(ctx, "com.atproto.repo.describeRepo", url.Values{"repo": {string(alice.DID)}}, &d); err != nil || d.Handle != "alicia.test" || !d.HandleIsCorrect || d.DIDDoc.AlsoKnownAs[0] != "at://alicia.test" {
		t.Errorf("describeRepo %+v %v", d, err)
	}
	fails(t, alice.Query(ctx, "com.atproto.identity.resolveHandle", url.Values{"handle": {"alice.test"}}, nil), 400, "InvalidRequest")
	events := b.events(t, alice.DID)
	if events[len(events)-1] != "#identity" {
		t.Errorf("events %v", events)
	}

	var creds map[string]any
	if err := alice.Query(ctx, "com.atproto.identity.getRecommendedDidCredentials", nil, &creds); err != nil || len(creds) != 4 {
		t.Fatalf("credentials %v %v", creds, err)
	}
	fails(t, alice.Procedure(ctx, "com.atproto.identity.signPlcOperation", map[string]any{}, nil), 400, "InvalidRequest")
	fails(t, alice.Procedure(ctx, "com.atproto.identity.signPlcOperation", map[string]any{"token": "AAAAA-AAAAA"}, nil), 400, "InvalidToken")
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	creds["token"] = b.token(t, "alice@example.com")
	creds["alsoKnownAs"] = []string{"at://alicia.test", "https://alicia.example.com"}
	var signed struct{ Operation json.RawMessage }
	alice.call(t, "com.atproto.identity.signPlcOperation", creds, &signed)
	alice.call(t, "com.atproto.identity.submitPlcOperation", map[string]any{"operation": signed.Operation}, nil)
	if err := alice.Query(ctx, "com.atproto.repo.describeRepo", url.Values{"repo": {string(alice.DID)}}, &d); err != nil || len(d.DIDDoc.AlsoKnownAs) != 2 {
		t.Errorf("describeRepo %+v %v", d, err)
	}
	var other map[string]any
	if err := json.Unmarshal(signed.Operation, &other); err != nil {
		t.Fatal(err)
	}
	other["rotationKeys"] = []any{"did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc"}
	fails(t, alice.Procedure(ctx, "com.atproto.identity.submitPlcOperation", map[string]any{"operation": other}, nil), 400, "InvalidRequest")
	fails(t, alice.Procedure(ctx, "com.atproto.identity.submitPlcOperation", map[string]any{"operation": map[string]any{}}, nil), 400, "InvalidRequest")

	var one, two struct{ SigningKey string }
	anyone := &user{Client: b.anonymous()}
	anyone.call(t, "com.atproto.server.reserveSigningKey", map[string]any{"did": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}, &one)
	anyone.call(t, "com.atproto.server.reserveSigningKey", map[string]any{"did": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}, &two)
	if one.SigningKey != two.SigningKey || !strings.HasPrefix(one.SigningKey, "did:key:zQ3sh") {
		t.Errorf("reserved keys %v %v", one, two)
	}
}
