package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// parts is a server with an object for each account, in one process. Each object is started when it is
// asked for the first time, and again after it was evicted.
type parts struct {
	*place
	bucket *buckettest.Memory

	mu      sync.Mutex
	objects map[Part]*partObject
	called  map[string]int // calls between objects, by method
	fail    func(to Part, method string, done bool) error
	started []Part
}

type partObject struct {
	tables  map[string]*durable.Memory
	node    *Node
	replays dpop.Replays
	alarm   time.Time // that was set last
	guards  int       // that are not done
}

func newParts(t *testing.T, change ...func(env map[string]string)) *parts {
	t.Helper()
	change = append([]func(map[string]string){func(env map[string]string) {
		env["PDS_ACCOUNT_OBJECTS"], env["PDS_INVITE_REQUIRED"] = "true", "false"
	}}, change...)
	return &parts{place: newPlace(t, "pds.example.com", change...), bucket: new(buckettest.Memory), objects: map[Part]*partObject{}, called: map[string]int{}}
}

// part returns an object, which is started if need be.
func (p *parts) part(name Part) *Node {
	p.t.Helper()
	p.mu.Lock()
	o := p.objects[name]
	if o == nil {
		o = &partObject{tables: map[string]*durable.Memory{}}
		p.objects[name] = o
	}
	node := o.node
	p.mu.Unlock()
	if node != nil {
		return node
	}
	node, err := OpenPart(context.Background(), p.cfg, name, Place{
		Object: func(table string) (durable.Object, error) {
			if o.tables[table] == nil {
				o.tables[table] = new(durable.Memory)
			}
			return o.tables[table].Open(context.Background(), "did:web:table", true)
		},
		Bucket: p.bucket, Call: p.calls,
		Platform: Platform{
			HTTP: &http.Client{Transport: nettest.RoundTrip(p.reach)}, Now: p.now, Subscribers: func() int { return 1 },
			Alarm: func(at time.Time) error { o.alarm = at; return nil },
			Guard: func() (done func()) { o.guards++; return func() { o.guards-- } }, Change: func(c *pds.Config) { o.replays = c.OAuth.Replays },
		},
	})
	if err != nil {
		p.t.Fatalf("%s does not start: %v", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o.node = node
	p.started = append(p.started, name)
	return node
}

// evict ends an object's program, and whatever it does at the moment.
func (p *parts) evict(name Part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.objects[name]
	if o == nil {
		return
	}
	o.node = nil
	for _, table := range o.tables {
		table.Kill()
	}
}

// calls are calls of an object.
func (p *parts) calls(to Part) cloudflare.Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		p.mu.Lock()
		p.called[string(method)]++
		fail := p.fail
		p.mu.Unlock()
		if fail != nil {
			if err := fail(to, method, false); err != nil {
				return nil, err
			}
		}
		out, err := p.part(to).Answer(ctx, method, slices.Clone(body))
		if fail != nil && err == nil {
			err = fail(to, method, true)
		}
		return out, err
	}
}

// count returns how many calls there were since the last count.
func (p *parts) count() (n int, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for method, c := range p.called {
		n += c
		text += fmt.Sprintf(" %s:%d", method, c)
	}
	clear(p.called)
	return n, text
}

// join makes an account.
func (p *parts) join(name string) (syntax.DID, string) {
	p.t.Helper()
	status, out := call(p.t, p.part(Desk).Server, "POST", "/xrpc/com.atproto.server.createAccount", "", map[string]any{
		"handle": name + ".pds.example.com", "email": name + "@example.com", "password": "a long password",
	})
	if status != 200 {
		p.t.Fatal(status, out)
	}
	return syntax.DID(out["did"].(string)), "Bearer " + out["accessJwt"].(string)
}

// note writes a record.
func (p *parts) note(did syntax.DID, token string, n int) (int, map[string]any) {
	p.t.Helper()
	return call(p.t, p.part(Part(did)).Server, "POST", "/xrpc/com.atproto.repo.createRecord", token, map[string]any{
		"repo": did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "n": n},
	})
}

