package xrpc_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// says is a handler that answers with a word.
func says(word string) xrpc.Handler {
	return xrpc.Query(func(ctx, *xrpc.Request, struct{}) (name, error) { return name{word}, nil })
}

// get calls a query of a server.
func get(s *xrpc.Server, nsid string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest("GET", "/xrpc/"+nsid, nil))
	return rec
}

func TestReplaceAndWrap(t *testing.T) {
	s := &xrpc.Server{}
	s.Handle(xrpc.Route{NSID: "com.example.one", Handler: says("one")}, xrpc.Route{NSID: "com.example.two", Handler: says("two")})
	s.Replace(xrpc.Route{NSID: "com.example.one", Handler: says("another")})
	order := ""
	s.With("com.example.two", func(rt xrpc.Route) xrpc.Route {
		rt.Handler = rt.Handler.Wrap(func(w http.ResponseWriter, r *xrpc.Request, next func(http.ResponseWriter, *xrpc.Request) error) error {
			order += "before "
			err := next(w, r)
			order += "after"
			return err
		})
		return rt
	})
	check(t, "replaced", get(s, "com.example.one").Body.String(), `{"name":"another"}`)
	check(t, "wrapped", get(s, "com.example.two").Body.String(), `{"name":"two"}`)
	check(t, "order", order, "before after")
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest("POST", "/xrpc/com.example.two", nil))
	check(t, "the HTTP method of what is wrapped", rec.Code, http.StatusMethodNotAllowed)
	var names []string
	for _, rt := range s.Routes() {
		names = append(names, rt.NSID)
	}
	check(t, "routes", names, []string{"com.example.one", "com.example.two"})
}

// Misuse panics when it happens, with a sentence that says what to do.
func TestMisuseOfRoutes(t *testing.T) {
	user := func(*xrpc.Request) (auth.Principal, error) { return auth.Principal{}, nil }
	for what, tc := range map[string]struct {
		do   func(s *xrpc.Server)
		says string
	}{
		"two of a name":  {func(s *xrpc.Server) { s.Handle(xrpc.Route{NSID: "com.example.one", Handler: says("x")}) }, "Server.Replace"},
		"no name":        {func(s *xrpc.Server) { s.Handle(xrpc.Route{Handler: says("x")}) }, "Route.NSID"},
		"no such":        {func(s *xrpc.Server) { s.Replace(xrpc.Route{NSID: "com.example.none", Handler: says("x")}) }, "Server.Handle"},
		"none to change": {func(s *xrpc.Server) { s.With("com.example.none", func(rt xrpc.Route) xrpc.Route { return rt }) }, "Server.Handle"},
		"another name": {func(s *xrpc.Server) {
			s.With("com.example.one", func(rt xrpc.Route) xrpc.Route { rt.NSID = "x"; return rt })
		}, "keep the name"},
		"no handler":     {func(s *xrpc.Server) { s.Replace(xrpc.Route{NSID: "com.example.one"}) }, "no Handler"},
		"wrapped in nil": {func(s *xrpc.Server) { s.Replace(xrpc.Route{NSID: "com.example.one", Handler: says("x").Wrap(nil)}) }, "no Handler"},
		"needs of nobody": {func(s *xrpc.Server) {
			s.Replace(xrpc.Route{NSID: "com.example.one", Handler: says("x"), Needs: []auth.Permission{auth.ReadEmail}})
		}, "no Auth"},
		"the zero need": {func(s *xrpc.Server) {
			s.Replace(xrpc.Route{NSID: "com.example.one", Handler: says("x"), Auth: user, Needs: []auth.Permission{{}}})
		}, "zero Permission"},
	} {
		func() {
			s := &xrpc.Server{}
			s.Handle(xrpc.Route{NSID: "com.example.one", Handler: says("one")})
			defer func() {
				if msg := fmt.Sprint(recover()); !strings.Contains(msg, tc.says) {
					t.Errorf("%s: panic %q, want %q in it", what, msg, tc.says)
				}
				check(t, what+": the route before", get(s, "com.example.one").Body.String(), `{"name":"one"}`)
			}()
			tc.do(s)
		}()
	}
}

