package readafter

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

// Headers of an answer.
const (
	headerRev = "Atproto-Repo-Rev"
	headerLag = "Atproto-Upstream-Lag"
)

// Repos reads repositories: a *repo.Host.
type Repos interface {
	View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error
}

// Merger adds to an AppView's responses what the AppView does not have yet. It is safe for
// concurrent use. Do not change its fields while it is in use.
type Merger struct {
	// Repos has the accounts' records, and Handle their handles.
	Repos  Repos
	Handle func(ctx context.Context, did syntax.DID) (syntax.Handle, error)
	// AppView returns views of quoted records and of the parents of replies. Nil: these are shown
	// as not found.
	AppView AppView
	// Images makes the URLs of images.
	Images Images
	// MaxBody bounds the bytes of a response that is edited, both before and after decompression;
	// larger ones are passed on unchanged. 0: 10 MiB.
	MaxBody int64
	// MaxTotal bounds the bytes of all responses in memory at a time; beyond it, responses are
	// passed on unchanged. 0: 64 MiB, or 16 MiB on WebAssembly.
	MaxTotal int64
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	used atomic.Int64 // bytes of answers in memory
}

// Methods returns the names of the methods whose responses are edited.
func Methods() []string {
	return []string{
		"app.bsky.actor.getProfile",
		"app.bsky.actor.getProfiles",
		"app.bsky.feed.getActorLikes",
		"app.bsky.feed.getAuthorFeed",
		"app.bsky.feed.getPostThread",
		"app.bsky.feed.getTimeline",
	}
}

const getPostThread = "app.bsky.feed.getPostThread"

// merge edits the answer of a method with success.
func (v *viewer) merge(method string, query url.Values, body []byte) ([]byte, error) {
	switch method {
	case "app.bsky.actor.getProfile":
		return v.profile(body)
	case "app.bsky.actor.getProfiles":
		return v.profiles(body)
	case "app.bsky.feed.getActorLikes":
		return v.feed(body, nil, query)
	case "app.bsky.feed.getAuthorFeed":
		return v.feed(body, v.own(query), query)
	case "app.bsky.feed.getTimeline":
		return v.feed(body, v.Posts, query)
	case getPostThread:
		return v.thread(body, query)
	}
	return nil, errShape
}

// Accept returns the Accept-Encoding for a request to an AppView whose response can be edited,
// given the client's.
func Accept(client string) string {
	for item := range strings.SplitSeq(client, ",") {
		name, weight, _ := strings.Cut(item, ";")
		weight = strings.ReplaceAll(weight, " ", "")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && weight != "q=0" && !strings.HasPrefix(weight, "q=0.0") {
			return "gzip"
		}
	}
	return "identity"
}

// Modify edits an AppView's response to an account's request for one of Methods. It reads the body,
// and replaces it if there is anything to add. Other responses are unchanged. The caller closes the
// resulting body.
func (m *Merger) Modify(req *http.Request, method string, did syntax.DID, res *http.Response) {
	missing := method == getPostThread && res.StatusCode == http.StatusBadRequest
	rev, err := syntax.ParseTID(res.Header.Get(headerRev))
	if err != nil || req.Method != http.MethodGet || res.StatusCode != http.StatusOK && !missing || !isJSON(res.Header) {
		return
	}
	ctx := req.Context()
	v, err := m.viewer(ctx, did, rev)
	if v == nil || err != nil {
		return
	}
	query := req.URL.Query()
	body, ok := m.read(res)
	if !ok {
		return
	}
	var out []byte
	if missing {
		out, err = m.missing(ctx, v, query, body)
	} else {
		out, err = v.merge(method, query, body)
	}
	if err != nil {
		return
	}
	res.StatusCode, res.Status = http.StatusOK, "200 OK"
	res.Body = &bodyWithCloser{bytes.NewReader(out), res.Body}
	res.ContentLength, res.TransferEncoding, res.Uncompressed = int64(len(out)), nil, false
	res.Header.Set("Content-Length", strconv.Itoa(len(out)))
	for _, name := range []string{"Content-Encoding", "Etag", "Last-Modified", "Digest", "Content-Digest", "Content-Md5"} {
		res.Header.Del(name)
	}
	res.Header.Set(headerLag, strconv.FormatInt(v.lag(m.now()).Milliseconds(), 10))
}

// viewer reads what is newer than a revision; nil: nothing.
func (m *Merger) viewer(ctx context.Context, did syntax.DID, rev syntax.TID) (v *viewer, err error) {
	var l *local
	err = m.Repos.View(ctx, did, func(r storage.Reader) (err error) {
		if r.Head().Rev > rev {
			l, err = load(ctx, r, did, rev)
		}
		return err
	})
	if err != nil || l == nil {
		return nil, err
	}
	if l.Handle, err = m.Handle(ctx, did); err != nil {
		return nil, err
	}
	v = &viewer{local: l, images: m.Images}
	if m.AppView != nil {
		v.quotes = sync.OnceValue(func() map[string]json.RawMessage { return quotes(ctx, m.AppView, l) })
	}
	return v, nil
}

// missing makes the thread of a post that the AppView does not have, if the post is local.
func (m *Merger) missing(ctx context.Context, v *viewer, query url.Values, body []byte) ([]byte, error) {
	var envelope struct {
		Error string `json:"error"`
	}
	if err := data.UnmarshalPlainJSON(body, &envelope); err != nil || envelope.Error != "NotFound" {
		return nil, errShape
	}
	uri, err := syntax.ParseATURI(query.Get("uri"))
	if err != nil {
		return nil, err
	}
	if h, ok := uri.Authority().Handle(); !ok && string(uri.Authority()) != string(v.DID) || ok && h.Normalize() != v.Handle.Normalize() {
		return nil, errShape
	}
	p := v.find("at://" + string(v.DID) + "/" + string(uri.Collection()) + "/" + string(uri.RecordKey()))
	if p == nil {
		return nil, errShape
	}
	return json.Marshal(v.localThread(p, query, func(uri string, height int) any {
		if m.AppView == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, quoteTimeout)
		defer cancel()
		var out struct {
			Thread json.RawMessage `json:"thread"`
		}
		params := url.Values{"uri": {uri}, "depth": {"0"}, "parentHeight": {strconv.Itoa(height)}}
		if m.AppView.Query(ctx, v.DID, getPostThread, params, &out) != nil || out.Thread == nil {
			return nil
		}
		return out.Thread
	}))
}

func (m *Merger) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// isJSON reports whether an answer says that it is JSON, or says nothing.
func isJSON(h http.Header) bool {
	v := h.Get("Content-Type")
	if v == "" {
		return true
	}
	t, ok := xrpc.MediaType(v)
	return ok && (t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json"))
}

// bodyWithCloser is a body whose closing closes another one too.
type bodyWithCloser struct {
	io.Reader
	io.Closer
}
