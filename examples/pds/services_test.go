package main_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// network is a did:plc directory and a service that answers whatever it is asked.
type network struct {
	t   *testing.T
	plc *identity.PLCClient
	key *crypto.PrivateKey // of all services
	url string             // of the service

	mu       sync.Mutex
	seen     []*http.Request
	body     []string
	services int
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	n := &network{t: t, plc: &identity.PLCClient{URL: plc.URL}}
	var err error
	if n.key, err = crypto.GenerateKey(crypto.P256); err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(service.Close)
	n.url = service.URL
	return n
}

func (n *network) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n.mu.Lock()
	n.seen, n.body = append(n.seen, r), append(n.body, string(body))
	n.mu.Unlock()
	answer := `{}`
	if strings.HasSuffix(r.URL.Path, ".putPreferences") {
		return
	}
	switch strings.TrimPrefix(r.URL.Path, "/xrpc/") {
	case "com.atproto.repo.getRecord":
		answer = `{"uri":"at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.generator/cats","cid":"bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi","value":{"did":"did:web:cats.example.com"}}`
		switch r.URL.Query().Get("rkey") {
		case "none":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			answer = `{"error":"RecordNotFound","message":"none"}`
		case "odd":
			answer = `{"value":{"did":5}}`
		}
	case "com.atproto.moderation.createReport":
		answer = `{"id":1,"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"},"reportedBy":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb","createdAt":"2026-01-01T00:00:00.000Z"}`
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, answer)
}

// count is how many requests the service has had.
func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.seen)
}

// last is the last request to the service, and its body.
func (n *network) last() (*http.Request, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.seen) == 0 {
		n.t.Fatal("the service was not asked")
	}
	return n.seen[len(n.seen)-1], n.body[len(n.body)-1]
}

// service registers a DID with the key for all purposes, and the service at a fragment.
func (n *network) service(fragment string) syntax.DID {
	n.t.Helper()
	n.services++
	op := identity.NewPLCOperation(syntax.Handle(fmt.Sprintf("service%d.example.com", n.services)), n.url, n.key.PublicKey(), n.key.PublicKey())
	op.VerificationMethods["atproto_label"] = n.key.PublicKey().DIDKey()
	op.Services[fragment] = identity.PLCService{Type: "Service", Endpoint: n.url}
	if err := op.Sign(context.Background(), n.key); err != nil {
		n.t.Fatal(err)
	}
	did, err := op.DID()
	if err == nil {
		err = n.plc.Submit(context.Background(), did, op)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return did
}

// start starts a server in this process that belongs to the network.
func (n *network) start(env map[string]string) *sandbox {
	n.t.Helper()
	mail := n.t.TempDir() + "/mail.jsonl"
	all := map[string]string{"PDS_DID_PLC_URL": n.plc.URL, "PDS_EMAIL_SINK_FILE": mail}
	maps.Copy(all, env)
	return &sandbox{&process{t: n.t, url: inProcess(n.t, all).URL()}, mail}
}

// by is a client with a service token.
func (n *network) by(b *sandbox, token serviceauth.Token, key crypto.Signer) *xrpc.Client {
	n.t.Helper()
	if token.Audience == "" {
		token.Audience = "did:web:localhost"
	}
	text, err := serviceauth.Sign(context.Background(), key, token)
	if err != nil {
		n.t.Fatal(err)
	}
	return &xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(text), Retries: -1}
}

