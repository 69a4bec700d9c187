package pages_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// published are permission sets with words.
type published struct {
	sets map[string]*lexicon.PermissionSet
}

func (p published) Expand(_ context.Context, include auth.Scope) ([]auth.Scope, error) {
	id, _, _ := include.Include()
	if p.sets[string(id)] == nil {
		return nil, errors.New("there is no such set")
	}
	s, err := auth.ParseScope("repo:com.example.cal.event?action=create")
	return []auth.Scope{s}, err
}

func (p published) Words(_ context.Context, include auth.Scope, languages []string) (title, detail lexicon.Words, err error) {
	id, _, _ := include.Include()
	title, detail = p.sets[string(id)].Words(languages)
	return title, detail, nil
}

func scopes(t *testing.T, text string) []auth.Scope {
	t.Helper()
	p, _ := auth.ParseScopes(text)
	if len(p.Scopes()) != len(strings.Fields(text)) {
		t.Fatalf("%q: %v", text, p)
	}
	return p.Scopes()
}

func TestWords(t *testing.T) {
	sets := published{map[string]*lexicon.PermissionSet{"com.example.cal.auth": {
		Title: "Calendar", TitleLang: map[string]string{"de": "Kalender"}, Detail: "What you plan",
	}}}
	of := func(languages ...string) (list []string) {
		all := scopes(t, "atproto repo:com.example.note include:com.example.cal.auth include:com.example.gone account:email identity:handle")
		for _, p := range (pages.Words{Sets: sets, Languages: languages}).Of(t.Context(), all) {
			list = append(list, p.String())
		}
		return list
	}
	if diff := cmp.Diff([]string{
		"See your e-mail address", "Change your handle",
		"“Calendar” – Do what the permission set com.example.cal.auth contains: Change your public data of these kinds (only: add): com.example.cal.event",
		"Do what the permission set com.example.gone contains:",
		"Change your public data of these kinds: com.example.note",
	}, of()); diff != "" {
		t.Error(diff)
	}
	if list := of("da", "de-AT"); !strings.HasPrefix(list[2], "“Kalender” – tun, was die Berechtigungsgruppe") {
		t.Errorf("%q", list)
	}
}

// large is a permission set of so many permissions.
type large int

func (n large) Expand(context.Context, auth.Scope) (list []auth.Scope, err error) {
	for i := range int(n) {
		s, err := auth.ParseScope(fmt.Sprintf("repo:com.example.cal.kind%d", i))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// A permission set does not hide what it grants behind a long list: what is not listed is counted.
func TestLongPermissionSets(t *testing.T) {
	for n, last := range map[int]string{50: "com.example.cal.kind49", 51: "and 1 more permissions", 1050: "and 1000 more permissions"} {
		list := (pages.Words{Sets: large(n)}).Of(t.Context(), scopes(t, "atproto include:com.example.cal.auth"))
		if len(list) != 1 || len(list[0].Details) != min(n, 51) || !strings.HasSuffix(list[0].Details[min(n, 51)-1], last) {
			t.Errorf("%d permissions: %+v", n, list)
		}
	}
}

// A permission set's title is shown in the browser's language, as the words of a stranger, who can
// neither write into the page nor turn what stands beside it around.
func TestTitlesOfPermissionSets(t *testing.T) {
	set := &lexicon.PermissionSet{
		Title: "Calendar", TitleLang: map[string]string{"de": "Kalender", "ja": "予定"}, Detail: "What you plan", DetailLang: map[string]string{"de": "Was du planst"},
	}
	w := newWorld(t, func(c *pages.Config, _ *pds.Config) {
		c.Sets = published{map[string]*lexicon.PermissionSet{"com.example.cal.auth": set}}
	})
	show := func(languages, locales string) string {
		r := httptest.NewRequest("GET", w.origin()+"/oauth/authorize", nil)
		r.Header.Set("Accept-Language", languages)
		rec := httptest.NewRecorder()
		w.web.Prompt(rec, r, provider.Prompt{Ask: provider.AskConsent, Account: w.alice.DID, Locales: locales, Scopes: scopes(t, "atproto include:com.example.cal.auth")})
		if rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return rec.Body.String()
	}
	for _, c := range []struct{ languages, locales, title, about string }{
		{"en", "", `<q><bdi>Calendar</bdi></q>`, `<q><bdi>What you plan</bdi></q>`},
		{"de-CH, en;q=0.5", "", `<q lang="de"><bdi>Kalender</bdi></q>`, `<p class="hint" lang="de"><q><bdi>Was du planst</bdi></q></p>`},
		{"ko, ja;q=0.8, en;q=0.7", "", `<q lang="ja"><bdi>予定</bdi></q>`, `<bdi>What you plan</bdi>`},
		{"en", "de", `<q lang="de"><bdi>Kalender</bdi></q>`, `<bdi>Was du planst</bdi>`},
		{"x-y, *;q=NaN, ;;", "", `<q><bdi>Calendar</bdi></q>`, `<bdi>What you plan</bdi>`},
	} {
		text := show(c.languages, c.locales)
		for _, want := range []string{c.title, c.about, "com.example.cal.auth", "com.example.cal.event"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q %q: no %q in %s", c.languages, c.locales, want, text)
			}
		}
	}
	*set = lexicon.PermissionSet{
		Title:  "<script>alert(1)</script>\u202egnp.exe\u2066\n\n<h1>Safe\x00 " + strings.Repeat("x", 500),
		Detail: strings.Repeat("\u200f", 10) + "\"></p></li></ul></form><form action='https://evil.example'>" + strings.Repeat("y ", 5000),
	}
	text := show("en", "")
	for _, evil := range []string{"<script", "\u202e", "\u2066", "\u200f", "\x00", "<h1>Safe", "<form action='", strings.Repeat("x", 100), strings.Repeat("y ", 400)} {
		if strings.Contains(text, evil) {
			t.Errorf("the page has %q", evil)
		}
	}
	if !strings.Contains(text, "&lt;script&gt;alert(1)&lt;/script&gt;gnp.exe &lt;h1&gt;Safe xxx") {
		t.Error(text)
	}
}
