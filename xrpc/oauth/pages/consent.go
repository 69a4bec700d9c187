package pages

import (
	"slices"
	"strings"

	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// consent is what the page of the consent shows.
type consent struct {
	Action, Request, Form string
	// Always are scopes that are granted in any case. Lines are those to choose from.
	Always []string
	Lines  []line
	// Not lists what the app cannot do.
	Not []string
	// Known is set if the account has granted the app something before.
	Known bool
	// Scopes are all scopes, for users who want the details.
	Scopes []string
}

// line is a permission that may be ticked.
type line struct {
	Permission
	ID string
	// New is set if the app did not have the permission before.
	New, Checked bool
}

// describeConsent puts what an app asks for into words.
func (p *Pages) describeConsent(c *call, v *view, q provider.Prompt) consent {
	out := consent{Action: q.Action, Request: q.Request, Form: q.Form, Known: len(q.Known) > 0}
	words := Words{Sets: p.cfg.Sets, Languages: site.Wishes(c.flow.Locales, c.R.Header.Get("Accept-Language"))}
	for _, s := range q.Scopes {
		text := s.String()
		out.Scopes = append(out.Scopes, text)
		if text == auth.Atproto {
			out.Always = append(out.Always, text)
			continue
		}
		l := line{Permission: words.of(c.ctx(), v.Lang, s), ID: "scope-" + site.Hash(text)[:12]}
		l.New = out.Known && !slices.ContainsFunc(q.Known, s.Equal)
		l.Checked = !l.Danger || out.Known && !l.New
		out.Lines = append(out.Lines, l)
	}
	slices.SortStableFunc(out.Lines, func(a, b line) int { return rank(a.Scope) - rank(b.Scope) })
	out.Not = cannot(v.Lang, q.Scopes)
	return out
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
