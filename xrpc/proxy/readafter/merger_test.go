package readafter

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

func (a *account) merger() *Merger {
	return &Merger{
		Repos:  a.host,
		Handle: func(context.Context, syntax.DID) (syntax.Handle, error) { return "alice.test", nil },
		Images: Images{Host: "https://pds.test"},
	}
}

// answer is an answer of an AppView.
func answer(status int, rev syntax.TID, body string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	res.Header.Set("Content-Type", "application/json; charset=utf-8")
	res.Header.Set("Atproto-Repo-Rev", string(rev))
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return res
}

func get(method, query string) *http.Request {
	return httptest.NewRequest("GET", "/xrpc/"+method+"?"+query, nil)
}

const timeline = "app.bsky.feed.getTimeline"

// readAll reads what the client would get.
func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestModify(t *testing.T) {
	a := newAccount(t)
	uri := a.post("3zzzzzzzzzz2a", "hello", nil)
	m := a.merger()
	m.Now = func() time.Time { return a.load(a.rev).Posts[0].Time.Add(1500 * time.Millisecond) }
	body := feedBody("c", item(bob, "b", -9999))
	for _, encoding := range []string{"", "gzip"} {
		res := answer(200, a.rev, body)
		if encoding != "" {
			packed := pack(body)
			res = answer(200, a.rev, packed)
			res.Header.Set("Content-Encoding", encoding)
			res.ContentLength = -1
			res.Header.Del("Content-Length")
		}
		m.Modify(get(timeline, "limit=50"), timeline, alice, res)
		out := readAll(t, res)
		if !strings.Contains(out, uri) || !strings.Contains(out, postURI(bob, "b")) {
			t.Errorf("%q: %s", encoding, out)
		}
		h := res.Header
		if h.Get("Atproto-Upstream-Lag") != "1500" || h.Get("Content-Encoding") != "" || h.Get("Content-Length") != fmt.Sprint(len(out)) || res.ContentLength != int64(len(out)) {
			t.Errorf("%q: %v", encoding, h)
		}
	}
	if n := m.used.Load(); n != 0 {
		t.Errorf("%d bytes still count as used", n)
	}
}