// TestModerationService: the moderation service may do what the administrator may, of what
// concerns moderation, with tokens of its own; and nobody else may.
func TestModerationService(t *testing.T) {
	ctx := t.Context()
	n := newNetwork(t)
	mod := n.service("atproto_labeler")
	b := n.start(map[string]string{"PDS_MOD_SERVICE_DID": string(mod), "PDS_MOD_SERVICE_URL": n.url})
	alice := b.register("alice")
	const info, update = "com.atproto.admin.getAccountInfo", "com.atproto.admin.updateSubjectStatus"
	did := url.Values{"did": {string(alice.DID)}}
	as := func(issuer, method string) serviceauth.Token {
		return serviceauth.Token{Issuer: issuer, Method: method}
	}

	for _, issuer := range []string{string(mod), string(mod) + "#atproto_labeler"} {
		if err := n.by(b, as(issuer, info), n.key).Query(ctx, info, did, nil); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
	account := map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}
	for _, applied := range []bool{true, false} {
		in := map[string]any{"subject": account, "takedown": map[string]any{"applied": applied}}
		if err := n.by(b, as(string(mod), update), n.key).Procedure(ctx, update, in, nil); err != nil {
			t.Error(err)
		}
	}
	events := b.events(t, alice.DID)
	if diff := cmp.Diff([]string{"#account takendown", "#account"}, events[len(events)-2:]); diff != "" {
		t.Error(diff)
	}
	alice, _ = b.login(t, "alice.test", "password of alice")
	const prefs = "app.bsky.actor.getPreferences"
	birth := map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-01-01T00:00:00Z"}
	alice.call(t, "app.bsky.actor.putPreferences", map[string]any{"preferences": []any{birth}}, nil)
	var out struct{ Preferences []any }
	if err := n.by(b, as(string(mod), prefs), n.key).Query(ctx, prefs, did, &out); err != nil || len(out.Preferences) != 2 {
		t.Errorf("preferences %v %v", out, err)
	}
	fails(t, n.by(b, as(string(mod), prefs), n.key).Query(ctx, prefs, nil, nil), 400, "InvalidRequest")
	fails(t, n.by(b, as(string(mod), prefs), n.key).Query(ctx, prefs, url.Values{"did": {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}}, nil), 403, "AccountNotFound")

	stranger, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	late := as(string(mod), info)
	late.Issued = time.Now().Add(-time.Hour)
	abroad := as(string(mod), info)
	abroad.Audience = "did:web:elsewhere.example.com"
	for name, tt := range map[string]struct {
		token serviceauth.Token
		key   crypto.Signer
		want  string
	}{
		"of another service":     {as(string(n.service("atproto_labeler")), info), n.key, "UntrustedIss"},
		"of an account here":     {as(string(alice.DID), info), stranger, "UntrustedIss"},
		"for another method":     {as(string(mod), update), n.key, "BadJwtLexiconMethod"},
		"for no method":          {as(string(mod), ""), n.key, "BadJwtLexiconMethod"},
		"for another server":     {abroad, n.key, "BadJwtAudience"},
		"that is late":           {late, n.key, "JwtExpired"},
		"with another's key":     {as(string(mod), info), stranger, "BadJwtSignature"},
		"with another fragment":  {as(string(mod)+"#other", info), n.key, "UntrustedIss"},
		"with a key of no entry": {serviceauth.Token{Issuer: string(mod), Method: info, KeyID: "other"}, n.key, "BadJwtSignature"},
	} {
		if err := n.by(b, tt.token, tt.key).Query(ctx, info, did, nil); !isError(err, 401, tt.want) {
			t.Errorf("a token %s: %v, want %s", name, err, tt.want)
		}
	}
	twice := n.by(b, as(string(mod), info), n.key)
	if err := twice.Query(ctx, info, did, nil); err != nil {
		t.Error(err)
	}
	fails(t, twice.Query(ctx, info, did, nil), 401, "JwtReplayed")
	const del = "com.atproto.admin.deleteAccount"
	fails(t, n.by(b, as(string(mod), del), n.key).Procedure(ctx, del, map[string]any{"did": alice.DID}, nil), 401, "AuthMissing")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iss":%q,"aud":"did:web:localhost","lxm":%q,"exp":%d}`, mod, info, time.Now().Add(time.Minute).Unix())) + "."
	err = (&xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(unsigned)}).Query(ctx, info, did, nil)
	if e, ok := err.(*xrpc.Error); !ok || e.Status != 401 {
		t.Errorf("a token without signature: %v", err)
	}
}

