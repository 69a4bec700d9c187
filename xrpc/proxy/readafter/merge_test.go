package readafter

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/data"
)

// noon is a time that the tests count from.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func at(minutes int) string { return string(datetime(noon.Add(time.Duration(minutes) * time.Minute))) }

// localPost is a post of alice's, so many minutes after noon.
func localPost(rkey string, minutes int, more map[string]any) *post {
	record := map[string]any{"$type": "app.bsky.feed.post", "text": rkey, "createdAt": at(minutes)}
	for k, v := range more {
		record[k] = v
	}
	cbor, err := data.Encode(record)
	if err != nil {
		panic(err)
	}
	p := &post{URI: postURI(alice, rkey), CID: someCID, Time: noon.Add(time.Duration(minutes) * time.Minute)}
	if err := data.Unmarshal(cbor, &p.Fields); err != nil {
		panic(err)
	}
	p.JSON, err = data.AppendJSON(nil, cbor)
	if err != nil {
		panic(err)
	}
	return p
}

func postURI(did, rkey string) string { return "at://" + did + "/app.bsky.feed.post/" + rkey }

// item is an item of a feed as an AppView gives it.
func item(did, rkey string, minutes int) string {
	return fmt.Sprintf(`{"post":%s,"feedContext":"f-%s"}`, upstreamPost(did, rkey, minutes), rkey)
}

func upstreamPost(did, rkey string, minutes int) string {
	return fmt.Sprintf(`{"uri":%q,"cid":%q,"author":{"did":%q,"handle":"someone.test","displayName":"Old Name","avatar":"https://cdn.test/avatar/plain/x/old@jpeg",
		"viewer":{"muted":false,"newField":[1.5e400,-0.0]},"labels":[]},"record":{"$type":"app.bsky.feed.post","text":"text \"with\" ] } [ { \\ \ud83d","createdAt":%q},
		"replyCount":1,"likeCount":12345678901234567890,"indexedAt":%q,"viewer":{"threadMuted":false}}`, postURI(did, rkey), someCID, did, at(minutes), at(minutes))
}

func feedBody(cursor string, items ...string) string {
	s := `{ "feed" : [` + strings.Join(items, " ,\n") + ` ] `
	if cursor != "" {
		s += `, "cursor":"` + cursor + `"`
	}
	return s + `, "newField":{"a":[]} }`
}

func testViewer(posts ...*post) *viewer {
	return &viewer{
		local:  &local{DID: alice, Handle: "alice.test", Posts: posts},
		images: Images{CDN: "https://cdn.test/%s/plain/%s/%s@jpeg", Host: "https://pds.test"},
	}
}