// An account lives in an object of its own, and all accounts are in the directory's list and log.
func TestParts(t *testing.T) {
	p := newParts(t)
	carol, token := p.join("carol")
	dave, daves := p.join("dave")
	_, text := p.count()
	t.Log("calls of two createAccount:", text)
	p.note(carol, token, 0)
	p.count()
	for i := range 3 {
		if status, out := p.note(carol, token, i); status != 200 {
			t.Fatal(status, out)
		}
	}
	if n, text := p.count(); n != 3 {
		t.Errorf("three createRecord make the calls %s", text)
	}
	p.note(dave, daves, 9)
	directory := p.part(Directory).Server
	_, out := call(t, directory, "GET", "/xrpc/com.atproto.sync.listRepos", "", nil)
	if list := out["repos"].([]any); len(list) != 2 || list[0].(map[string]any)["active"] != true {
		t.Errorf("%v", out)
	}
	p.count()
	if status, out := call(t, directory, "GET", "/xrpc/com.atproto.identity.resolveHandle?handle=dave.pds.example.com", "", nil); out["did"] != string(dave) {
		t.Errorf("%d %v", status, out)
	}
	if n, text := p.count(); n != 0 {
		t.Errorf("the directory asks others: %s", text)
	}
	status, out := call(t, p.part(Part(carol)).Server, "POST", "/xrpc/com.atproto.server.createSession", "", map[string]any{"identifier": "carol.pds.example.com", "password": "a long password"})
	if status != 200 || out["did"] != string(carol) {
		t.Errorf("%d %v", status, out)
	}
	// Any part answers what is not about records.
	for _, part := range []Part{Desk, Part(dave), Directory} {
		if status, out := call(t, p.part(part).Server, "GET", "/xrpc/com.atproto.server.getSession", token, nil); status != 200 || out["handle"] != "carol.pds.example.com" {
			t.Errorf("%s: %d %v", part, status, out)
		}
	}
	found := func(id, want string) {
		t.Helper()
		if did, err := p.part(Directory).Answer(t.Context(), "find.account", []byte(id)); string(did) != want || err != nil {
			t.Errorf("%s is %q, %v", id, did, err)
		}
	}
	found("carol.pds.example.com", string(carol))
	found("carol@example.com", string(carol))
	found(string(carol), string(carol))
	found("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "")
	status, out = call(t, p.part(Part(carol)).Server, "POST", "/xrpc/com.atproto.admin.deleteAccount", admin, map[string]any{"did": carol})
	if status != 200 {
		t.Fatal(status, out)
	}
	found(string(carol), "")
	found("carol.pds.example.com", "")
	_, out = call(t, p.part(Directory).Server, "GET", "/xrpc/com.atproto.sync.listRepos", "", nil)
	if len(out["repos"].([]any)) != 1 {
		t.Errorf("%v", out)
	}
	kinds := map[string]int{}
	last := int64(0)
	for e, err := range p.part(Directory).platform.Store.Events.Since(t.Context(), 0) {
		if err != nil || e.Seq <= last {
			t.Fatal(e.Seq, err)
		}
		last = e.Seq
		kinds[e.Kind+" "+string(e.DID)]++
	}
	want := map[string]int{
		"#account " + string(carol): 1, "#commit " + string(dave): 2, "#identity " + string(dave): 1, "#account " + string(dave): 1, "#sync " + string(dave): 1,
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Error(diff)
	}
}

// A proof that was used at one object is used at all of them, in whatever order they are asked.
func TestProofsAreUsedOnce(t *testing.T) {
	p := newParts(t)
	carol, _ := p.join("carol")
	dave, _ := p.join("dave")
	all := []Part{Part(carol), Desk, Part(dave), Directory}
	use := func(part Part, id string) error {
		p.part(part)
		u := dpop.Use{Thumbprint: "key", ID: id, Account: string(carol), Expires: p.now().Add(time.Minute)}
		return p.objects[part].replays.Use(t.Context(), u, p.now())
	}
	for _, first := range all {
		if err := use(first, string(first)); err != nil {
			t.Errorf("%s: %v", first, err)
		}
		p.evict(Part(carol))
		for _, again := range all {
			if err := use(again, string(first)); !errors.Is(err, dpop.ErrReplayed) {
				t.Errorf("used at %s, and again at %s: %v", first, again, err)
			}
		}
	}
}

var errCall = errors.New("the other object has ended")

// Each call between objects fails in turn, before it or after it has taken effect, while an account is made
// and while it writes; the object that was called ends. Afterwards there is no half an account, each record
// is in the log once, and what failed can be done again.
func TestPartsFail(t *testing.T) {
	for _, when := range []bool{false, true} {
		t.Run(fmt.Sprint("after=", when), func(t *testing.T) {
			p := newParts(t)
			carol, token := p.join("carol")
			try := func(what string, do func() int) {
				t.Helper()
				for n := 1; ; n++ {
					left := n
					p.mu.Lock()
					p.fail = func(to Part, method string, done bool) error {
						if done != when {
							return nil
						}
						p.mu.Lock()
						left--
						now := left == 0
						p.mu.Unlock()
						if now {
							p.evict(to)
							return errCall
						}
						return nil
					}
					p.mu.Unlock()
					status := do()
					p.mu.Lock()
					p.fail = nil
					p.mu.Unlock()
					if left > 0 {
						t.Logf("%s: %d calls", what, n-1)
						return
					}
					if n > 60 {
						t.Fatalf("%s makes more than 60 calls", what)
					}
					if status != 200 && status < 500 {
						t.Errorf("%s, call %d: status %d", what, n, status)
					}
				}
			}
			answered := 0
			try("createRecord", func() int {
				p.evict(Part(carol))
				status, _ := p.note(carol, token, 0)
				if status == 200 {
					answered++
				}
				return status
			})
			made := map[string]bool{}
			names := 0
			try("createAccount", func() int {
				names++
				name := fmt.Sprintf("name%d", names)
				status, _ := call(t, p.part(Desk).Server, "POST", "/xrpc/com.atproto.server.createAccount", "", map[string]any{
					"handle": name + ".pds.example.com", "email": name + "@example.com", "password": "a long password",
				})
				made[name] = status == 200
				return status
			})
			// A name of an account that was not made is free when its time is over.
			p.set(p.now().Add(11 * time.Minute))
			for _, part := range []Part{Directory, Desk} {
				p.evict(part)
			}
			p.part(Directory)
			for name, there := range made {
				did, err := p.part(Directory).Answer(t.Context(), "find.account", []byte(name+".pds.example.com"))
				if err != nil {
					t.Fatal(err)
				}
				if len(did) == 0 && there {
					t.Errorf("%s was answered and is not there", name)
				}
				if len(did) == 0 {
					p.join(name)
				}
			}
			p.check()
			if records := p.records(carol); records < answered {
				t.Errorf("%d records, %d answers", records, answered)
			}
		})
	}
}

// wake calls the alarms of all accounts' objects.
func (p *parts) wake() {
	p.t.Helper()
	p.mu.Lock()
	names := slices.Collect(maps.Keys(p.objects))
	p.mu.Unlock()
	for _, name := range names {
		if name != Directory && name != Desk {
			p.part(name).Wake(p.t.Context())
		}
	}
}

// records counts those of an account.
func (p *parts) records(did syntax.DID) int {
	p.t.Helper()
	_, out := call(p.t, p.part(Part(did)).Server, "GET", "/xrpc/com.atproto.repo.listRecords?limit=100&collection=com.example.note&repo="+string(did), "", nil)
	list, _ := out["records"].([]any)
	return len(list)
}

// check compares what all accounts have with the directory, once their alarms have told it what it
// did not know: heads, copies, and the log. Whatever is there has a DID that is.
func (p *parts) check() {
	t := p.t
	t.Helper()
	p.wake()
	directory := p.part(Directory)
	commits := map[syntax.DID]int{}
	for e, err := range directory.platform.Store.Events.Since(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "#commit" {
			commits[e.DID]++
		}
	}
	count := 0
	for info, err := range directory.platform.Store.Repos.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		count++
		node := p.part(Part(info.DID))
		head, err := node.platform.Store.Repos.Head(t.Context(), info.DID)
		if err != nil || head != info.Head {
			t.Errorf("%s is at %v, and in the directory at %v: %v", info.DID, head.Rev, info.Head.Rev, err)
		}
		if _, err := p.plc.Client().Resolve(t.Context(), info.DID); err != nil {
			t.Errorf("an account without its DID: %v", err)
		}
		near, err := node.Accounts.ByDID(t.Context(), info.DID)
		far, err2 := directory.Accounts.ByDID(t.Context(), info.DID)
		if diff := cmp.Diff(near, far); diff != "" || err != nil || err2 != nil {
			t.Error(diff, err, err2)
		}
		if n := p.records(info.DID); commits[info.DID] != n+1 {
			t.Errorf("%s has %d records and %d commits in the log", info.DID, n, commits[info.DID])
		}
	}
	if n, err := directory.Accounts.Count(t.Context()); n != count || err != nil {
		t.Errorf("%d accounts are counted, %d are there: %v", n, count, err)
	}
}

