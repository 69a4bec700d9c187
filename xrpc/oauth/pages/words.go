package pages

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Words describes permissions of apps in words.
type Words struct {
	// Sets resolves permission sets, to describe their contents: the provider's Sets. If it
	// implements provider.SetWords, their titles are shown. Nil: only their names are shown.
	Sets provider.Sets
	// Languages are the user's languages (BCP 47) in descending order of preference: see
	// [site.Wishes]. If none of them is available, the words are English.
	Languages []string
}

// Permission describes a permission of an app in words.
type Permission struct {
	// Scope is the exact scope.
	Scope string
	// Text is a sentence. If it ends with a colon, Details complete it.
	Text    string
	Details []string
	// Title and About are what a permission set's publisher says about it. They are empty for
	// everything else.
	Title, About lexicon.Words
	// Danger is set if the permission can be used against the account.
	Danger bool
}

// String returns the permission in one line.
func (p Permission) String() string {
	text := p.Text
	if p.Title.Text != "" {
		text = "“" + p.Title.Text + "” – " + text
	}
	if len(p.Details) > 0 {
		text += " " + strings.Join(p.Details, ", ")
	}
	return text
}

// Of describes scopes in words, the best known first. It leaves out what every app may do: to know
// the account's identity.
func (w Words) Of(ctx context.Context, scopes []auth.Scope) (list []Permission) {
	lang := set.Language(strings.Join(w.Languages, " "), "")
	for _, s := range scopes {
		if s.String() != auth.Atproto {
			list = append(list, w.of(ctx, lang, s))
		}
	}
	slices.SortStableFunc(list, func(a, b Permission) int { return rank(a.Scope) - rank(b.Scope) })
	return list
}

// rank orders permissions: first what people know, then what is dangerous, then the rest.
func rank(scope string) int {
	for i, prefix := range []string{"transition:generic", "transition:chat", "transition:email", "account", "identity", "include", "repo", "blob", "rpc"} {
		if strings.HasPrefix(scope, prefix) {
			return i
		}
	}
	return 9
}

// splitScope takes the text of a scope in normal form apart.
func splitScope(text string) (resource string, in url.Values) {
	head, query, _ := strings.Cut(text, "?")
	resource, positional, has := strings.Cut(head, ":")
	in, _ = url.ParseQuery(query)
	if in == nil {
		in = url.Values{}
	}
	if has {
		if plain, err := url.PathUnescape(positional); err == nil {
			positional = plain
		}
		in[""] = []string{positional}
	}
	return resource, in
}

// values are those of a scope's first parameter, which may stand without its name.
func values(in url.Values, name string) []string {
	if v := in[""]; len(v) > 0 {
		return v
	}
	return in[name]
}

// of puts a scope into words.
func (w Words) of(ctx context.Context, lang site.Language, s auth.Scope) Permission {
	p := w.describe(ctx, lang, s)
	p.Scope = s.String()
	return p
}

func (w Words) describe(ctx context.Context, lang site.Language, s auth.Scope) Permission {
	text := s.String()
	resource, in := splitScope(text)
	t := lang.Message
	manage := slices.Contains(in["action"], "manage")
	switch resource {
	case "transition":
		switch text {
		case auth.TransitionGeneric:
			return Permission{Text: t("may.generic")}
		case auth.TransitionChat:
			return Permission{Text: t("may.chat")}
		case auth.TransitionEmail:
			return Permission{Text: t("may.email.read")}
		}
	case "account":
		switch attr := values(in, "attr"); {
		case slices.Contains(attr, "email") && manage:
			return Permission{Text: t("may.email.manage")}
		case slices.Contains(attr, "email"):
			return Permission{Text: t("may.email.read")}
		case slices.Contains(attr, "repo") && manage:
			return Permission{Text: t("may.repo.replace"), Danger: true}
		case slices.Contains(attr, "status") && !manage:
			return Permission{Text: t("may.status")}
		}
	case "identity":
		if slices.Contains(values(in, "attr"), "handle") {
			return Permission{Text: t("may.handle"), Danger: true}
		}
		return Permission{Text: t("may.identity"), Danger: true}
	case "repo":
		kinds, actions := values(in, "collection"), in["action"]
		words := make([]string, 0, len(actions))
		for _, a := range []string{auth.Create, auth.Update, auth.Delete} {
			if slices.Contains(actions, a) {
				words = append(words, t("action."+a))
			}
		}
		only := strings.Join(words, ", ")
		switch all := slices.Contains(kinds, "*"); {
		case all && only != "":
			return Permission{Text: t("may.records.all.only", "actions", only)}
		case all:
			return Permission{Text: t("may.records.all")}
		case only != "":
			return Permission{Text: t("may.records.only", "actions", only), Details: kinds}
		}
		return Permission{Text: t("may.records"), Details: kinds}
	case "blob":
		if list := values(in, "accept"); !slices.Contains(list, "*/*") {
			return Permission{Text: t("may.files.some"), Details: list}
		}
		return Permission{Text: t("may.files")}
	case "rpc":
		aud := in.Get("aud")
		l := Permission{Text: t("may.calls", "service", serviceName(aud))}
		if aud == "*" {
			l.Text = t("may.calls.any")
		}
		if list := values(in, "lxm"); slices.Contains(list, "*") {
			l.Text = t("may.calls.all", "service", serviceName(aud))
		} else {
			l.Details = list
		}
		return l
	case "include":
		return w.include(ctx, lang, s)
	}
	return Permission{Text: t("may.other"), Details: []string{text}, Danger: true}
}

// include puts a permission set into words. One that cannot be had is shown by its name.
func (w Words) include(ctx context.Context, lang site.Language, s auth.Scope) Permission {
	set, _, _ := s.Include()
	p := Permission{Text: lang.Message("may.set", "set", set)}
	if w.Sets == nil {
		return p
	}
	scopes, err := w.Sets.Expand(ctx, s)
	if err != nil {
		return p
	}
	for _, x := range scopes[:min(len(scopes), maxInSet)] {
		p.Details = append(p.Details, w.describe(ctx, lang, x).String())
	}
	if n := len(scopes) - maxInSet; n > 0 { // who grants them knows that there are some
		p.Details = append(p.Details, lang.Message("may.set.more", "n", n))
	}
	if named, ok := w.Sets.(provider.SetWords); ok {
		title, about, err := named.Words(ctx, s, w.Languages)
		if err == nil {
			p.Title = lexicon.Words{Text: tame(title.Text, 100), Lang: title.Lang}
			p.About = lexicon.Words{Text: tame(about.Text, 400), Lang: about.Lang}
		}
	}
	return p
}

// maxInSet is how many permissions of a set are listed.
const maxInSet = 50

// tame is a stranger's text of at most n characters, in one line, that cannot change how what is
// around it is read.
func tame(text string, n int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case r == '\u200c' || r == '\u200d': // joiners, which some languages need
			return r
		case unicode.IsSpace(r) || unicode.IsControl(r):
			return ' '
		case unicode.In(r, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp) || r == utf8.RuneError:
			return -1
		}
		return r
	}, text)), " ")
	if list := []rune(text); len(list) > n {
		text = string(list[:n-1]) + "…"
	}
	return text
}

// serviceName is a service as people are shown it.
func serviceName(aud string) string {
	did, _, _ := strings.Cut(aud, "#")
	if host, ok := strings.CutPrefix(did, "did:web:"); ok {
		return host
	}
	return did
}
