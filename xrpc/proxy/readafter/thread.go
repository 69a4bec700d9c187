package readafter

import (
	"net/url"
	"strconv"
)

// threadView is app.bsky.feed.defs#threadViewPost.
type threadView struct {
	Type    string        `json:"$type"`
	Post    postView      `json:"post"`
	Parent  any           `json:"parent,omitempty"`
	Replies []*threadView `json:"replies,omitempty"`
}

const threadViewType = "app.bsky.feed.defs#threadViewPost"

// Parameters of getPostThread.
const (
	defaultDepth  = 6
	defaultHeight = 80
	maxThread     = 1000
)

// bound reads a parameter.
func bound(query url.Values, name string, fallback int) int {
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < 0 {
		return fallback
	}
	return min(n, maxThread)
}

// threadNode is a post in a thread of the AppView.
type threadNode struct {
	uri     string
	level   int // of replies
	replies int // where the list begins, or -1
	some    bool
	end     int // of the node
}

// thread edits the answer of getPostThread: authors are brought up to date, and local
// replies put under the posts that they reply to, newest first.
func (v *viewer) thread(body []byte, query url.Values) ([]byte, error) {
	e := v.newEditor(body)
	var nodes []threadNode
	e.member("thread", func(i int) int { return e.node(i, 0, &nodes) })
	there := make(map[string]bool)
	for _, n := range nodes {
		there[n.uri] = true
	}
	w := v.newThreadMaker(there, bound(query, "depth", defaultDepth))
	for _, n := range nodes {
		if n.uri == "" {
			continue // blocked, not found, or of a kind that is not known
		}
		views := w.under(n.uri, n.level+1)
		for i, view := range views {
			switch {
			case n.replies >= 0 && (n.some || i < len(views)-1):
				e.replace(n.replies+1, n.replies+1, "", view, ",")
			case n.replies >= 0:
				e.replace(n.replies+1, n.replies+1, "", view, "")
			default:
				before, after := ",", ""
				if i == 0 {
					before = `,"replies":[`
				}
				if i == len(views)-1 {
					after = "]"
				}
				e.replace(n.end-1, n.end-1, before, view, after)
			}
		}
	}
	return e.done()
}

// node reads a node of a thread and those below it.
func (e *editor) node(i, level int, nodes *[]threadNode) (end int) {
	n := threadNode{level: level, replies: -1}
	var kind string
	var post struct {
		URI string `json:"uri"`
	}
	n.end = e.object(i, func(name string, i int) int {
		switch name {
		case "$type":
			return e.read(i, &kind)
		case "post":
			e.read(i, &post)
			return e.author(i)
		case "replies":
			n.replies, n.some = i, false
			return e.array(i, func(i int) int {
				n.some = true
				return e.node(i, level+1, nodes)
			})
		}
		return e.skip(i)
	})
	if kind == threadViewType {
		n.uri = post.URI
	}
	*nodes = append(*nodes, n)
	return n.end
}

// threadMaker makes threads of local posts. Each appears once.
type threadMaker struct {
	*viewer
	depth    int                // the deepest level of replies
	children map[string][]*post // by URI of the parent, oldest first
}

// newThreadMaker returns a weaver of the local posts but those that are there already.
func (v *viewer) newThreadMaker(there map[string]bool, depth int) *threadMaker {
	w := &threadMaker{v, depth, make(map[string][]*post)}
	for _, p := range v.Posts {
		if parent := p.parent(); parent != "" && !there[p.URI] {
			w.children[parent] = append(w.children[parent], p)
		}
	}
	return w
}

// under returns the local replies to a post, newest first, with those to them.
func (w *threadMaker) under(uri string, level int) (views []*threadView) {
	if level > w.depth {
		return nil
	}
	list := w.children[uri]
	delete(w.children, uri)
	for i := range list {
		views = append(views, w.view(list[len(list)-1-i], level))
	}
	return views
}

// view returns a local post with local replies.
func (w *threadMaker) view(p *post, level int) *threadView {
	return &threadView{Type: threadViewType, Post: w.post(p), Replies: w.under(p.URI, level+1)}
}

// find returns a local post, or nil.
func (l *local) find(uri string) *post {
	for _, p := range l.Posts {
		if p.URI == uri {
			return p
		}
	}
	return nil
}

// localThread makes the answer of getPostThread for a local post. For the first of its ancestors
// that is not local, parents is asked: for the thread that the AppView has of that post and at most
// height ancestors of its own, or nil.
func (v *viewer) localThread(p *post, query url.Values, parents func(uri string, height int) any) any {
	seen := map[string]bool{p.URI: true}
	thread := v.newThreadMaker(seen, bound(query, "depth", defaultDepth)).view(p, 0)
	node := thread
	for height := bound(query, "parentHeight", defaultHeight); height > 0; height-- {
		uri := p.parent()
		if uri == "" || seen[uri] {
			break
		}
		seen[uri] = true
		if p = v.find(uri); p == nil {
			if up := parents(uri, height-1); up != nil {
				node.Parent = up
			}
			break
		}
		up := &threadView{Type: threadViewType, Post: v.post(p)}
		node.Parent, node = up, up
	}
	return struct {
		Thread *threadView `json:"thread"`
	}{thread}
}
