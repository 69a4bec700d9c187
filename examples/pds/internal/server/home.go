package server

import (
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// The first page of a development server: how to post, and what has been posted.
const (
	homeAccounts = 20 // that are shown, the newest first
	homePosts    = 5  // of each
	homeText     = 300
)

// homeView is what the page shows.
type homeView struct {
	URL, PLC, Stream, Domain string
	Admin                    bool
	Accounts                 []homeAccount
	Commands                 []Command
}

type homeAccount struct {
	DID     syntax.DID
	Handle  syntax.Handle
	Posts   []homePost
	Records string
}

type homePost struct{ Text, At string }

// Command is a command of a shell that is worth trying.
type Command struct{ What, Line string }

// FirstCommands are those with which somebody makes an account and posts, on a development server.
func (s *Server) FirstCommands() []Command {
	xrpc := s.url + "/xrpc/"
	handle := "alice" + s.cfg.HandleDomains[0]
	body := func(v any) string { text, _ := json.Marshal(v); return "'" + string(text) + "'" }
	post := func(auth, nsid, body string) string {
		return "curl -s" + auth + " -H 'Content-Type: application/json' \\\n    -d " + body + " \\\n    " + xrpc + nsid
	}
	type field map[string]any
	return []Command{
		{"Make an account, and keep its token:", "TOKEN=$(" + post("", "com.atproto.server.createAccount",
			body(field{"handle": handle, "email": "alice@example.com", "password": "a-long-password"})) + " | tee /dev/stderr | sed 's/.*\"accessJwt\":\"\\([^\"]*\\).*/\\1/')"},
		{"Post:", post(` -H "Authorization: Bearer $TOKEN"`, "com.atproto.repo.createRecord", body(field{"repo": handle, "collection": "app.bsky.feed.post",
			"record": field{"$type": "app.bsky.feed.post", "text": "Hello!", "createdAt": s.now().UTC().Format("2006-01-02T15:04:05Z")}}))},
		{"Read it:", "curl -s '" + xrpc + "com.atproto.repo.listRecords?repo=" + handle + "&collection=app.bsky.feed.post'"},
	}
}

func (s *Server) now() time.Time {
	if s.cfg.Now != nil {
		return s.cfg.Now()
	}
	return time.Now()
}

// home shows the first page.
func (s *Server) home(w http.ResponseWriter, r *http.Request) {
	v := homeView{
		URL: s.url, PLC: s.plcURL, Stream: strings.Replace(s.url, "http", "ws", 1) + "/xrpc/com.atproto.sync.subscribeRepos",
		Domain: s.cfg.HandleDomains[0], Admin: s.cfg.AdminPages, Commands: s.FirstCommands(),
	}
	list, _, err := s.pds.Accounts.Search(r.Context(), account.Search{Limit: homeAccounts})
	for _, a := range list {
		x := homeAccount{DID: a.DID, Handle: a.Handle, Records: "/xrpc/com.atproto.repo.describeRepo?repo=" + string(a.DID)}
		if x.Posts, err = s.posts(r.Context(), a.DID); err != nil {
			break
		}
		v.Accounts = append(v.Accounts, x)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if err != nil {
		s.log.Warn("the first page", "error", err)
		http.Error(w, "The database cannot be read", http.StatusInternalServerError)
		return
	}
	homePage.Execute(w, v) // who looked has gone if it fails
}

// posts are the newest posts of an account.
func (s *Server) posts(ctx context.Context, did syntax.DID) (list []homePost, err error) {
	records, err := s.pds.Host.List(ctx, did, "app.bsky.feed.post", repo.ListOptions{Limit: homePosts})
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		v, err := data.Decode(rec.Data, data.Limits{})
		if err != nil {
			continue
		}
		var p homePost
		if m, ok := v.(map[string]any); ok {
			p.Text, _ = m["text"].(string)
			p.At, _ = m["createdAt"].(string)
		}
		if text := []rune(p.Text); len(text) > homeText {
			p.Text = string(text[:homeText]) + "…"
		}
		list = append(list, p)
	}
	return list, nil
}

var homePage = template.Must(template.New("home").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Development PDS</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; border: 1px solid #8886; border-radius: .4rem; font-size: .85rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
li { margin: .4rem 0; } .soft { opacity: .75; font-size: .9rem; overflow-wrap: anywhere; }
</style>
<h1>A development Personal Data Server</h1>
<p>It runs on this machine only, with a did:plc directory of its own, and keeps everything that is written.</p>
<h2>Who is here</h2>
{{if .Accounts}}<ul>{{range .Accounts}}<li><strong>{{.Handle}}</strong> <span class="soft">{{.DID}} · <a href="{{.Records}}">repository</a></span>
{{if .Posts}}<ul>{{range .Posts}}<li>{{.Text}} <span class="soft">{{.At}}</span></li>{{end}}</ul>{{else}}<br><span class="soft">has not posted yet</span>{{end}}</li>{{end}}</ul>
{{else}}<p>Nobody yet. Make an account with the first command below, and reload this page.</p>{{end}}
<h2>Post</h2>
{{range .Commands}}<p>{{.What}}</p><pre>{{.Line}}</pre>{{end}}
<h2>Look around</h2>
<ul>
<li><a href="/account">/account</a>: sign in as one of the accounts</li>
{{if .Admin}}<li><a href="/admin">/admin</a>: the administrator’s pages; the password is in <code>secrets.json</code> of the data directory</li>{{end}}
<li><a href="/xrpc/com.atproto.server.describeServer">describeServer</a>: what apps see. Give an app the address <code>{{.URL}}</code></li>
<li><code>{{.Stream}}</code>: the event stream</li>
<li><code>{{.PLC}}</code>: the did:plc directory. It has the same address at the next start</li>
<li>Handles end with <code>{{.Domain}}</code></li>
</ul>
</html>
`))