func pack(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

// TestPassedOn: whatever cannot be edited arrives as it was sent.
func TestPassedOn(t *testing.T) {
	a := newAccount(t)
	a.post("3zzzzzzzzzz2a", "hello", nil)
	head, err := a.host.Head(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	body := feedBody("", item(bob, "b", 0))
	tests := []struct {
		name   string
		body   string
		change func(req *http.Request, res *http.Response, m *Merger)
	}{
		{"no revision", body, func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Del("Atproto-Repo-Rev") }},
		{"no revision at all", body, func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Atproto-Repo-Rev", "0") }},
		{"up to date", body, func(_ *http.Request, res *http.Response, _ *Merger) {
			res.Header.Set("Atproto-Repo-Rev", string(head.Rev))
		}},
		{"ahead", body, func(_ *http.Request, res *http.Response, _ *Merger) {
			res.Header.Set("Atproto-Repo-Rev", "7zzzzzzzzzzzz")
		}},
		{"another type", body, func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Content-Type", "text/html") }},
		{"a type that is none", body, func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Content-Type", ";;") }},
		{"an unknown encoding", body, func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Content-Encoding", "br") }},
		{"not gzip", body, func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Content-Encoding", "gzip") }},
		{"torn gzip", pack(body)[:60], func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Content-Encoding", "gzip") }},
		{"a gzip bomb", pack(strings.Repeat(" ", 11<<20) + body), func(_ *http.Request, res *http.Response, _ *Merger) { res.Header.Set("Content-Encoding", "gzip") }},
		{"too large", strings.Repeat(" ", 10<<20) + body, nil},
		{"too large, of unknown length", strings.Repeat(" ", 10<<20) + body, func(_ *http.Request, res *http.Response, _ *Merger) { res.ContentLength = -1 }},
		{"no memory", strings.Repeat(" ", 100<<10) + body, func(_ *http.Request, _ *http.Response, m *Merger) { m.MaxTotal = 64 << 10 }},
		{"HEAD", body, func(req *http.Request, _ *http.Response, _ *Merger) { req.Method = "HEAD" }},
		{"an error", `{"error":"InternalServerError"}`, func(_ *http.Request, res *http.Response, _ *Merger) { res.StatusCode = 500 }},
		{"another error", `{"error":"NotFound"}`, func(_ *http.Request, res *http.Response, _ *Merger) { res.StatusCode = 400 }},
		{"no JSON", `{"feed":[}`, nil},
		{"another shape", `{"feed":{}}`, nil},
		{"nothing", ``, nil},
		{"no account", body, func(_ *http.Request, _ *http.Response, m *Merger) {
			m.Handle = func(context.Context, syntax.DID) (syntax.Handle, error) { return "", errors.New("gone") }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, req, res := a.merger(), get(timeline, ""), answer(200, a.rev, tt.body)
			if tt.change != nil {
				tt.change(req, res, m)
			}
			status, length, headers := res.StatusCode, res.ContentLength, fmt.Sprint(res.Header)
			m.Modify(req, timeline, alice, res)
			if got := readAll(t, res); got != tt.body {
				t.Errorf("got %d bytes %.80q, want %d", len(got), got, len(tt.body))
			}
			if res.StatusCode != status || res.ContentLength != length || fmt.Sprint(res.Header) != headers {
				t.Errorf("headers: %d %v, were %s", res.StatusCode, res.Header, headers)
			}
			if n := m.used.Load(); n != 0 {
				t.Errorf("%d bytes still count as used", n)
			}
		})
	}
	t.Run("not a method of these", func(t *testing.T) {
		res := answer(200, a.rev, body)
		a.merger().Modify(get("app.bsky.feed.getFeed", ""), "app.bsky.feed.getFeed", alice, res)
		if readAll(t, res) != body {
			t.Error("changed")
		}
	})
	t.Run("a connection that breaks", func(t *testing.T) {
		res := answer(200, a.rev, "")
		broken := errors.New("broken")
		res.Body, res.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(body[:50]), failing{broken})), -1
		a.merger().Modify(get(timeline, ""), timeline, alice, res)
		b, err := io.ReadAll(res.Body)
		if string(b) != body[:50] || !errors.Is(err, broken) {
			t.Errorf("%q, %v", b, err)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// appView is an AppView that has some answers, and notes what it is asked.
type appView struct {
	answers map[string]string
	asked   []string
}

func (v *appView) Query(_ context.Context, did syntax.DID, method string, params url.Values, out any) error {
	v.asked = append(v.asked, method+"?"+params.Encode())
	if did != alice {
		return errors.New("of whom?")
	}
	text, ok := v.answers[method]
	if !ok {
		return errors.New("no answer")
	}
	return json.Unmarshal([]byte(text), out)
}

func TestMissing(t *testing.T) {
	a := newAccount(t)
	root := postURI(bob, "root")
	uri := a.post("3zzzzzzzzzz2a", "one", replyTo(root, root))
	a.post("3zzzzzzzzzz2b", "two", replyTo(root, uri))
	const notFound = `{"error":"NotFound","message":"Post not found"}`
	tests := []struct {
		name, uri, body string
		want            string // an outline; empty: passed on
	}{
		{"by DID", uri, notFound, "root<3zzzzzzzzzz2a(3zzzzzzzzzz2b)"},
		{"by handle", strings.Replace(uri, alice, "Alice.test", 1), notFound, "root<3zzzzzzzzzz2a(3zzzzzzzzzz2b)"},
		{"one that is not here", uri + "x", notFound, ""},
		{"somebody else's", postURI(bob, "3zzzzzzzzzz2a"), notFound, ""},
		{"by another handle", strings.Replace(uri, alice, "bob.test", 1), notFound, ""},
		{"no URI", "x", notFound, ""},
		{"another error", uri, `{"error":"InvalidRequest"}`, ""},
		{"no error", uri, `[]`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, app := a.merger(), &appView{answers: map[string]string{getPostThread: `{"thread":` + node(root) + `}`}}
			m.AppView = app
			res := answer(400, a.rev, tt.body)
			m.Modify(get(getPostThread, url.Values{"uri": {tt.uri}}.Encode()), getPostThread, alice, res)
			out := readAll(t, res)
			if tt.want == "" {
				if out != tt.body || res.StatusCode != 400 || app.asked != nil {
					t.Errorf("%d %s %q", res.StatusCode, out, app.asked)
				}
				return
			}
			if got := outline(decode(t, out).(map[string]any)["thread"]); got != tt.want || res.StatusCode != 200 || res.Header.Get("Atproto-Upstream-Lag") == "" {
				t.Errorf("%d %s, want %s", res.StatusCode, got, tt.want)
			}
			if len(app.asked) != 1 || !strings.Contains(app.asked[0], "depth=0&parentHeight=79&uri=") {
				t.Errorf("asked %q", app.asked)
			}
		})
	}
}

func TestEmbeds(t *testing.T) {
	b, ref := blob(t)
	object := func(kind string, more map[string]any) map[string]any {
		m := map[string]any{"$type": "app.bsky.embed." + kind}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	quote := func(uri string) map[string]any {
		return object("record", map[string]any{"record": map[string]any{"uri": uri, "cid": someCID}})
	}
	image := map[string]any{"image": b.Value(), "alt": "an image", "aspectRatio": map[string]any{"width": int64(2), "height": int64(1)}}
	images := object("images", map[string]any{"images": []any{image}})
	local := func(preset string) string {
		return "https://cdn.test/" + preset + "/plain/" + alice + "/" + ref.String() + "@jpeg"
	}
	imageView := `{"thumb":"` + local("feed_thumbnail") + `","fullsize":"` + local("feed_fullsize") + `","alt":"an image","aspectRatio":{"width":2,"height":1}}`
	imagesView := `{"$type":"app.bsky.embed.images#view","images":[` + imageView + `]}`
	item := map[string]any{"$type": "app.bsky.embed.gallery#image"}
	for k, v := range image {
		item[k] = v
	}
	view := func(inner string) string { return `{"$type":"app.bsky.embed.record#view","record":` + inner + `}` }
	generator, list, pack := "at://"+bob+"/app.bsky.feed.generator/g", "at://"+bob+"/app.bsky.graph.list/l", "at://"+bob+"/app.bsky.graph.starterpack/s"
	other := localPost("other", 1, map[string]any{"embed": images})
	tests := []struct {
		name  string
		embed map[string]any
		want  string // empty: no view
	}{
		{"images", images, imagesView},
		{"a gallery", object("gallery", map[string]any{"items": []any{item, object("gallery#film", nil)}}),
			`{"$type":"app.bsky.embed.gallery#view","items":[{"$type":"app.bsky.embed.gallery#viewImage","thumbnail":"` + local("feed_thumbnail") + `","fullsize":"` + local("feed_fullsize") + `","alt":"an image","aspectRatio":{"width":2,"height":1}}]}`},
		{"a link", object("external", map[string]any{"external": map[string]any{"uri": "https://a.test", "title": "t", "description": "d", "thumb": b.Value()}}),
			`{"$type":"app.bsky.embed.external#view","external":{"uri":"https://a.test","title":"t","description":"d","thumb":"` + local("feed_thumbnail") + `"}}`},
		{"a video", object("video", map[string]any{"video": b.Value()}), ""},
		{"one of the future", object("hologram", nil), ""},
		{"images that are none", object("images", map[string]any{"images": "x"}), ""},
		{"a post", quote(postURI(bob, "q")), view(`{"$type":"app.bsky.embed.record#viewRecord","uri":"` + postURI(bob, "q") + `","cid":"c","author":{"did":"` + bob + `"},"value":{"text":"q"},"embeds":[{"e":1}],"likeCount":3,"indexedAt":"t"}`)},
		{"a post that is not there", quote(postURI(bob, "gone")), view(`{"$type":"app.bsky.embed.record#viewNotFound","uri":"` + postURI(bob, "gone") + `","notFound":true}`)},
		{"a local post", quote(other.URI), view(`{"$type":"app.bsky.embed.record#viewRecord","uri":"` + other.URI + `","cid":"` + someCID + `","author":{"did":"` + alice + `","handle":"alice.test"},"value":` + string(other.JSON) + `,"embeds":[` + imagesView + `],"indexedAt":"` + at(1) + `"}`)},
		{"a feed", quote(generator), view(`{"$type":"app.bsky.feed.defs#generatorView","uri":"` + generator + `","more":1}`)},
		{"a list", quote(list), view(`{"$type":"app.bsky.graph.defs#listView","uri":"` + list + `"}`)},
		{"a starter pack", quote(pack), view(`{"$type":"app.bsky.graph.defs#starterPackViewBasic","uri":"` + pack + `"}`)},
		{"no URI", quote("x"), view(`{"$type":"app.bsky.embed.record#viewNotFound","uri":"x","notFound":true}`)},
		{"a post with images", object("recordWithMedia", map[string]any{"record": quote(other.URI + "x"), "media": images}),
			`{"$type":"app.bsky.embed.recordWithMedia#view","record":` + view(`{"$type":"app.bsky.embed.record#viewNotFound","uri":"`+other.URI+`x","notFound":true}`) + `,"media":` + imagesView + `}`},
		{"a post with a video", object("recordWithMedia", map[string]any{"record": quote(other.URI), "media": object("video", nil)}), ""},
	}
	app := &appView{answers: map[string]string{
		"app.bsky.feed.getPosts":          `{"posts":[{"uri":"` + postURI(bob, "q") + `","cid":"c","author":{"did":"` + bob + `"},"record":{"text":"q"},"embed":{"e":1},"likeCount":3,"indexedAt":"t"},{"uri":"at://no-post"},null]}`,
		"app.bsky.feed.getFeedGenerators": `{"feeds":[{"uri":"` + generator + `","more":1}]}`,
		"app.bsky.graph.getList":          `{"list":{"uri":"` + list + `"},"items":[]}`,
		"app.bsky.graph.getStarterPacks":  `{"starterPacks":[{"uri":"` + pack + `"}]}`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := localPost("p", 2, map[string]any{"embed": tt.embed})
			v := testViewer(other, p)
			v.quotes = func() map[string]json.RawMessage { return quotes(t.Context(), app, v.local) }
			out, err := json.Marshal(v.post(p))
			if err != nil {
				t.Fatal(err)
			}
			got := decode(t, string(out)).(map[string]any)
			var want any
			if tt.want != "" {
				want = decode(t, tt.want)
			}
			if a, b := fmt.Sprint(got["embed"]), fmt.Sprint(want); a != b {
				t.Errorf("got  %s\nwant %s", a, b)
			}
		})
	}
}

// TestQuotesAreBounded: however much is quoted, few requests are made.
func TestQuotesAreBounded(t *testing.T) {
	l := &local{DID: alice}
	for i := range 60 {
		for _, collection := range []string{"app.bsky.graph.list", "app.bsky.feed.post"} {
			l.Posts = append(l.Posts, localPost(fmt.Sprint(collection, i), i, map[string]any{"embed": map[string]any{"$type": "app.bsky.embed.record",
				"record": map[string]any{"uri": fmt.Sprintf("at://%s/%s/%d", bob, collection, i), "cid": someCID}}}))
		}
	}
	app := &appView{}
	quotes(t.Context(), app, l)
	if len(app.asked) != 1+maxLists || strings.Count(app.asked[0], "uris=") != maxQuotes {
		t.Errorf("asked %q", app.asked)
	}
}

func TestImages(t *testing.T) {
	_, c := blob(t)
	for pattern, want := range map[string]string{
		"":                            "https://pds.test/xrpc/com.atproto.sync.getBlob?cid=" + c.String() + "&did=did%3Aplc%3Aalice7aliceliceali23aaaa",
		"https://a.test/%s/%20/%s/%s": "https://a.test/avatar/%20/" + alice + "/" + c.String(),
	} {
		if got := (Images{CDN: pattern, Host: "https://pds.test"}).URL("avatar", alice, c); got != want {
			t.Errorf("%q: %s", pattern, got)
		}
	}
}

func TestAccept(t *testing.T) {
	for client, want := range map[string]string{
		"": "identity", "gzip": "gzip", "br, GZIP;q=0.5": "gzip", "gzip; q=0, br": "identity", "*": "identity", "gzip;q=0.0": "identity", ";q=1": "identity",
	} {
		if got := Accept(client); got != want {
			t.Errorf("%q: %s", client, got)
		}
	}
}
