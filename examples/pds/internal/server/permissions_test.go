package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// A caller is a letter in the table below.
const (
	anonymous = '-'
	password  = 'p' // a session that was opened with the account's password
	app       = 'a' // with an app password
	private   = 'v' // with a privileged one, which may read private messages
	down      = 'd' // a session of an account that was taken down before
	ended     = 'e' // a session that the takedown of its account has ended
	refresh   = 'r' // a refresh token
	service   = 's' // a service token of an account elsewhere
	own       = 'o' // a service token of an account of this server
	operator  = 'A' // the administrator
	moderator = 'm' // a service token of the moderation service
)

// callers are all, in the order of the letters in the table.
var callers = []rune{anonymous, password, app, private, down, ended, refresh, service, own, operator, moderator}

// The callers of methods of one kind.
const (
	anybody    = "-pavdersoAm"
	users      = "pav"
	usersDown  = "pavd"
	owner      = "p"
	ownerDown  = "pd"
	optional   = "-pavdeA" // what is public is so for these too, and others get an error
	moderation = "Am"
)

// method is a line of the table: who may call a method, what its route declares that it needs, and
// with which scopes an OAuth client may call it (none: with any; "no": never). A scope in which the
// input stands is that of the input below.
type method struct {
	nsid, who, needs string
	scopes           []string
}

const (
	never = "no"
	// testAppView is the AppView of these tests.
	testAppView = "did:web:view.example.com#bsky_appview"
)