// TestUploadByService: a service uploads a blob with a token that the account had signed for it.
func TestUploadByService(t *testing.T) {
	ctx := t.Context()
	n := newNetwork(t)
	b := n.start(nil)
	alice, bob := b.register("alice"), b.register("bob")
	const upload = "com.atproto.repo.uploadBlob"
	token := func(u *user, method string) string {
		t.Helper()
		var auth struct{ Token string }
		q := url.Values{"aud": {"did:web:localhost"}, "lxm": {method}, "exp": {fmt.Sprint(time.Now().Add(30 * time.Minute).Unix())}}
		if err := u.Query(ctx, "com.atproto.server.getServiceAuth", q, &auth); err != nil {
			t.Fatal(err)
		}
		return auth.Token
	}
	put := func(token string) (cid string, err error) {
		var out struct {
			Blob struct {
				Ref struct {
					Link string `json:"$link"`
				}
			}
		}
		c := &xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(token)}
		err = c.Upload(ctx, upload, "text/plain", strings.NewReader("a video"), &out)
		return out.Blob.Ref.Link, err
	}
	good := token(alice, upload)
	for range 2 { // the first answer may have been lost
		if cid, err := put(good); err != nil || cid == "" {
			t.Errorf("upload: %q %v", cid, err)
		}
	}
	_, err := put(token(alice, "com.atproto.repo.getRecord"))
	fails(t, err, 401, "BadJwtLexiconMethod")
	mod := n.service("other")
	foreign, err := serviceauth.Sign(ctx, n.key, serviceauth.Token{Issuer: string(mod), Audience: "did:web:localhost", Method: upload})
	if err != nil {
		t.Fatal(err)
	}
	_, err = put(foreign)
	fails(t, err, 403, "AccountNotFound")
	forged, err := serviceauth.Sign(ctx, n.key, serviceauth.Token{Issuer: string(bob.DID), Audience: "did:web:localhost", Method: upload})
	if err != nil {
		t.Fatal(err)
	}
	_, err = put(forged)
	fails(t, err, 401, "BadJwtSignature")
	b.admin().call(t, "com.atproto.admin.updateSubjectStatus", map[string]any{
		"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}, "takedown": map[string]any{"applied": true}}, nil)
	_, err = put(good)
	fails(t, err, 401, "AccountTakedown")
}

// TestPassedOn calls the methods that are passed on, with what this server adds to them.
func TestPassedOn(t *testing.T) {
	ctx := t.Context()
	n := newNetwork(t)
	view, reports, push := n.service("bsky_appview"), n.service("atproto_labeler"), n.service("bsky_notif")
	b := n.start(map[string]string{
		"PDS_BSKY_APP_VIEW_URL": n.url, "PDS_BSKY_APP_VIEW_DID": string(view), "PDS_REPORT_SERVICE_URL": n.url, "PDS_REPORT_SERVICE_DID": string(reports),
	})
	alice := b.register("alice")
	// told is what the service token of the last request says.
	told := func(method string, aud syntax.DID, lxm string) {
		t.Helper()
		r, _ := n.last()
		if r.URL.Path != "/xrpc/"+method {
			t.Errorf("asked for %s", r.URL)
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if aud == "" {
			if token != "" {
				t.Errorf("token %s", token)
			}
			return
		}
		if claim(t, token, "iss") != string(alice.DID) || claim(t, token, "aud") != string(aud) || claim(t, token, "lxm") != lxm {
			t.Errorf("%s: token for %v of %v, want %s of %s", method, claim(t, token, "lxm"), claim(t, token, "aud"), lxm, aud)
		}
	}
	for _, method := range readafter.Methods() {
		if err := alice.Query(ctx, method, url.Values{"actor": {"alice.test"}}, nil); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		told(method, view, method)
	}

	const getFeed = "app.bsky.feed.getFeed"
	feed := func(uri string) error {
		return alice.Query(ctx, getFeed, url.Values{"feed": {uri}, "limit": {"3"}}, nil)
	}
	if err := feed("at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.generator/cats"); err != nil {
		t.Error(err)
	}
	told(getFeed, "did:web:cats.example.com", "app.bsky.feed.getFeedSkeleton")
	for _, uri := range []string{"at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.generator/none", "at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.generator/odd", "at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"} {
		if err := feed(uri); !isError(err, 400, "UnknownFeed") && !isError(err, 502, "UpstreamFailure") {
			t.Errorf("%s: %v", uri, err)
		}
	}
	fails(t, feed("cats"), 400, "InvalidRequest")

	for _, method := range []string{"app.bsky.notification.registerPush", "app.bsky.notification.unregisterPush"} {
		in := func(to syntax.DID) map[string]any {
			return map[string]any{"serviceDid": to, "token": "abc", "platform": "web", "appId": "example"}
		}
		for _, to := range []syntax.DID{view, push} {
			alice.call(t, method, in(to), nil)
			told(method, to, method)
			if _, body := n.last(); !strings.Contains(body, `"token":"abc"`) {
				t.Errorf("body %s", body)
			}
		}
		fails(t, alice.Procedure(ctx, method, in(reports), nil), 400, "InvalidRequest") // has no such service
		fails(t, alice.Procedure(ctx, method, in("x"), nil), 400, "InvalidRequest")
	}

	elsewhere := url.Values{"repo": {"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}, "collection": {"app.bsky.feed.generator"}, "rkey": {"cats"}}
	if err := alice.Query(ctx, "com.atproto.repo.getRecord", elsewhere, nil); err != nil {
		t.Error(err)
	}
	told("com.atproto.repo.getRecord", "", "")
	elsewhere.Set("rkey", "none")
	fails(t, alice.Query(ctx, "com.atproto.repo.getRecord", elsewhere, nil), 400, "RecordNotFound")

	// Preferences for another service are that one's.
	n.mu.Lock()
	n.seen = nil
	n.mu.Unlock()
	named := func(ref string) *user {
		return &user{Client: &xrpc.Client{Host: b.url, Authorize: func(r *http.Request) error {
			r.Header.Set("Atproto-Proxy", ref)
			return xrpc.Bearer(alice.AccessJWT)(r)
		}}}
	}
	own, other := named(string(view)+"#bsky_appview"), named(string(push)+"#bsky_notif")
	for _, u := range []*user{alice, own} {
		if err := u.Query(ctx, "app.bsky.actor.getPreferences", nil, nil); err != nil || n.count() > 0 {
			t.Errorf("%d requests, %v", n.count(), err)
		}
	}
	other.call(t, "app.bsky.actor.putPreferences", map[string]any{"preferences": []any{}}, nil)
	told("app.bsky.actor.putPreferences", push, "app.bsky.actor.putPreferences")

	// Who was taken down may complain about it, and not do more.
	b.admin().call(t, "com.atproto.admin.updateSubjectStatus", map[string]any{
		"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}, "takedown": map[string]any{"applied": true}}, nil)
	down := &user{}
	if err := b.anonymous().Procedure(ctx, "com.atproto.server.createSession", map[string]any{
		"identifier": "alice.test", "password": "password of alice", "allowTakendown": true}, down); err != nil {
		t.Fatal(err)
	}
	down.Client = &xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(down.AccessJWT)}
	report := map[string]any{"reasonType": "com.atproto.moderation.defs#reasonAppeal", "subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}}
	down.call(t, "com.atproto.moderation.createReport", report, nil)
	told("com.atproto.moderation.createReport", reports, "com.atproto.moderation.createReport")
	delete(report, "subject")
	fails(t, down.Procedure(ctx, "com.atproto.moderation.createReport", report, nil), 400, "InvalidRequest")
	fails(t, down.Query(ctx, "app.bsky.feed.getTimeline", nil, nil), 400, "InvalidToken")
	fails(t, down.Query(ctx, "com.atproto.server.getServiceAuth", url.Values{"aud": {string(view)}, "lxm": {"app.bsky.feed.getTimeline"}}, nil), 400, "InvalidToken")
	if err := down.Query(ctx, "com.atproto.server.getServiceAuth", url.Values{"aud": {string(view)}, "lxm": {"com.atproto.server.createAccount"}}, nil); err != nil {
		t.Errorf("a token to move away: %v", err)
	}
	// The account can be read by itself and by the administrator, and by nobody else.
	did := url.Values{"did": {string(alice.DID)}}
	for _, method := range []string{"getRepo", "getLatestCommit", "getHead", "getCheckout", "listBlobs"} {
		fails(t, b.anonymous().Query(ctx, "com.atproto.sync."+method, did, nil), 400, "RepoTakendown")
		for _, u := range []*user{down, b.admin()} {
			res, err := u.Get(ctx, "com.atproto.sync."+method, did)
			if err != nil {
				t.Errorf("%s: %v", method, err)
				continue
			}
			res.Body.Close()
		}
	}
	var list struct {
		Repos []struct {
			DID    syntax.DID
			Active bool
			Status string
		}
	}
	if err := b.anonymous().Query(ctx, "com.atproto.sync.listRepos", nil, &list); err != nil || len(list.Repos) != 1 || list.Repos[0].Active || list.Repos[0].Status != "takendown" {
		t.Errorf("listRepos %+v %v", list, err)
	}
}
