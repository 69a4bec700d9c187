package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestNormalForm: scopes that mean the same have one text, which parses to the same scope.
func TestNormalForm(t *testing.T) {
	for in, want := range map[string]string{
		"atproto":              "atproto",
		"transition:chat.bsky": "transition:chat.bsky",
		"repo:com.example.a":   "repo:com.example.a",
		"repo:*":               "repo:*",
		"repo?collection=com.example.a&collection=*":                                      "repo:*",
		"repo?collection=com.example.b&collection=com.example.a&collection=com.example.b": "repo?collection=com.example.a&collection=com.example.b",
		"repo:com.example.a?action=delete&action=create":                                  "repo:com.example.a?action=create&action=delete",
		"repo:com.example.a?action=delete&action=create&action=update":                    "repo:com.example.a",
		"repo:com%2Eexample.a":                                 "repo:com.example.a",
		"rpc:com.example.x?aud=did:web:api.example.com%23svc":  "rpc:com.example.x?aud=did:web:api.example.com%23svc",
		"rpc:com.example.x?aud=did:web:api.example.com#svc":    "rpc:com.example.x?aud=did:web:api.example.com%23svc",
		"rpc?aud=*&lxm=com.example.y&lxm=com.example.x":        "rpc?lxm=com.example.x&lxm=com.example.y&aud=*",
		"rpc:*?aud=did:web:api.example.com%23svc":              "rpc:*?aud=did:web:api.example.com%23svc",
		"rpc:com.example.x?aud=did:web:localhost%253A80%23svc": "rpc:com.example.x?aud=did:web:localhost%253A80%23svc",
		"blob:*/*":                             "blob:*/*",
		"blob:IMAGE/Png":                       "blob:image/png",
		"blob:image/svg+xml":                   "blob:image/svg+xml",
		"blob?accept=image/*&accept=image/png": "blob:image/*",
		"blob?accept=image/*&accept=*/*&accept=text/plain": "blob:*/*",
		"blob?accept=video/mp4&accept=image/svg%2Bxml":     "blob?accept=image/svg%2Bxml&accept=video/mp4",
		"account:email":                                      "account:email",
		"account:email?action=read":                          "account:email",
		"account?attr=repo&action=manage":                    "account:repo?action=manage",
		"identity:*":                                         "identity:*",
		"identity?attr=handle":                               "identity:handle",
		"include:com.example.auth":                           "include:com.example.auth",
		"include:com.example.auth?aud=did:web:a.example%23s": "include:com.example.auth?aud=did:web:a.example%23s",
		"include?nsid=com.example.auth&aud=did:plc:ewvi7nxzyoun6zhxrhs64oiz#s": "include:com.example.auth?aud=did:plc:ewvi7nxzyoun6zhxrhs64oiz%23s",
	} {
		s, err := ParseScope(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := s.String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		if again, err := ParseScope(s.String()); err != nil || !again.Equal(s) {
			t.Errorf("%s: its normal form %s parses to %v, %v", in, s, again, err)
		}
	}
}

func TestInvalidScopes(t *testing.T) {
	for _, in := range []string{
		"", "openid", "repo", "repo:", "repo?", "repo?action=create", "Repo:*", "ATPROTO", "transition:none", "transition",
		"repo:com.example", "repo:app.*", "repo:com.example.*", "repo:com.example.a?action=read", "repo:com.example.a?action=",
		"repo:com.example.a?collection=com.example.b", "repo:com.example.a?aud=*", "repo:com.example.a?x", "repo:%zz", "repo:com.example.a?action=%",
		"rpc:*?aud=*", "rpc?lxm=com.example.x&lxm=*&aud=*", "rpc:com.example.x", "rpc:com.example.x?aud=did:web:api.example.com",
		"rpc:com.example.x?aud=did:web:api.example.com%23", "rpc:com.example.x?aud=*&aud=*", "rpc:com.example.x?aud=did:key:abc%23s",
		"rpc:com.example.x?aud=https://a.example", "rpc:com.example.x?aud=did:web:a.example%23s%23t",
		"blob", "blob:*", "blob:*/png", "blob:image", "blob:image/", "blob:/png", "blob:image/png/x", "blob:image/p*g", "blob:image/png;q=1 ",
		"account:*", "account:password", "account:email?action=write", "account:email?action=read&action=manage", "account?attr=email&attr=repo",
		"account:credentials?action=manage", "account:lifecycle?action=manage",
		"identity:*?action=manage", "identity:plc", "identity", "include:com", "include:com.example.auth?aud=*",
		"include:com.example.auth?aud=did:web:a.example", "include?nsid=com.example.a&nsid=com.example.b",
		"atproto?x=y", "repo:a\u00e9.b.c", "repo:\"a.b.c\"", "repo:a.b.c\\", "repo:com.example.a\n",
		"repo:" + strings.Repeat("a.", maxScope),
	} {
		if s, err := ParseScope(in); !errors.Is(err, ErrInvalidScope) {
			t.Errorf("%q: %v, %v", in, s, err)
		}
	}
}

// TestWorkedExamples: what granted scopes say to requests.
func TestWorkedExamples(t *testing.T) {
	const api, chat = "did:web:api.example.com#svc", "did:web:api.bsky.chat#bsky_chat"
	for _, c := range []struct {
		granted string
		want    Permission
		ok      bool
	}{
		{"repo:com.example.a?action=create", Write(Update, "com.example.a"), false},
		{"repo:com.example.a?action=create", Write(Create, "com.example.a"), true},
		{"repo:com.example.a", Write(Create, "com.example.ab"), false},
		{"repo:*?action=delete", Write(Delete, "com.example.z"), true},
		{"repo:*?action=delete", Write(Create, "com.example.z"), false},
		{"repo:*", ManageRepo, false},
		{"rpc:*?aud=did:web:api.example.com#svc", Call("*", api), true},
		{"rpc:*?aud=did:web:api.example.com#svc", Call("*", "did:web:api.example.com"), false},
		{"rpc:*?aud=did:web:api.example.com#svc", Call("com.example.x", "did:web:api.example.com#other"), false},
		{"rpc:com.example.x?aud=*", Call("com.example.x", api), true},
		{"rpc:com.example.x?aud=*", Call("*", api), false},
		{"blob:image/png", Upload("image/PNG; charset=x"), true},
		{"blob:image/png", Upload("image/jpeg"), false},
		{"blob:image/*", Upload("image/png"), true},
		{"blob:image/*", Upload("imagex/png"), false},
		{"blob:image/*", Upload("*/*"), false},
		{"blob:*/*", Upload("*/*"), true},
		{"blob:*/*", Upload("nonsense"), false},
		{"transition:generic", Write(Delete, "com.example.a"), true},
		{"transition:generic", Upload("*/*"), true},
		{"transition:generic", Call("app.bsky.feed.getTimeline", api), true},
		{"transition:generic", Call("*", api), true},
		{"transition:generic", Call("chat.bsky.convo.listConvos", chat), false},
		{"transition:generic", Call("Chat.Bsky.convo.listConvos", chat), false},
		{"transition:generic", ManageHandle, false},
		{"transition:generic", ManageRepo, false},
		{"transition:generic", ReadEmail, false},
		{"transition:chat.bsky", Call("app.bsky.feed.getTimeline", api), false},
		{"transition:chat.bsky", Call("chat.bsky.convo.listConvos", chat), true},
		{"transition:email", ReadEmail, true},
		{"transition:email", ManageEmail, false},
		{"account:email?action=manage", ReadEmail, true},
		{"account:email", ManageEmail, false},
		{"account:repo?action=manage", ManageRepo, true},
		{"account:repo?action=manage", ManageEmail, false},
		{"identity:handle", ManageHandle, true},
		{"identity:handle", ManageIdentity, false},
		{"identity:*", ManageHandle, true},
		{"identity:*", ManageIdentity, true},
		{"atproto", ReadEmail, false},
		{"include:com.example.auth", Write(Create, "com.example.a"), false},
	} {
		p, ignored := ParseScopes(c.granted)
		if len(ignored) > 0 {
			t.Fatalf("%s: ignored", c.granted)
		}
		if got := p.Allow(c.want); got != c.ok {
			t.Errorf("%s, asked for %s: %v", c.granted, c.want, got)
		}
	}
}

// TestMatrix140to156Examples: what becomes of a scope in the list that a client asks for, and what it
// says to a request. That an unknown scope is dropped and the rest holds is asked in each of them.
func TestMatrix140to156Examples(t *testing.T) {
	const svc = "did:web:api.example.com#svc"
	for _, c := range []struct {
		name, scope string
		normal      string // "": it is invalid, and dropped
		want        Permission
		ok          bool
	}{
		{"140 put needs both", "repo:com.example.a?action=create", "repo:com.example.a?action=create", Write(Update, "com.example.a"), false},
		{"140 create", "repo:com.example.a?action=create", "repo:com.example.a?action=create", Write(Create, "com.example.a"), true},
		{"141 delete anything", "repo:*?action=delete", "repo:*?action=delete", Write(Delete, "com.example.z"), true},
		{"142 a wildcard covers the others", "repo?collection=com.example.a&collection=*", "repo:*", Write(Create, "com.example.z"), true},
		{"143 a collection of each kind", "repo:com.example.a?collection=com.example.b", "", Write(Create, "com.example.a"), false},
		{"144 any method of anybody", "rpc:*?aud=*", "", Call("com.example.x", svc), false},
		{"145 no fragment", "rpc:com.example.x?aud=did:web:api.example.com", "", Call("com.example.x", "did:web:api.example.com"), false},
		{"146 a bare fragment", "rpc:com.example.x?aud=" + svc, "rpc:com.example.x?aud=did:web:api.example.com%23svc", Call("com.example.x", svc), true},
		{"146 an escaped fragment", "rpc:com.example.x?aud=did:web:api.example.com%23svc", "rpc:com.example.x?aud=did:web:api.example.com%23svc", Call("com.example.x", svc), true},
		{"147 any method of the service", "rpc:*?aud=" + svc, "rpc:*?aud=did:web:api.example.com%23svc", Call("*", svc), true},
		{"147 the bare DID", "rpc:*?aud=" + svc, "rpc:*?aud=did:web:api.example.com%23svc", Call("*", "did:web:api.example.com"), false},
		{"148 upper case", "blob:image/png", "blob:image/png", Upload("image/PNG"), true},
		{"149 chat", "transition:generic", "transition:generic", Call("chat.bsky.convo.listConvos", svc), false},
		{"149 handle", "transition:generic", "transition:generic", ManageHandle, false},
		{"149 import", "transition:generic", "transition:generic", ManageRepo, false},
		{"150 timeline", "transition:chat.bsky", "transition:chat.bsky", Call("app.bsky.feed.getTimeline", svc), false},
		{"151 manage covers read", "account:email?action=manage", "account:email?action=manage", ReadEmail, true},
		{"152 read is not manage", "account:email", "account:email", ManageEmail, false},
		{"153 a set is not what it contains", "include:com.example.cal.auth", "include:com.example.cal.auth", Call("com.example.cal.get", svc), false},
		{"154 a set writes nothing by itself", "include:com.example.cal.auth", "include:com.example.cal.auth", Write(Create, "com.example.cal.event"), false},
		{"155 an action of the identity", "identity:*?action=manage", "", ManageIdentity, false},
		{"156 an unknown action", "repo:com.example.a?action=read", "", Write(Create, "com.example.a"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, ignored := ParseScopes("repo:com.example.rest " + c.scope)
			if c.normal == "" && !slices.Equal(ignored, []string{c.scope}) || c.normal != "" && (len(ignored) > 0 || !p.Has(c.normal)) {
				t.Errorf("%s, ignored %q", p, ignored)
			}
			if p.Allow(c.want) != c.ok {
				t.Errorf("%s: %v", c.want, !c.ok)
			}
			if !p.Allow(Write(Create, "com.example.rest")) {
				t.Error("the rest is gone")
			}
		})
	}
}

// TestScopeOfPermission: each permission that scopes can grant is granted by the scope that a
// client is told it lacks, and by no less.
func TestScopeOfPermission(t *testing.T) {
	for want, text := range map[Permission]string{
		Write(Create, "com.example.a"):               "repo:com.example.a?action=create",
		Call("com.example.x", "did:web:a.example#s"): "rpc:com.example.x?aud=did:web:a.example%23s",
		Call("*", "did:web:a.example#s"):             "rpc:*?aud=did:web:a.example%23s",
		Call("com.example.x", "did:web:a.example"):   "",
		Upload("Image/PNG"):                          "blob:image/png",
		ReadEmail:                                    "account:email",
		ManageEmail:                                  "account:email?action=manage",
		ManageRepo:                                   "account:repo?action=manage",
		ManageHandle:                                 "identity:handle",
		ManageIdentity:                               "identity:*",
		SubmitIdentity:                               "identity:*",
		ReadInvites:                                  "",
		Administer:                                   "",
		Write(Create, FromInput):                     "",
		ManageCredentials:                            "",
		ManageLifecycle:                              "",
		ReadCredentials:                              "",
		{Resource: "repo", Action: "create", Target: "a b"}:  "",
		{Resource: "space", Action: "read", Target: "a.b.c"}: "",
	} {
		if got := want.Scope(); got != text {
			t.Errorf("%s: %q, want %q", want, got, text)
		}
		if s, err := ParseScope(text); text != "" && (err != nil || !s.Allows(want)) {
			t.Errorf("%s is not granted by %s", want, text)
		}
	}
}

func TestPermissions(t *testing.T) {
	p, ignored := ParseScopes("  repo:com.example.b atproto nonsense repo?collection=com.example.b repo:a ")
	if got := p.String(); got != "atproto repo:com.example.b" {
		t.Error(got)
	}
	if !slices.Equal(ignored, []string{"nonsense", "repo:a"}) {
		t.Error(ignored)
	}
	if !p.Has(Atproto) || !p.Has("repo?collection=com.example.b") || p.Has("repo:*") || p.Has("nonsense") {
		t.Error("Has")
	}
	if q := p.Select(func(s Scope) bool { return s.String() != Atproto }); q.String() != "repo:com.example.b" || p.String() != "atproto repo:com.example.b" {
		t.Error(q, p)
	}
	var none Permissions
	if none.Allow(ReadEmail) || none.String() != "" {
		t.Error("the zero value permits something")
	}
	for _, want := range []Permission{ManageLifecycle, ManageCredentials, ManageIdentity, Call("chat.bsky.convo.listConvos", "x"), {}} {
		if !Everything().Allow(want) {
			t.Error(want)
		}
	}
	for _, want := range []Permission{Moderate, Administer, Write(Create, FromInput), Call(FromInput, "did:web:a.example#s")} {
		if Everything().Allow(want) {
			t.Error(want)
		}
	}
	both := p.With(Only(ManageLifecycle)).With(AppPassword(false)).With(Permissions{})
	for want, ok := range map[Permission]bool{ManageLifecycle: true, ManageCredentials: false, Write(Create, "com.example.z"): true, ManageHandle: true} {
		if both.Allow(want) != ok {
			t.Error(want)
		}
	}
	if AppPassword(false).With(Everything()).String() != "" || !AppPassword(false).With(Everything()).IsEverything() || p.Allow(ManageLifecycle) {
		t.Error("With")
	}
	if Only(Write(Create, FromInput)).Allow(Write(Create, FromInput)) {
		t.Error("a pattern was granted")
	}
}

// TestAppPassword: an app password reads and writes, and manages nothing that its owner could not
// take back.
func TestAppPassword(t *testing.T) {
	chat := Call("chat.bsky.convo.listConvos", "did:web:api.bsky.chat#bsky_chat")
	for _, c := range []struct {
		want                 Permission
		ordinary, privileged bool
	}{
		{Write(Delete, "com.example.a"), true, true},
		{Upload("*/*"), true, true},
		{Call("app.bsky.feed.getTimeline", "did:web:api.bsky.app#bsky_appview"), true, true},
		{chat, false, true},
		{Call("CHAT.bsky.convo.listConvos", "did:web:api.bsky.chat#bsky_chat"), false, true},
		{Call("chat.bskyx.convo.getLog", "did:web:a.example#s"), true, true},
		{Call("com.atproto.server.createAccount", "did:web:a.example"), false, true},
		{Call("com.atproto.SERVER.createaccount", "did:web:a.example"), false, true},
		{Call("*", "did:web:a.example"), true, true},
		{SubmitIdentity, true, true},
		{ReadQueue, true, true},
		{ReadInvites, false, false},
		{ReadPersonal, false, false},
		{Moderate, false, false},
		{ManageHandle, true, true},
		{ReadEmail, true, true},
		{ManageEmail, true, true},
		{ReadCredentials, true, true},
		{ManageCredentials, false, false},
		{ManageLifecycle, false, false},
		{ManageIdentity, false, false},
		{ManageRepo, false, false},
	} {
		if AppPassword(false).Allow(c.want) != c.ordinary || AppPassword(true).Allow(c.want) != c.privileged {
			t.Error(c.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		declared, want Permission
		covers         bool
	}{
		{Write(Create, FromInput), Write(Create, "com.example.a"), true},
		{Write(Create, FromInput), Write(Update, "com.example.a"), false},
		{Write(Create, "com.example.a"), Write(Create, "com.example.a"), true},
		{Write(Create, "com.example.a"), Write(Create, "com.example.b"), false},
		{Call(FromInput, FromInput), Call("com.example.x", "did:web:a.example#s"), true},
		{Call("com.example.x", FromInput), Call("com.example.y", "did:web:a.example#s"), false},
		{Upload(FromInput), Upload("image/png"), true},
		{Upload(FromInput), Write(Create, "image/png"), false},
	} {
		if c.declared.Covers(c.want) != c.covers {
			t.Errorf("%s covers %s: %v", c.declared, c.want, !c.covers)
		}
	}
	if !Upload(FromInput).IsPattern() || !Call(FromInput, "x").IsPattern() || ManageIdentity.IsPattern() || Call("*", "x").IsPattern() {
		t.Error("IsPattern")
	}
}

func TestExpand(t *testing.T) {
	p, _ := ParseScopes("atproto include:com.example.auth?aud=did:web:a.example%23s include:com.example.gone")
	granted, _ := ParseScope("rpc:com.example.x?aud=did:web:a.example%23s")
	q := p.Expand(func(s Scope) []Scope {
		if set, aud, ok := s.Include(); ok && set == "com.example.auth" && aud == "did:web:a.example#s" {
			return []Scope{granted}
		}
		return nil
	})
	if got := q.String(); got != "atproto rpc:com.example.x?aud=did:web:a.example%23s" {
		t.Error(got)
	}
	if p.Allow(Call("com.example.x", "did:web:a.example#s")) || !q.Allow(Call("com.example.x", "did:web:a.example#s")) {
		t.Error("what the set grants")
	}
}

func TestPrincipal(t *testing.T) {
	p := Principal{Role: User, DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Permissions: AppPassword(false)}
	if err := p.Demand(ReadEmail, ManageHandle); err != nil {
		t.Error(err)
	}
	var missing *MissingError
	if err := p.Demand(ReadEmail, ManageIdentity); !errors.As(err, &missing) || missing.Missing != ManageIdentity ||
		err.Error() != `Missing required scope "identity:*"` {
		t.Error(err)
	}
	if err := p.Demand(ManageLifecycle); err == nil || strings.Contains(err.Error(), "scope") {
		t.Error(err)
	}
	if !p.IsUser(p.DID) || p.IsUser("") || (Principal{}).IsUser("") || (Principal{Role: Service, DID: p.DID}).IsUser(p.DID) {
		t.Error("IsUser")
	}
	if (Principal{}).May(ReadEmail) {
		t.Error("nobody may read")
	}
}

// FuzzScope: a scope that parses has a normal form that parses to the same scope, and grants the
// same.
func FuzzScope(f *testing.F) {
	for _, s := range []string{"atproto", "repo:com.example.a?action=create", "rpc?lxm=com.example.x&lxm=com.example.y&aud=did:web:a.example%23s",
		"blob?accept=image/*&accept=video/mp4", "account:email?action=manage", "identity:*", "include:com.example.auth?aud=did:web:a.example%23s",
		"transition:generic", "repo:%2A", "blob:image/svg+xml", "rpc:com.example.x?aud=did:web:localhost%253A80%23svc"} {
		f.Add(s)
	}
	asked := []Permission{Write(Create, "com.example.a"), Upload("image/png"), ManageEmail, ManageIdentity, ManageLifecycle, ManageCredentials,
		Call("com.example.x", "did:web:a.example#s"), Call("chat.bsky.convo.listConvos", "did:web:a.example#s")}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseScope(in)
		if err != nil {
			return
		}
		text := s.String()
		again, err := ParseScope(text)
		if err != nil {
			t.Fatalf("%q: its normal form %q does not parse: %v", in, text, err)
		}
		if again.String() != text {
			t.Fatalf("%q: %q becomes %q", in, text, again)
		}
		for _, p := range asked {
			if s.Allows(p) != again.Allows(p) {
				t.Fatalf("%q and %q differ about %s", in, text, p)
			}
		}
		if s.Allows(ManageLifecycle) || s.Allows(ManageCredentials) {
			t.Fatalf("%q grants what no scope may", in)
		}
	})
}