var table = []method{
	{"app.bsky.actor.getPreferences", "pavdm", "rpc:app.bsky.actor.getPreferences " + testAppView, []string{"rpc:app.bsky.actor.getPreferences?aud=did:web:view.example.com%23bsky_appview"}},
	{"app.bsky.actor.putPreferences", users, "rpc:app.bsky.actor.putPreferences " + testAppView, []string{"rpc:app.bsky.actor.putPreferences?aud=did:web:view.example.com%23bsky_appview"}},
	{"app.bsky.feed.getFeed", users, "rpc:app.bsky.feed.getFeedSkeleton {input}, rpc:app.bsky.feed.getFeed {input}",
		[]string{"rpc:app.bsky.feed.getFeed?aud=did:web:view.example.com%23bsky_appview", "rpc:app.bsky.feed.getFeedSkeleton?aud=did:web:view.example.com%23bsky_appview"}},
	{"app.bsky.notification.registerPush", users, "rpc:app.bsky.notification.registerPush {input}", []string{"rpc:app.bsky.notification.registerPush?aud=did:web:push.example.com%23bsky_notif"}},
	{"app.bsky.notification.unregisterPush", users, "rpc:app.bsky.notification.unregisterPush {input}", []string{"rpc:app.bsky.notification.unregisterPush?aud=did:web:push.example.com%23bsky_notif"}},
	{"com.atproto.admin.deleteAccount", "A", "host:administer", nil},
	{"com.atproto.admin.disableAccountInvites", moderation, "host:moderate", nil},
	{"com.atproto.admin.disableInviteCodes", moderation, "host:moderate", nil},
	{"com.atproto.admin.enableAccountInvites", moderation, "host:moderate", nil},
	{"com.atproto.admin.getAccountInfo", moderation, "host:moderate", nil},
	{"com.atproto.admin.getAccountInfos", moderation, "host:moderate", nil},
	{"com.atproto.admin.getInviteCodes", moderation, "host:moderate", nil},
	{"com.atproto.admin.getSubjectStatus", moderation, "host:moderate", nil},
	{"com.atproto.admin.sendEmail", moderation, "host:moderate", nil},
	{"com.atproto.admin.updateAccountEmail", "A", "host:administer", nil},
	{"com.atproto.admin.updateAccountHandle", "A", "host:administer", nil},
	{"com.atproto.admin.updateAccountPassword", "A", "host:administer", nil},
	{"com.atproto.admin.updateSubjectStatus", moderation, "host:moderate", nil},
	{"com.atproto.identity.getRecommendedDidCredentials", users, "", nil},
	{"com.atproto.identity.requestPlcOperationSignature", ownerDown, "identity *", []string{"identity:*"}},
	{"com.atproto.identity.resolveHandle", anybody, "", nil},
	{"com.atproto.identity.signPlcOperation", ownerDown, "identity *", []string{"identity:*"}},
	{"com.atproto.identity.submitPlcOperation", users, "identity:submit *", []string{"identity:*"}},
	{"com.atproto.identity.updateHandle", users, "identity handle", []string{"identity:handle"}},
	{"com.atproto.moderation.createReport", usersDown, "rpc:com.atproto.moderation.createReport {input}", []string{"rpc:com.atproto.moderation.createReport?aud=did:web:reports.example.com%23atproto_labeler"}},
	{"com.atproto.repo.applyWrites", users, "repo:create {input}, repo:update {input}, repo:delete {input}",
		[]string{"repo:com.example.one?action=create", "repo:com.example.two?action=update", "repo:com.example.three?action=delete"}},
	{"com.atproto.repo.createRecord", users, "repo:create {input}", []string{"repo:com.example.one?action=create"}},
	{"com.atproto.repo.deleteRecord", users, "repo:delete {input}", []string{"repo:com.example.one?action=delete"}},
	{"com.atproto.repo.describeRepo", anybody, "", nil},
	{"com.atproto.repo.getRecord", anybody, "", nil},
	{"com.atproto.repo.importRepo", owner, "account:manage repo", []string{"account:repo?action=manage"}},
	{"com.atproto.repo.listMissingBlobs", users, "", nil},
	{"com.atproto.repo.listRecords", anybody, "", nil},
	{"com.atproto.repo.putRecord", users, "repo:create {input}, repo:update {input}", []string{"repo:com.example.one?action=create", "repo:com.example.one?action=update"}},
	{"com.atproto.repo.uploadBlob", "pavo", "blob {input}", []string{"blob:image/png"}},
	{"com.atproto.server.activateAccount", owner, "account:manage lifecycle", []string{never}},
	{"com.atproto.server.checkAccountStatus", users, "", nil},
	{"com.atproto.server.confirmEmail", users, "account:manage email", []string{"account:email?action=manage"}},
	{"com.atproto.server.createAccount", "-som", "", nil},
	{"com.atproto.server.createAppPassword", owner, "account:manage credentials", []string{never}},
	{"com.atproto.server.createInviteCode", "A", "host:administer", nil},
	{"com.atproto.server.createInviteCodes", "A", "host:administer", nil},
	{"com.atproto.server.createSession", anybody, "", nil},
	{"com.atproto.server.deactivateAccount", ownerDown, "account:manage lifecycle", []string{never}},
	{"com.atproto.server.deleteAccount", anybody, "", nil},
	{"com.atproto.server.deleteSession", "r", "", nil},
	{"com.atproto.server.describeServer", anybody, "", nil},
	{"com.atproto.server.getAccountInviteCodes", owner, "account:read invites", []string{never}},
	{"com.atproto.server.getServiceAuth", usersDown, "rpc:{input} {input}", []string{"rpc:com.example.search?aud=did:web:api.example.com%23index"}},
	{"com.atproto.server.getSession", users, "", nil},
	{"com.atproto.server.listAppPasswords", users, "account:read credentials", []string{never}},
	{"com.atproto.server.refreshSession", "r", "", nil},
	{"com.atproto.server.requestAccountDelete", ownerDown, "account:manage lifecycle", []string{never}},
	{"com.atproto.server.requestEmailConfirmation", users, "account:manage email", []string{"account:email?action=manage"}},
	{"com.atproto.server.requestEmailUpdate", owner, "account:manage credentials", []string{never}},
	{"com.atproto.server.requestPasswordReset", anybody, "", nil},
	{"com.atproto.server.reserveSigningKey", anybody, "", nil},
	{"com.atproto.server.resetPassword", anybody, "", nil},
	{"com.atproto.server.revokeAppPassword", owner, "account:manage credentials", []string{never}},
	{"com.atproto.server.updateEmail", owner, "account:manage credentials", []string{never}},
	{"com.atproto.sync.getBlob", optional, "", nil},
	{"com.atproto.sync.getBlocks", optional, "", nil},
	{"com.atproto.sync.getCheckout", optional, "", nil},
	{"com.atproto.sync.getHead", optional, "", nil},
	{"com.atproto.sync.getLatestCommit", optional, "", nil},
	{"com.atproto.sync.getRecord", optional, "", nil},
	{"com.atproto.sync.getRepo", optional, "", nil},
	{"com.atproto.sync.getRepoStatus", anybody, "", nil},
	{"com.atproto.sync.listBlobs", optional, "", nil},
	{"com.atproto.sync.listRepos", anybody, "", nil},
	{"com.atproto.sync.subscribeRepos", anybody, "", nil},
	{"com.atproto.temp.checkSignupQueue", users, "account:read queue", []string{never}},

	// A method that is passed on.
	{"com.example.search", users, "rpc:{input} {input}", []string{"rpc:com.example.search?aud=did:web:api.example.com%23index"}},
	// One of the chat, likewise.
	{"chat.bsky.convo.listConvos", "pv", "rpc:{input} {input}", []string{"rpc:chat.bsky.convo.listConvos?aud=did:web:api.example.com%23index"}},
	// One by which accounts are managed is not, whatever the caller may do.
	{"com.atproto.SERVER.createAppPassword", "", "rpc:{input} {input}", []string{never}},
}

