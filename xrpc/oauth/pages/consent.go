package pages

import (
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// consent is what the page of the consent shows.
type consent struct {
	Action, Request, Form string
	// Always are the scopes that are always granted; Lines are those that may be.
	Always []string
	Lines  []line
	// Not is what the app cannot do.
	Not []string
	// Known: the account has let the app in before.
	Known bool
	// Scopes are all scopes, for those who want to know it exactly.
	Scopes []string
}

// line is a permission, in words.
type line struct {
	ID, Scope, Text string
	Details         []string
	// New: the app did not have it before. Danger: it can be turned against the account.
	New, Danger, Checked bool
}

// describeConsent puts what an app asks for into words.
func (p *Pages) describeConsent(c *call, v *view, q provider.Prompt) consent {
	out := consent{Action: q.Action, Request: q.Request, Form: q.Form, Known: len(q.Known) > 0}
	for _, s := range q.Scopes {
		text := s.String()
		out.Scopes = append(out.Scopes, text)
		if text == auth.Atproto {
			out.Always = append(out.Always, text)
			continue
		}
		l := p.describe(c, v.Lang, s)
		l.ID, l.Scope = "scope-"+site.Hash(text)[:12], text
		l.New = out.Known && !slices.ContainsFunc(q.Known, s.Equal)
		l.Checked = !l.Danger || out.Known && !l.New
		out.Lines = append(out.Lines, l)
	}
	slices.SortStableFunc(out.Lines, func(a, b line) int { return rank(a.Scope) - rank(b.Scope) })
	out.Not = cannot(v.Lang, q.Scopes)
	return out
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

// describe puts a scope into words.
func (p *Pages) describe(c *call, lang site.Language, s auth.Scope) line {
	text := s.String()
	resource, in := splitScope(text)
	t := lang.Message
	manage := slices.Contains(in["action"], "manage")
	switch resource {
	case "transition":
		switch text {
		case auth.TransitionGeneric:
			return line{Text: t("may.generic")}
		case auth.TransitionChat:
			return line{Text: t("may.chat")}
		case auth.TransitionEmail:
			return line{Text: t("may.email.read")}
		}
	case "account":
		switch attr := values(in, "attr"); {
		case slices.Contains(attr, "email") && manage:
			return line{Text: t("may.email.manage")}
		case slices.Contains(attr, "email"):
			return line{Text: t("may.email.read")}
		case slices.Contains(attr, "repo") && manage:
			return line{Text: t("may.repo.replace"), Danger: true}
		case slices.Contains(attr, "status") && !manage:
			return line{Text: t("may.status")}
		}
	case "identity":
		if slices.Contains(values(in, "attr"), "handle") {
			return line{Text: t("may.handle"), Danger: true}
		}
		return line{Text: t("may.identity"), Danger: true}
	case "repo":
		l := line{Text: t("may.records")}
		if list := values(in, "collection"); slices.Contains(list, "*") {
			l.Text = t("may.records.all")
		} else {
			l.Details = list
		}
		if list := in["action"]; len(list) > 0 {
			words := make([]string, 0, len(list))
			for _, a := range []string{auth.Create, auth.Update, auth.Delete} {
				if slices.Contains(list, a) {
					words = append(words, t("action."+a))
				}
			}
			l.Details = append(l.Details, t("may.records.only", "actions", strings.Join(words, ", ")))
		}
		return l
	case "blob":
		if list := values(in, "accept"); !slices.Contains(list, "*/*") {
			return line{Text: t("may.files.some"), Details: list}
		}
		return line{Text: t("may.files")}
	case "rpc":
		aud := in.Get("aud")
		l := line{Text: t("may.calls", "service", serviceName(aud))}
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
		set, _, _ := s.Include()
		l := line{Text: t("may.set", "set", set)}
		if p.cfg.Sets != nil {
			// A set that cannot be had is shown by its name.
			scopes, _ := p.cfg.Sets.Expand(c.ctx(), s)
			for _, x := range scopes[:min(len(scopes), 50)] {
				inner := p.describe(c, lang, x)
				detail := inner.Text
				if len(inner.Details) > 0 {
					detail += " " + strings.Join(inner.Details, ", ")
				}
				l.Details = append(l.Details, detail)
			}
		}
		return l
	}
	return line{Text: t("may.other"), Details: []string{text}, Danger: true}
}

// serviceName is a service as people are shown it.
func serviceName(aud string) string {
	did, _, _ := strings.Cut(aud, "#")
	if host, ok := strings.CutPrefix(did, "did:web:"); ok {
		return host
	}
	return did
}

// cannot is what an app cannot do that has scopes, beginning with what people care for.
func cannot(lang site.Language, scopes []auth.Scope) (list []string) {
	may := func(want auth.Permission) bool {
		return slices.ContainsFunc(scopes, func(s auth.Scope) bool { return s.Allows(want) })
	}
	writes := slices.ContainsFunc(scopes, func(s auth.Scope) bool {
		text := s.String()
		return strings.HasPrefix(text, "repo") || strings.HasPrefix(text, "include:") || text == auth.TransitionGeneric
	})
	calls := slices.ContainsFunc(scopes, func(s auth.Scope) bool {
		return strings.HasPrefix(s.String(), "rpc") || strings.HasPrefix(s.String(), "include:")
	})
	for _, x := range []struct {
		key string
		may bool
	}{
		{"cannot.password", false},
		{"cannot.delete", false},
		{"cannot.write", writes || may(auth.ManageRepo)},
		{"cannot.chat", calls || may(auth.Call("chat.bsky.convo.getMessages", "did:web:api.bsky.chat#bsky_chat"))},
		{"cannot.email", may(auth.ReadEmail)},
		{"cannot.identity", may(auth.ManageHandle) || may(auth.ManageIdentity)},
	} {
		if !x.may {
			list = append(list, lang.Message(x.key))
		}
	}
	return list
}