// TestNeeds: what a route needs is checked before its handler runs, before the rate limit and before
// the body is read; and who lacks something is told in the words that their client knows.
func TestNeeds(t *testing.T) {
	scopes, _ := auth.ParseScopes("repo:com.example.one account:email")
	callers := map[string]auth.Principal{
		"anonymous": {},
		"password":  {Role: auth.User, Credential: auth.PasswordSession, DID: "did:web:a.example", Permissions: auth.Everything()},
		"app":       {Role: auth.User, Credential: auth.AppSession, DID: "did:web:a.example", Permissions: auth.AppPassword(false)},
		"oauth":     {Role: auth.User, Credential: auth.OAuthSession, DID: "did:web:a.example", Permissions: scopes},
		"admin":     {Role: auth.Administrator, Credential: auth.AdminCredentials, Permissions: auth.Only(auth.Administer)},
		"service":   {Role: auth.Service, Credential: auth.ServiceToken, DID: "did:web:a.example"},
	}
	var ran, limited bool
	var log bytes.Buffer
	s := &xrpc.Server{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Limit:  func(http.ResponseWriter, *xrpc.Request) error { limited = true; return nil },
	}
	who := func(r *xrpc.Request) (auth.Principal, error) { return callers[r.Header.Get("Authorization")], nil }
	demand := map[string][]auth.Permission{
		"com.example.email":  nil,
		"com.example.keys":   nil,
		"com.example.write":  {auth.Write(auth.Create, "com.example.one"), auth.Write(auth.Delete, "com.example.two")},
		"com.example.chat":   {auth.Call("chat.bsky.convo.getLog", "did:web:a.example#s")},
		"com.example.forget": {auth.Write(auth.Update, "com.example.one")},
		"com.example.host":   nil,
	}
	for nsid, needs := range map[string][]auth.Permission{
		"com.example.email":  {auth.ReadEmail},
		"com.example.keys":   {auth.ManageCredentials},
		"com.example.write":  {auth.Write(auth.Create, auth.FromInput), auth.Write(auth.Delete, auth.FromInput)},
		"com.example.chat":   {auth.Call(auth.FromInput, auth.FromInput)},
		"com.example.forget": {auth.Write(auth.Create, auth.FromInput)}, // not what it demands
		"com.example.host":   {auth.Administer},
	} {
		s.Handle(xrpc.Route{NSID: nsid, Auth: who, Needs: needs, Handler: xrpc.RawQuery(func(w http.ResponseWriter, r *xrpc.Request, _ struct{}) error {
			ran = true
			return r.Demand(demand[nsid]...)
		})})
	}
	const ok, missing, bad, unknown, fault = "200 ", "403 ScopeMissingError", "400 InvalidToken", "401 AuthMissing", "500 InternalServerError"
	for _, tc := range []struct {
		nsid string
		runs bool // before it is refused
		want map[string]string
	}{
		{"com.example.email", false, map[string]string{"anonymous": unknown, "password": ok, "app": ok, "oauth": ok, "admin": missing, "service": missing}},
		{"com.example.keys", false, map[string]string{"anonymous": unknown, "password": ok, "app": bad, "oauth": missing, "admin": missing, "service": missing}},
		{"com.example.write", true, map[string]string{"anonymous": unknown, "password": ok, "app": ok, "oauth": missing, "admin": missing, "service": missing}},
		{"com.example.chat", true, map[string]string{"anonymous": unknown, "password": ok, "app": bad, "oauth": missing, "admin": missing, "service": missing}},
		{"com.example.forget", true, map[string]string{"anonymous": fault, "password": fault, "app": fault, "oauth": fault, "admin": fault, "service": fault}},
		{"com.example.host", false, map[string]string{"anonymous": unknown, "password": bad, "app": bad, "oauth": missing, "admin": ok, "service": missing}},
	} {
		for as, want := range tc.want {
			ran, limited = false, false
			log.Reset()
			r := httptest.NewRequest("GET", "/xrpc/"+tc.nsid, nil)
			r.Header.Set("Authorization", as)
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			_, after, _ := strings.Cut(rec.Body.String(), `"error":"`)
			errorName, _, _ := strings.Cut(after, `"`)
			check(t, tc.nsid+" by "+as, fmt.Sprint(rec.Code, " ", errorName), want)
			check(t, tc.nsid+" by "+as+" runs", [2]bool{ran, limited}, [2]bool{tc.runs || want == ok, tc.runs || want == ok})
			if logged := strings.Contains(log.String(), "Route.Needs"); logged != (want == fault) {
				t.Errorf("%s by %s: the log is %q", tc.nsid, as, log.String())
			}
		}
	}
	// A request that came by no route has declared nothing.
	err := (&xrpc.Request{Principal: callers["password"]}).Demand(auth.ReadEmail)
	if e := (*xrpc.Error)(nil); err == nil || errors.As(err, &e) {
		t.Error(err)
	}
}