// network is where the DID documents of services are, and the services themselves.
type network struct {
	url string
	key *crypto.PrivateKey
}

func newNetwork(t *testing.T) *network {
	n := new(network)
	var err error
	if n.key, err = crypto.GenerateKey(crypto.K256); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/did.json":
			json.NewEncoder(w).Encode(identity.Document{ID: n.did(), VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(n.did(), identity.SigningKeyID, n.key.PublicKey())}})
		case "/xrpc/com.atproto.repo.getRecord":
			io.WriteString(w, `{"uri":"at://x","value":{"did":"did:web:cats.example.com"}}`)
		default:
			io.WriteString(w, "{}")
		}
	}))
	t.Cleanup(srv.Close)
	n.url = srv.URL
	return n
}

// did is the DID of the services.
func (n *network) did() syntax.DID {
	u, _ := url.Parse(n.url)
	return syntax.DID("did:web:localhost%3A" + u.Port())
}

// start starts a server that knows the network. change sees its methods before they are served.
func (n *network) start(t *testing.T, change func(*pds.Server, *xrpc.Server)) *bench {
	b := &bench{t: t, mail: &mailbox{}}
	view, _, _ := strings.Cut(testAppView, "#")
	cfg := testConfig(t, map[string]string{
		"PDS_ADMIN_PASSWORD": "hunter2", "PDS_RATE_LIMITS_ENABLED": "false",
		"PDS_MOD_SERVICE_URL": n.url, "PDS_MOD_SERVICE_DID": string(n.did()),
		"PDS_BSKY_APP_VIEW_URL": n.url, "PDS_BSKY_APP_VIEW_DID": view,
		"PDS_REPORT_SERVICE_URL": n.url, "PDS_REPORT_SERVICE_DID": "did:web:reports.example.com",
	})
	s, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler), changes{
		config: func(c *pds.Config) { c.Mailer, c.ResetDelay = mailer{b.mail, b.mail}, -1 },
		server: func(s *pds.Server) { change(s, s.Methods) },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Server = s
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	return b
}

// routesOf are the routes of a server by their names, and the fallback by that of each method of
// the table that has no route.
func routesOf(methods *xrpc.Server) map[string]xrpc.Route {
	routes := make(map[string]xrpc.Route)
	for _, rt := range methods.Routes() {
		routes[rt.NSID] = rt
	}
	for _, m := range table {
		if _, ok := routes[m.nsid]; !ok {
			routes[m.nsid] = *methods.Fallback
		}
	}
	return routes
}