func blob(t testing.TB) (*data.Blob, cid.Cid) {
	c, err := cid.Decode("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
	if err != nil {
		t.Fatal(err)
	}
	return &data.Blob{Ref: c, MIME: "image/jpeg", Size: 10}, c
}

func TestFeed(t *testing.T) {
	repost := func(rkey string, posted, reposted int) string {
		return fmt.Sprintf(`{"post":%s,"reason":{"$type":"app.bsky.feed.defs#reasonRepost","by":{"did":%q,"handle":"b.test"},"indexedAt":%q}}`,
			upstreamPost(bob, rkey, posted), bob, at(reposted))
	}
	pin := fmt.Sprintf(`{"post":%s,"reason":{"$type":"app.bsky.feed.defs#reasonPin"}}`, upstreamPost(alice, "pinned", -9999))
	new1, new2 := localPost("new1", 1, nil), localPost("new2", 2, nil)
	reply := localPost("reply", 3, replyTo(postURI(bob, "b"), postURI(bob, "b")))
	thread := localPost("thread", 4, replyTo(postURI(alice, "a"), postURI(alice, "a")))
	video := localPost("video", 5, map[string]any{"embed": map[string]any{"$type": "app.bsky.embed.video"}})
	image := localPost("image", 6, map[string]any{"embed": map[string]any{"$type": "app.bsky.embed.recordWithMedia",
		"media": map[string]any{"$type": "app.bsky.embed.images"}}})
	kinds := []*post{new1, reply, thread, video, image}
	const timeline, author, likes = "app.bsky.feed.getTimeline", "app.bsky.feed.getAuthorFeed", "app.bsky.feed.getActorLikes"
	tests := []struct {
		name, method, query, body string
		posts                     []*post
		want                      string
	}{
		{"newest first", timeline, "", feedBody("c", item(bob, "b0", 0), item(bob, "b-9", -9)), []*post{new1, new2}, "new2 new1 b0 b-9"},
		{"in between", timeline, "", feedBody("c", item(bob, "b9", 9), item(bob, "b0", 0)), []*post{new1, new2}, "b9 new2 new1 b0"},
		{"older than the page", timeline, "", feedBody("c", item(bob, "b9", 9), item(bob, "b8", 8)), []*post{new1, new2}, "b9 b8"},
		{"older than the last page", timeline, "", feedBody("", item(bob, "b9", 9), item(bob, "b8", 8)), []*post{new1, new2}, "b9 b8 new2 new1"},
		{"an empty feed", timeline, "", feedBody(""), []*post{new1, new2}, "new2 new1"},
		{"an empty page", timeline, "", feedBody("c"), []*post{new1}, ""},
		{"an empty last page", timeline, "cursor=x", feedBody(""), []*post{new1}, ""},
		{"a further page has none that is newer", timeline, "cursor=x", feedBody("c", item(bob, "b0", 0), item(bob, "b-9", -9)), []*post{new1}, "b0 b-9"},
		{"a further page has what lies within", timeline, "cursor=x", feedBody("", item(bob, "b9", 9), item(bob, "b0", 0)), []*post{new1}, "b9 new1 b0"},
		{"one that is there already", timeline, "", feedBody("c", item(alice, "new1", 1), item(bob, "b0", 0)), []*post{new1, new2}, "new2 new1 b0"},
		{"a repost counts by its own time", timeline, "", feedBody("c", item(bob, "b9", 9), repost("old", -9999, 0)), []*post{new1}, "b9 new1 old"},
		{"a pinned post stays on top", author, "actor=" + alice, feedBody("c", pin, item(alice, "a0", 0)), []*post{new1}, "pinned new1 a0"},
		{"only a pinned post", author, "actor=" + alice, feedBody("", pin), []*post{new1}, "pinned new1"},
		{"an author's feed by handle", author, "actor=ALICE.test", feedBody(""), []*post{new1}, "new1"},
		{"somebody else's feed", author, "actor=" + bob, feedBody("", item(bob, "b0", 0)), []*post{new1}, "b0"},
		{"filter: all", author, "filter=posts_with_replies&actor=" + alice, feedBody(""), kinds, "image video thread reply new1"},
		{"filter: no replies", author, "filter=posts_no_replies&actor=" + alice, feedBody(""), kinds, "image video new1"},
		{"filter: threads", author, "filter=posts_and_author_threads&actor=" + alice, feedBody(""), kinds, "image video thread new1"},
		{"filter: media", author, "filter=posts_with_media&actor=" + alice, feedBody(""), kinds, "image video"},
		{"filter: video", author, "filter=posts_with_video&actor=" + alice, feedBody(""), kinds, "video"},
		{"filter: one of the future", author, "filter=posts_by_mood&actor=" + alice, feedBody(""), kinds, ""},
		{"likes have no posts of one's own", likes, "", feedBody("", item(bob, "b0", 0)), []*post{new1}, "b0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			out, err := testViewer(tt.posts...).merge(tt.method, query, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			var feed struct {
				Feed []struct {
					Post struct {
						URI, IndexedAt string
						Author         struct{ DID, Handle string }
					}
				}
				NewField any
			}
			if err := json.Unmarshal(out, &feed); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got []string
			for _, it := range feed.Feed {
				got = append(got, it.Post.URI[strings.LastIndex(it.Post.URI, "/")+1:])
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
			if feed.NewField == nil {
				t.Error("a field is lost")
			}
			// What came is all there, as it came.
			for part := range strings.SplitSeq(tt.body, " ,\n") {
				part = strings.TrimPrefix(strings.SplitN(part, " ]", 2)[0], `{ "feed" : [`)
				if !strings.Contains(string(out), part) {
					t.Errorf("changed: %s", part)
				}
			}
		})
	}
}