// listed is a line of the table of routes.mjs.
var listed = regexp.MustCompile(`(?m)^\t"?([A-Za-z_.]+)"?: "([^"]+)",`)

// Each method of the server is in the table of routes.mjs, and no other. What needs a token goes to the
// token's account, unless the table names it otherwise.
func TestRoutesAreThoseOfTheServer(t *testing.T) {
	server := newPlace(t, "pds.example.com").start()
	got, want := map[string]bool{}, map[string]bool{"_health": true}
	for _, m := range listed.FindAllStringSubmatch(Routes, -1) {
		if got[m[1]] {
			t.Errorf("%s is there twice", m[1])
		}
		got[m[1]] = true
	}
	for _, r := range server.Methods.Routes() {
		if strings.HasPrefix(string(r.NSID), "com.atproto.") {
			want[string(r.NSID)] = true
		} else if !strings.HasPrefix(string(r.NSID), "app.bsky.") { // of the account whose token it is
			t.Errorf("%s: of which object is it?", r.NSID)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The Worker finds the account of a request wherever it is named.
func TestRoutes(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		testenv.Missing(t, "node")
	}
	type request struct{ Method, Path, Token, Body string }
	token := "e30." + "eyJzdWIiOiJkaWQ6cGxjOmFsaWNlIn0" + ".x" // {"sub":"did:plc:alice"}
	want := map[request]string{
		{"POST", "/xrpc/com.atproto.repo.createRecord", "Bearer " + token, "{}"}:                                       "account did:plc:alice",
		{"POST", "/xrpc/com.atproto.repo.createRecord", "DPoP " + token, "{}"}:                                         "account did:plc:alice",
		{"POST", "/xrpc/com.atproto.repo.createRecord", "Bearer nonsense", "{}"}:                                       "account",
		{"POST", "/xrpc/com.atproto.repo.createRecord", "Basic YTpi", "{}"}:                                            "account",
		{"POST", "/xrpc/com.atproto.repo.uploadBlob", "Bearer e30.eyJpc3MiOiJkaWQ6cGxjOmJvYiJ9.x", "{}"}:               "account did:plc:bob",
		{"GET", "/xrpc/com.atproto.sync.getRepo?did=did:plc:bob", "Bearer " + token, ""}:                               "account did:plc:bob",
		{"GET", "/xrpc/com.atproto.repo.getRecord?repo=bob.test", "", ""}:                                              "account bob.test",
		{"GET", "/xrpc/com.atproto.repo.getRecord", "", ""}:                                                            "account",
		{"GET", "/xrpc/com.atproto.admin.getSubjectStatus?uri=at://did:plc:bob/a.b.c/d", "", ""}:                       "account did:plc:bob",
		{"POST", "/xrpc/com.atproto.server.createSession", "", `{"identifier":"@bob.test","password":"x"}`}:            "account bob.test {\"identifier\":\"@bob.test\",\"password\":\"x\"}",
		{"POST", "/xrpc/com.atproto.server.createSession", "", `nonsense`}:                                             "desk nonsense",
		{"POST", "/xrpc/com.atproto.server.createSession", "", `null`}:                                                 "account null",
		{"POST", "/xrpc/com.atproto.server.createSession", "", `{"identifier":7}`}:                                     `account {"identifier":7}`,
		{"POST", "/xrpc/com.atproto.admin.updateSubjectStatus", "", `{"subject":{"uri":"at://did:plc:bob/a.b.c/d"}}`}:  `account did:plc:bob {"subject":{"uri":"at://did:plc:bob/a.b.c/d"}}`,
		{"POST", "/xrpc/com.atproto.server.createAccount", "", `{"did":"did:plc:bob"}`}:                                "desk",
		{"GET", "/xrpc/app.bsky.feed.getTimeline", "Bearer " + token, ""}:                                              "account did:plc:alice",
		{"POST", "/%78rpc/com.atproto.repo.uploadBlob", "DPoP " + token, "{}"}:                                         "account did:plc:alice",
		{"POST", "/xrpc%2Fcom.atproto.repo.u%70loadBlob%2f", "DPoP " + token, "{}"}:                                    "account did:plc:alice",
		{"POST", "/xrp%63/com.atproto.server.createAccount", "", `{"did":"did:plc:bob"}`}:                              "desk",
		{"GET", "/%78rpc/com.atproto.repo.getRecord%ff?repo=bob.test", "", ""}:                                         "account",
		{"GET", "/xrpc/__proto__", "", ""}:                                                                             "account",
		{"GET", "/xrpc/_health", "", ""}:                                                                               "directory",
		{"GET", "/xrpc/com.atproto.sync.subscribeRepos?cursor=1", "", ""}:                                              "directory",
		{"OPTIONS", "/xrpc/com.atproto.repo.createRecord", "", ""}:                                                     "directory",
		{"GET", "/oauth/authorize?request_uri=x", "", ""}:                                                              "desk",
		{"GET", "/.well-known/atproto-did", "", ""}:                                                                    "directory",
		{"GET", "/account/apps", "", ""}:                                                                               "desk",
		{"GET", "/", "", ""}:                                                                                           "desk",
		{"GET", "/xrpc/com.atproto.repo.listRecords?repo=" + strings.Repeat("a", 3000), "", ""}:                        "account",
		{"POST", "/xrpc/com.atproto.server.createSession", "", `{"identifier":"` + strings.Repeat("a", 70_000) + `"}`}: "desk",
	}
	var list []request
	for r := range want {
		list = append(list, r)
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	script := strings.ReplaceAll(Routes, "export ", "") + `
const answers = [];
for (const { Method, Path, Token, Body } of JSON.parse(process.argv[1])) {
	const url = new URL("https://host" + Path);
	const headers = { ...(Token && { authorization: Token }), ...(Body && { "content-length": String(Body.length) }) };
	const [place, id, body] = await route(new Request(url, { method: Method, headers, body: Body || undefined }), url);
	answers.push([place, id, body && new TextDecoder().decode(body)].filter((x) => x !== undefined).join(" "));
}
console.log(JSON.stringify(answers));`
	out, err := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script, string(text)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, r := range list {
		if got[i] != want[r] {
			t.Errorf("%s %.100s is for %.200q, want %.200q", r.Method, r.Path, got[i], want[r])
		}
	}
}