// TestWhoMayCallWhat holds the routes of the server against the table: every route is in it, and
// declares what the table says; and every kind of caller comes through to the handlers of the methods
// of the table, and to no others.
func TestWhoMayCallWhat(t *testing.T) {
	n := newNetwork(t)
	var routes map[string]xrpc.Route
	reached := func(w http.ResponseWriter, r *xrpc.Request, _ func(http.ResponseWriter, *xrpc.Request) error) error {
		if r.NSID == "chat.bsky.convo.listConvos" { // demanded by the handler
			if err := r.Demand(auth.Call(string(r.NSID), "did:web:api.example.com#index")); err != nil {
				return err
			}
		}
		w.Header().Set("Reached", "yes")
		return nil
	}
	b := n.start(t, func(s *pds.Server, methods *xrpc.Server) {
		routes = routesOf(methods)
		for _, rt := range methods.Routes() {
			methods.With(rt.NSID, func(rt xrpc.Route) xrpc.Route {
				if rt.NSID != "com.atproto.server.createAccount" && rt.NSID != "com.atproto.server.createSession" {
					rt.Handler = rt.Handler.Wrap(reached)
				}
				return rt
			})
		}
		methods.Fallback.Handler = methods.Fallback.Handler.Wrap(reached)
	})
	named := make(map[string]bool)
	for _, m := range table {
		if named[m.nsid] {
			t.Errorf("%s is twice in the table", m.nsid)
		}
		named[m.nsid] = true
		if got := needsText(routes[m.nsid].Needs); got != m.needs {
			t.Errorf("%s needs %q, want %q", m.nsid, got, m.needs)
		}
	}
	for nsid := range routes {
		if !named[nsid] {
			t.Errorf("%s is not in the table", nsid)
		}
	}
	if t.Failed() {
		return
	}

	alice, carol := b.register("alice"), b.register("carol")
	// The methods that make app passwords do nothing here.
	session := func(privileged bool) string {
		secret, _, err := b.pds.Credentials.CreateAppPassword(t.Context(), account.Trusted(alice.DID), fmt.Sprint(privileged), privileged)
		if err != nil {
			t.Fatal(err)
		}
		return b.open("alice.test", secret, false).AccessJWT
	}
	appToken, privateToken := session(false), session(true)
	err := b.pds.Accounts.TakeDown(t.Context(), carol.DID, account.Takedown{Applied: true, Ref: "x"})
	if err != nil {
		t.Fatal(err)
	}
	downToken := b.open("carol.test", "password of carol", true).AccessJWT
	signer, err := b.pds.Accounts.Signer(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	token := func(key crypto.Signer, issuer syntax.DID, method string) string {
		text, err := serviceauth.Sign(t.Context(), key, serviceauth.Token{Issuer: string(issuer), Audience: "did:web:localhost", Method: method})
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
	stranger := newNetwork(t)
	credentials := func(who rune, method string) string {
		switch who {
		case password:
			return "Bearer " + alice.AccessJWT
		case app:
			return "Bearer " + appToken
		case private:
			return "Bearer " + privateToken
		case down:
			return "Bearer " + downToken
		case ended:
			return "Bearer " + carol.AccessJWT
		case refresh:
			return "Bearer " + alice.RefreshJWT
		case service:
			return token(stranger.key, stranger.did(), method)
		case own:
			return token(signer, alice.DID, method)
		case operator:
			return "Basic YWRtaW46aHVudGVyMg=="
		case moderator:
			return token(n.key, n.did(), method)
		}
		return ""
	}
	for _, m := range table {
		verb := "GET"
		if b.try(verb, m.nsid, "").Status == http.StatusMethodNotAllowed {
			verb = "POST"
		}
		var got []rune
		for _, who := range callers {
			a := b.try(verb, m.nsid, credentials(who, m.nsid))
			refused := a.Status == 401 || a.Status == 403 || a.Name == "InvalidToken" || a.Name == "ExpiredToken"
			if through := a.Header.Get("Reached") == "yes" || a.Name == "InvalidRequest"; through == refused {
				t.Errorf("%s by %c: status %d %s", m.nsid, who, a.Status, a.Body)
			}
			if !refused {
				got = append(got, who)
			}
		}
		if string(got) != m.who {
			t.Errorf("%s may be called by %q, want %q", m.nsid, string(got), m.who)
		}
	}
}

// needsText is the text of permissions in the table.
func needsText(needs []auth.Permission) string {
	list := make([]string, len(needs))
	for i, p := range needs {
		list[i] = p.String()
	}
	return strings.Join(list, ", ")
}

// open opens a session.
func (b *bench) open(identifier, password string, takenDown bool) (t tokens) {
	b.t.Helper()
	a := b.send("POST", "com.atproto.server.createSession", "", "", map[string]any{
		"identifier": identifier, "password": password, "allowTakendown": takenDown}, &t)
	if a.Status != http.StatusOK {
		b.t.Fatal(a.Body)
	}
	return t
}

// try calls a method without an input. Those that are passed on are for a service that is not there.
func (b *bench) try(verb, method, authorization string) testxrpc.Reply {
	return b.input(verb, method, authorization, "", "")
}

// input calls a method with parameters, or with a body if it is a procedure.
func (b *bench) input(verb, method, authorization, contentType, in string) (a testxrpc.Reply) {
	b.t.Helper()
	address := b.URL() + "/xrpc/" + method
	var body io.Reader
	if verb == "GET" {
		address += "?" + in
	} else if in != "" {
		body = strings.NewReader(in)
	}
	r, err := http.NewRequest(verb, address, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if !strings.HasPrefix(method, "com.atproto.") && !strings.HasPrefix(method, "app.bsky.") || strings.HasPrefix(method, "com.atproto.SERVER") {
		r.Header.Set("Atproto-Proxy", "did:web:api.example.com#index")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var e struct{ Error string }
	json.Unmarshal(text, &e)
	return testxrpc.Reply{Status: res.StatusCode, Name: e.Error, Body: string(text), Header: res.Header}
}

// inputs are inputs of the methods whose permissions depend on them: parameters, or a body with its
// type. DID stands for the caller's.
var inputs = map[string][2]string{
	"app.bsky.feed.getFeed":                {"", "feed=at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.generator/cats"},
	"app.bsky.notification.registerPush":   {"application/json", `{"serviceDid":"did:web:push.example.com","token":"x","platform":"ios","appId":"x"}`},
	"app.bsky.notification.unregisterPush": {"application/json", `{"serviceDid":"did:web:push.example.com","token":"x","platform":"ios","appId":"x"}`},
	"com.atproto.moderation.createReport":  {"application/json", `{"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"DID"}}`},
	"com.atproto.repo.applyWrites": {"application/json", `{"repo":"DID","writes":[
		{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.one","value":{}},
		{"$type":"com.atproto.repo.applyWrites#update","collection":"com.example.two","rkey":"x","value":{"x":1}},
		{"$type":"com.atproto.repo.applyWrites#delete","collection":"com.example.three","rkey":"x"}]}`},
	"com.atproto.repo.createRecord":     {"application/json", `{"repo":"DID","collection":"com.example.one","record":{}}`},
	"com.atproto.repo.putRecord":        {"application/json", `{"repo":"DID","collection":"com.example.one","rkey":"x","record":{}}`},
	"com.atproto.repo.deleteRecord":     {"application/json", `{"repo":"DID","collection":"com.example.one","rkey":"x"}`},
	"com.atproto.repo.uploadBlob":       {"image/png", "x"},
	"com.atproto.server.getServiceAuth": {"", "aud=did:web:api.example.com%23index&lxm=com.example.search"},
}

// TestScopesOfMethods: an OAuth client comes through with the scopes of the table, and if one of them
// is missing, that one is named, whatever others the client has.
func TestScopesOfMethods(t *testing.T) {
	n := newNetwork(t)
	var alice tokens
	var routes map[string]xrpc.Route
	b := n.start(t, func(s *pds.Server, methods *xrpc.Server) {
		routes = routesOf(methods)
		client := func(r *xrpc.Request) (auth.Principal, error) {
			// As OAuth would find it, but that no session is there to be looked at when something changes.
			p := auth.Principal{Role: auth.User, Credential: auth.ServiceToken, DID: alice.DID}
			p.Permissions, _ = auth.ParseScopes(r.Header.Get("Authorization"))
			a, err := s.Accounts.ByDID(r.Context(), alice.DID)
			p.Credentials = a.Credentials
			return p, err
		}
		for _, rt := range methods.Routes() {
			if rt.Auth == nil || rt.NSID == "com.atproto.server.createAccount" {
				continue
			}
			methods.With(rt.NSID, func(rt xrpc.Route) xrpc.Route {
				rt.Auth = client
				if !slices.ContainsFunc(rt.Needs, auth.Permission.IsPattern) {
					rt.Handler = rt.Handler.Wrap(func(http.ResponseWriter, *xrpc.Request, func(http.ResponseWriter, *xrpc.Request) error) error {
						return nil
					})
				}
				return rt
			})
		}
		s.Proxy.Auth = client
	})
	alice = b.register("alice")
	for _, rkey := range []string{"two", "three"} {
		batch := repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: syntax.NSID("com.example." + rkey), RKey: "x",
			Record: append([]byte("\xa1\x65$type"), append([]byte{0x60 + byte(len("com.example."+rkey))}, "com.example."+rkey...)...)}}}
		if _, err := b.pds.Host.Apply(t.Context(), alice.DID, batch); err != nil {
			t.Fatal(err)
		}
	}
	// What each scope of the table grants, but for what is under test.
	others := []string{"atproto", "transition:email"}
	for _, m := range table {
		for _, s := range m.scopes {
			if s != never && !slices.Contains(others, s) {
				others = append(others, s)
			}
		}
	}
	for _, m := range table {
		rt := routes[m.nsid]
		if rt.Auth == nil || m.nsid == "com.atproto.server.createAccount" {
			continue
		}
		verb := "GET"
		if b.try(verb, m.nsid, "atproto").Status == http.StatusMethodNotAllowed || inputs[m.nsid][0] != "" {
			verb = "POST"
		}
		call := func(scopes []string) testxrpc.Reply {
			in := inputs[m.nsid]
			return b.input(verb, m.nsid, strings.Join(scopes, " "), in[0], strings.ReplaceAll(in[1], "DID", string(alice.DID)))
		}
		host := strings.HasPrefix(m.needs, "host:")
		if slices.Equal(m.scopes, []string{never}) || host {
			if a := call(append([]string{"transition:generic", "transition:chat.bsky"}, others...)); a.Status != 403 && a.Name != "InvalidToken" {
				t.Errorf("%s: an OAuth client comes through: %d %s", m.nsid, a.Status, a.Body)
			}
			continue
		}
		if a := call(append([]string{"atproto"}, m.scopes...)); a.Status == 401 || a.Status == 403 || a.Status == 500 {
			t.Errorf("%s with %v: %d %s", m.nsid, m.scopes, a.Status, a.Body)
		}
		for _, missing := range m.scopes {
			// Neither the other scopes of the method, nor those of other methods, stand in for it.
			less := slices.DeleteFunc(slices.Clone(others), func(s string) bool { return grants(t, s, missing) })
			a := call(less)
			if a.Status != 403 || a.Name != "ScopeMissingError" || !strings.Contains(a.Body, strings.ReplaceAll(missing, "&", `\u0026`)) {
				t.Errorf("%s without %s: %d %s", m.nsid, missing, a.Status, a.Body)
			}
		}
	}
}

// grants reports whether a scope grants all that another one does. Scopes of the table grant one
// thing each.
func grants(t *testing.T, scope, other string) bool {
	t.Helper()
	a, err := auth.ParseScope(scope)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := auth.ParseScopes(other)
	for _, p := range []auth.Permission{
		auth.ReadEmail, auth.ManageEmail, auth.ManageRepo, auth.ManageHandle, auth.ManageIdentity, auth.Upload("image/png"),
	} {
		if all.Allow(p) && p.Scope() == other {
			return a.Allows(p)
		}
	}
	return a.String() == all.String()
}

// TestScopesInREADME holds the README's table of scopes against what the routes declare.
func TestScopesInREADME(t *testing.T) {
	var want []string
	newNetwork(t).start(t, func(_ *pds.Server, methods *xrpc.Server) {
		for _, rt := range methods.Routes() {
			if text := scopesText(t, rt.Needs); text != "" {
				want = append(want, fmt.Sprintf("| `%s` | %s |", rt.NSID, text))
			}
		}
		want = append(want, fmt.Sprintf("| all that are passed on | %s |", scopesText(t, methods.Fallback.Needs)))
	})
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Scopes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, rows, _ := strings.Cut(section, "| Method | Scopes |\n|---|---|\n")
	rows, _, _ = strings.Cut(rows, "\n\n")
	if rows = strings.TrimSpace(rows); rows != strings.Join(want, "\n") {
		t.Errorf("the table of the README should be:\n%s", strings.Join(want, "\n"))
	}
}

// scopesText are the smallest scopes that grant what a route needs of an account. What only the input
// tells stands in capitals. It is empty for methods that need nothing, or an administrator.
func scopesText(t *testing.T, needs []auth.Permission) string {
	t.Helper()
	examples := strings.NewReplacer("com.example.input", "NSID", "did:web:input.example.com%23id", "SERVICE", "input/input", "TYPE",
		strings.ReplaceAll(testAppView, "#", "%23"), "APPVIEW")
	var list []string
	for _, need := range needs {
		if need.Resource == "host" {
			return ""
		}
		if need.Action == auth.FromInput {
			need.Action = "com.example.input"
		}
		if need.Target == auth.FromInput {
			need.Target = map[string]string{"repo": "com.example.input", "rpc": "did:web:input.example.com#id", "blob": "input/input"}[need.Resource]
		}
		scope := need.Scope()
		if scope == "" {
			return "no app"
		}
		if granted, _ := auth.ParseScopes(scope); !granted.Allow(need) {
			t.Errorf("%s does not grant %s", scope, need)
		}
		list = append(list, "`"+examples.Replace(scope)+"`")
	}
	return strings.Join(list, " ")
}
