package readafter

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// feedItem is what must be known of an item of a feed.
type feedItem struct {
	Post struct {
		URI       string `json:"uri"`
		IndexedAt string `json:"indexedAt"`
	} `json:"post"`
	Reason *struct {
		Type      string `json:"$type"`
		IndexedAt string `json:"indexedAt"`
	} `json:"reason"`
	from, to int
}

func (it *feedItem) reason() string {
	if it.Reason == nil {
		return ""
	}
	return it.Reason.Type
}

// time is when the item came into the feed, as far as it says so.
func (it *feedItem) time() time.Time {
	s := it.Post.IndexedAt
	if it.reason() == "app.bsky.feed.defs#reasonRepost" {
		s = it.Reason.IndexedAt
	}
	t, _ := time.Parse(time.RFC3339Nano, s)
	return t
}

// feedView is app.bsky.feed.defs#feedViewPost.
type feedView struct {
	Post postView `json:"post"`
}

// feed edits an answer with posts in a member "feed": authors are brought up
// to date, and those of the given posts put in that belong on the page.
func (v *viewer) feed(body []byte, posts []*post, query url.Values) ([]byte, error) {
	e := v.newEditor(body)
	var items []feedItem
	end := 0
	e.member("feed", func(i int) int {
		end = e.array(i, func(i int) int {
			items = append(items, e.item(i))
			return items[len(items)-1].to
		})
		return end
	})
	if e.err != nil {
		return nil, e.err
	}
	var page struct {
		Cursor string `json:"cursor"`
	}
	e.read(e.space(0), &page)
	for at, posts := range place(items, posts, query.Get("cursor") != "", page.Cursor != "") {
		for _, p := range posts {
			view := feedView{v.post(p)}
			switch {
			case at < len(items):
				e.replace(items[at].from, items[at].from, "", view, ",")
			case at > 0:
				e.replace(items[at-1].to, items[at-1].to, ",", view, "")
			case p == posts[0]:
				e.replace(end-1, end-1, "", view, "")
			default:
				e.replace(end-1, end-1, ",", view, "")
			}
		}
	}
	return e.done()
}

// item reads an item of a feed and brings the author of its post up to date.
func (e *editor) item(i int) feedItem {
	it := feedItem{from: i}
	it.to = e.read(i, &it)
	if it.Post.URI == "" {
		e.err = errShape
	}
	e.text.object(i, func(name string, i int) int {
		if name == "post" {
			return e.author(i)
		}
		return e.skip(i)
	})
	return it
}

// place decides which posts belong on a page, and before which of its items,
// newest first. On a page that continues another, nothing is newer than its
// first item; on one that is continued, nothing older than its last. A pinned post stays
// on top.
func place(items []feedItem, posts []*post, continues, continued bool) map[int][]*post {
	there := make(map[string]bool)
	pinned := 0
	for i, it := range items {
		if it.reason() == "app.bsky.feed.defs#reasonPin" {
			if pinned == i {
				pinned++
			}
		} else {
			there[it.Post.URI] = true
		}
	}
	timed := items[pinned:]
	if len(timed) == 0 && (continues || continued) {
		return nil
	}
	at := make(map[int][]*post)
	for _, p := range slices.Backward(posts) {
		if there[p.URI] || continues && !p.Time.Before(timed[0].time()) ||
			continued && !p.Time.After(timed[len(timed)-1].time()) {
			continue
		}
		i := slices.IndexFunc(timed, func(it feedItem) bool { return it.time().Before(p.Time) })
		if i < 0 {
			i = len(timed)
		}
		at[pinned+i] = append(at[pinned+i], p)
	}
	return at
}

// own selects the posts for a feed of an author, by the parameters of getAuthorFeed.
func (l *local) own(query url.Values) (posts []*post) {
	actor := query.Get("actor")
	if actor != string(l.DID) && syntax.Handle(actor).Normalize() != l.Handle.Normalize() {
		return nil
	}
	self := "at://" + string(l.DID) + "/"
	for _, p := range l.Posts {
		reply := p.Fields.Reply
		var ok bool
		switch query.Get("filter") {
		case "", "posts_with_replies":
			ok = true
		case "posts_no_replies":
			ok = reply == nil
		case "posts_and_author_threads":
			ok = reply == nil || strings.HasPrefix(reply.Root.URI, self) && strings.HasPrefix(reply.Parent.URI, self)
		case "posts_with_media":
			ok = p.has("images") || p.has("gallery") || p.has("video")
		case "posts_with_video":
			ok = p.has("video")
		}
		if ok {
			posts = append(posts, p)
		}
	}
	return posts
}

// has reports whether a post has media of a kind.
func (p *post) has(kind string) bool {
	e := p.Fields.Embed
	if e.Type() == "app.bsky.embed.recordWithMedia" {
		m, _ := e["media"].(map[string]any)
		e = m
	}
	return e.Type() == "app.bsky.embed."+kind
}