func TestProfile(t *testing.T) {
	avatar, picture := blob(t)
	const old = `"handle":"alice.test","displayName":"Old","description":"old","website":"https://old.test","avatar":"https://other.test/old","banner":"https://other.test/banner","pinnedPost":{"uri":"at://x","cid":"y"},"followersCount":7,"viewer":{"blockedBy":false,"later":1e999}`
	image := func(preset string) string {
		return "https://cdn.test/" + preset + "/plain/" + alice + "/" + picture.String() + "@jpeg"
	}
	tests := []struct {
		name, method, body, want string
		profile                  profile
		unchanged                bool
	}{
		{"all is taken away", "getProfile", `{"did":"` + alice + `",` + old + `}`,
			`{"did":"` + alice + `","handle":"alice.test","followersCount":7,"viewer":{"blockedBy":false,"later":1e999}}`, profile{}, false},
		{"all is set", "getProfile", ` {"did":"` + alice + `","handle":"alice.test"} `,
			`{"avatar":"` + image("avatar") + `","banner":"` + image("banner") + `","description":"<d>","did":"` + alice + `","displayName":"n","handle":"alice.test","pinnedPost":{"uri":"at://p","cid":"c"},"pronouns":"p","website":"w"}`,
			profile{"n", "<d>", "p", "w", avatar, avatar, &ref{"at://p", "c"}}, false},
		{"the same image keeps its address", "getProfile", `{"did":"` + alice + `","avatar":"https://near.test/` + picture.String() + `@webp"}`,
			`{"did":"` + alice + `","avatar":"https://near.test/` + picture.String() + `@webp","displayName":"n"}`, profile{DisplayName: "n", Avatar: avatar}, false},
		{"somebody else's", "getProfile", `{"did":"` + bob + `",` + old + `}`, `{"did":"` + bob + `",` + old + `}`, profile{}, false},
		{"one's own among others", "getProfiles", `{"profiles":[{"did":"` + bob + `","displayName":"Bob"} , {"did":"` + alice + `"}],"more":1}`,
			`{"profiles":[{"did":"` + bob + `","displayName":"Bob"},{"did":"` + alice + `","displayName":"n"}],"more":1}`, profile{DisplayName: "n"}, false},
		{"not changed since", "getProfile", `{"did":"` + alice + `",` + old + `}`, `{"did":"` + alice + `",` + old + `}`, profile{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := testViewer()
			v.Profile = &tt.profile
			if !tt.unchanged {
				v.ProfileChanged = noon
			}
			out, err := v.merge("app.bsky.actor."+tt.method, nil, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decode(t, tt.want), decode(t, string(out))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// decode reads JSON without loss.
func decode(t testing.TB, s string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return v
}

// TestAuthors: after a change of the profile, one's name is the new one everywhere.
func TestAuthors(t *testing.T) {
	feed := feedBody("", item(alice, "a", 0), item(bob, "b", -1))
	thread := `{"thread":{"$type":"app.bsky.feed.defs#threadViewPost","post":` + upstreamPost(bob, "b", -1) + `,"replies":[{"$type":"app.bsky.feed.defs#threadViewPost","post":` + upstreamPost(alice, "a", 0) + `}]}}`
	for method, body := range map[string]string{"getTimeline": feed, "getActorLikes": feed, "getAuthorFeed": feed, "getPostThread": thread} {
		v := testViewer()
		v.Profile, v.ProfileChanged = &profile{DisplayName: "New Name", Description: "not in small views"}, noon
		out, err := v.merge("app.bsky.feed."+method, url.Values{"actor": {alice}}, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		decode(t, string(out))
		if s := string(out); strings.Count(s, "New Name") != 1 || strings.Count(s, "Old Name") != 1 || strings.Contains(s, "small views") || strings.Count(s, "1.5e400") != 2 {
			t.Errorf("%s: %s", method, s)
		}
	}
}

// node is a node of a thread as an AppView gives it; without replies, it has no such member.
func node(uri string, replies ...string) string {
	s := `{"$type":"app.bsky.feed.defs#threadViewPost","post":{"uri":"` + uri + `","cid":"` + someCID + `","author":{"did":"` + bob + `"}},"parent":{"$type":"app.bsky.feed.defs#notFoundPost","uri":"at://gone","notFound":true}`
	if replies != nil {
		s += `, "replies" : [ ` + strings.Join(replies, " , ") + ` ]`
	}
	return s + `,"threadContext":{}}`
}

// outline writes a thread as "root(reply(…) reply)".
func outline(v any) string {
	m, _ := v.(map[string]any)
	post, _ := m["post"].(map[string]any)
	uri, _ := post["uri"].(string)
	s := uri[strings.LastIndex(uri, "/")+1:]
	if s == "" {
		s = "-"
	}
	if list, ok := m["replies"].([]any); ok {
		var parts []string
		for _, r := range list {
			parts = append(parts, outline(r))
		}
		s += "(" + strings.Join(parts, " ") + ")"
	}
	if parent, ok := m["parent"].(map[string]any); ok && parent["post"] != nil {
		s = outline(parent) + "<" + s
	}
	return s
}

func TestThread(t *testing.T) {
	b, c := postURI(bob, "b"), postURI(bob, "c")
	blocked := `{"$type":"app.bsky.feed.defs#blockedPost","uri":"` + c + `","blocked":true}`
	r1, r2 := localPost("r1", 1, replyTo(b, b)), localPost("r2", 2, replyTo(b, b))
	r3 := localPost("r3", 3, replyTo(b, r1URI))
	deep := localPost("deep", 4, replyTo(b, c))
	tests := []struct {
		name, query, thread string
		posts               []*post
		want                string
	}{
		{"no replies yet", "", node(b), []*post{r1, r2}, "b(r2 r1)"},
		{"an empty list", "", node(b, []string{}...), []*post{r1}, "b(r1)"},
		{"an empty list, two", "", `{"$type":"app.bsky.feed.defs#threadViewPost","post":{"uri":"` + b + `"},"replies":[]}`, []*post{r1, r2}, "b(r2 r1)"},
		{"before the others", "", node(b, node(c)), []*post{r1, r2}, "b(r2 r1 c)"},
		{"further down", "", node(b, node(c)), []*post{deep}, "b(c(deep))"},
		{"replies to local replies", "", node(b, node(c)), []*post{r1, r2, r3}, "b(r2 r1(r3) c)"},
		{"one that is there", "", node(b, node(r1URI)), []*post{r1, r3}, "b(r1(r3))"},
		{"under a blocked post", "", node(b, blocked), []*post{deep}, "b(-)"},
		{"beyond the depth", "depth=1", node(b, node(c)), []*post{deep, r1, r3}, "b(r1 c)"},
		{"no depth", "depth=0", node(b), []*post{r1}, "b"},
		{"a depth that is none", "depth=x", node(b), []*post{r1, r3}, "b(r1(r3))"},
		{"elsewhere", "", node(c), []*post{r1}, "c"},
		{"a thread that is blocked", "", blocked, []*post{deep}, "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query, _ := url.ParseQuery(tt.query)
			out, err := testViewer(tt.posts...).merge(getPostThread, query, []byte(`{"threadgate":{"x":1},"thread":`+tt.thread+`}`))
			if err != nil {
				t.Fatal(err)
			}
			m := decode(t, string(out)).(map[string]any)
			if got := outline(m["thread"]); got != tt.want {
				t.Errorf("got %s, want %s\n%s", got, tt.want, out)
			}
			if m["threadgate"] == nil {
				t.Error("a field is lost")
			}
		})
	}
}

var r1URI = postURI(alice, "r1")

func TestLocalThread(t *testing.T) {
	root, top := postURI(bob, "root"), postURI(bob, "top")
	a := localPost("a", 1, replyTo(root, top))
	b := localPost("b", 2, replyTo(root, a.URI))
	c := localPost("c", 3, replyTo(root, b.URI))
	// Records can say what cannot be.
	loop1, loop2 := localPost("loop1", 1, replyTo(root, postURI(alice, "loop2"))), localPost("loop2", 2, replyTo(root, postURI(alice, "loop1")))
	self := localPost("self", 1, replyTo(root, postURI(alice, "self")))
	tests := []struct {
		name, query string
		post        *post
		want        string
		asked       string
	}{
		{"with parents and replies", "", b, "top<a<b(c)", "top 78"},
		{"parents that are local", "parentHeight=1", b, "a<b(c)", ""},
		{"no parents", "parentHeight=0", b, "b(c)", ""},
		{"no replies", "depth=0", c, "top<a<b<c", "top 77"},
		{"a loop", "", loop1, "loop2<loop1(loop2)", ""},
		{"a reply to itself", "", self, "self", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query, _ := url.ParseQuery(tt.query)
			asked := ""
			out, err := json.Marshal(testViewer(a, b, c, loop1, loop2, self).localThread(tt.post, query, func(uri string, height int) any {
				asked = fmt.Sprint(uri[strings.LastIndex(uri, "/")+1:], " ", height)
				return json.RawMessage(node(uri))
			}))
			if err != nil {
				t.Fatal(err)
			}
			thread := decode(t, string(out)).(map[string]any)["thread"]
			if got := outline(thread); got != tt.want || asked != tt.asked {
				t.Errorf("got %s (asked %q), want %s (%q)", got, asked, tt.want, tt.asked)
			}
		})
	}
}

func TestUnexpectedAnswers(t *testing.T) {
	v := testViewer(localPost("new", 1, replyTo(postURI(bob, "b"), postURI(bob, "b"))))
	v.Profile, v.ProfileChanged = &profile{}, noon
	for _, method := range Methods() {
		for _, body := range []string{
			``, ` `, `{`, `[]`, `null`, `"feed"`, `5`, `{"feed":[}`, `{}x`, "\x00", `{"feed":5,"profiles":5,"thread":5}`,
			`{"feed":[null],"profiles":[null,5],"thread":null}`, `{"feed":[{"post":[]}],"profiles":[[]],"thread":[]}`,
			`{"feed":[{"post":{"uri":5}}],"profiles":["x"],"thread":{"replies":{}}}`,
			`{"feed":[{"post":{"uri":"at://x","author":[]}}],"profiles":{},"thread":{"$type":5}}`,
			`{"feed":[{"post":{"uri":"at://x","indexedAt":7}}],"thread":{"post":{"uri":[]}}}`,
			strings.Repeat(`{"thread":`, 20000), strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000),
		} {
			out, err := v.merge(method, url.Values{"actor": {alice}}, []byte(body))
			if method == "app.bsky.actor.getProfile" && err == nil && string(out) == body {
				continue // an object without a DID is nobody's
			}
			if err == nil {
				t.Errorf("%s: %.60q is accepted: %.60q", method, body, out)
			}
		}
	}
}

func FuzzMerge(f *testing.F) {
	b := postURI(bob, "b")
	for i, body := range []string{
		`{"did":"` + alice + `","displayName":"x","avatar":""}`, `{"profiles":[{"did":"` + alice + `"}]}`,
		feedBody("c", item(alice, "a", 0), item(bob, "b", -5)), feedBody("", item(alice, "a", 0)), `{"thread":` + node(b, node(postURI(bob, "c")), node(b)) + `}`, feedBody(""),
	} {
		f.Add(byte(i), "actor="+alice+"&depth=3", []byte(body))
	}
	quote := map[string]any{"embed": map[string]any{"$type": "app.bsky.embed.record", "record": map[string]any{"uri": "at://x", "cid": someCID}}}
	v := testViewer(localPost("r1", -3, replyTo(b, b)), localPost("r2", 2, replyTo(b, r1URI)), localPost("r3", 3, quote))
	v.Profile, v.ProfileChanged = &profile{DisplayName: "n"}, noon
	methods := Methods()
	f.Fuzz(func(t *testing.T, method byte, query string, body []byte) {
		q, _ := url.ParseQuery(query)
		before := string(body)
		out, err := v.merge(methods[int(method)%len(methods)], q, body)
		if string(body) != before {
			t.Fatal("the answer itself was changed")
		}
		if err == nil && !json.Valid(out) {
			t.Fatalf("%q became %q", body, out)
		}
		if err == nil { // with nothing new, nothing is changed
			if same, err := testViewer().merge(methods[int(method)%len(methods)], q, body); err != nil || string(same) != before {
				t.Fatalf("%q became %q, %v", body, same, err)
			}
		}
	})
}
