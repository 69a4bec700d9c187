package readafter

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// AppView answers queries on behalf of an account.
type AppView interface {
	// Query calls a method and decodes its response into out.
	Query(ctx context.Context, did syntax.DID, method string, params url.Values, out any) error
}

// Limits on the requests to an AppView to complete one response.
const (
	maxQuotes    = 25 // per kind of record
	maxLists     = 3
	quoteTimeout = 3 * time.Second
)

// quotes asks an AppView for views of what local posts quote. What it does not
// answer in time is left out.
func quotes(ctx context.Context, app AppView, l *local) map[string]json.RawMessage {
	uris := make(map[string][]string) // by collection
	for i := range l.Posts {
		uri := l.quoted(l.Posts[len(l.Posts)-1-i])
		if parsed, err := syntax.ParseATURI(uri); err == nil && len(uris[string(parsed.Collection())]) < maxQuotes {
			uris[string(parsed.Collection())] = append(uris[string(parsed.Collection())], uri)
		}
	}
	if len(uris) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quoteTimeout)
	defer cancel()
	found := make(map[string]json.RawMessage)
	add := func(method string, params url.Values, list, kind string) {
		var out map[string]json.RawMessage
		if app.Query(ctx, l.DID, method, params, &out) != nil {
			return
		}
		var views []map[string]json.RawMessage
		if data.UnmarshalPlainJSON(out[list], &views) != nil {
			var one map[string]json.RawMessage
			if data.UnmarshalPlainJSON(out[list], &one) != nil {
				return
			}
			views = append(views, one)
		}
		for _, view := range views {
			uri := stringOf(view["uri"])
			if kind == "app.bsky.embed.record#viewRecord" {
				view = quotedPost(view)
			}
			if uri == "" || view == nil {
				continue
			}
			view["$type"], _ = json.Marshal(kind)
			found[uri], _ = json.Marshal(view)
		}
	}
	if list := uris[postCollection]; list != nil {
		add("app.bsky.feed.getPosts", url.Values{"uris": list}, "posts", "app.bsky.embed.record#viewRecord")
	}
	if list := uris["app.bsky.feed.generator"]; list != nil {
		add("app.bsky.feed.getFeedGenerators", url.Values{"feeds": list}, "feeds", "app.bsky.feed.defs#generatorView")
	}
	if list := uris["app.bsky.graph.starterpack"]; list != nil {
		add("app.bsky.graph.getStarterPacks", url.Values{"uris": list}, "starterPacks", "app.bsky.graph.defs#starterPackViewBasic")
	}
	for i, uri := range uris["app.bsky.graph.list"] {
		if i == maxLists {
			break
		}
		add("app.bsky.graph.getList", url.Values{"list": {uri}, "limit": {"1"}}, "list", "app.bsky.graph.defs#listView")
	}
	return found
}

// quotedPost makes an app.bsky.embed.record#viewRecord of an app.bsky.feed.defs#postView; nil if it
// is none.
func quotedPost(post map[string]json.RawMessage) map[string]json.RawMessage {
	view := make(map[string]json.RawMessage)
	for from, to := range map[string]string{
		"uri": "uri", "cid": "cid", "author": "author", "record": "value", "labels": "labels", "indexedAt": "indexedAt",
		"replyCount": "replyCount", "repostCount": "repostCount", "likeCount": "likeCount", "quoteCount": "quoteCount",
	} {
		if raw := post[from]; raw != nil {
			view[to] = raw
		} else if strings.Contains("uri cid author record indexedAt", from) {
			return nil
		}
	}
	if raw := post["embed"]; raw != nil {
		view["embeds"], _ = json.Marshal([]json.RawMessage{raw})
	}
	return view
}
