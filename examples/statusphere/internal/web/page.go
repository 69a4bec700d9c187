package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed static
var static embed.FS

// assets is what all pages are made of.
type assets struct {
	templates *template.Template
	files     map[string][]byte // by the name under which it is served, which has its hash
	names     map[string]string // of files, by their own names
}

func newLook() (*assets, error) {
	l := &assets{files: make(map[string][]byte), names: make(map[string]string)}
	list, err := fs.ReadDir(static, "static")
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		b, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			return nil, err
		}
		base, ext, _ := strings.Cut(f.Name(), ".")
		hash := sha256.Sum256(b)
		name := base + "-" + hex.EncodeToString(hash[:6]) + "." + ext
		l.files[name], l.names[f.Name()] = b, "/static/"+name
	}
	l.templates, err = template.New("").Funcs(template.FuncMap{
		"static": func(name string) string { return l.names[name] },
		"stamp":  func(t time.Time) string { return t.Format(time.RFC3339) },
		"named":  named,
		"at":     at,
		"ago":    ago,
		"people": func(n int64) string {
			if n == 1 {
				return "1 person"
			}
			return strconv.FormatInt(n, 10) + " people"
		},
	}).ParseFS(templates, "templates/*.html")
	return l, err
}

// serveStatic serves a file. Its name has its hash, so it never changes.
func (l *assets) serveStatic(w http.ResponseWriter, r *http.Request) {
	b, ok := l.files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, r.PathValue("name"), time.Time{}, bytes.NewReader(b))
}

// view is what the page shows.
type view struct {
	index.Page
	Now     time.Time
	Token   string
	Notice  string         // what went wrong
	Typed   string         // the account that somebody has typed
	Me      *index.Person  // who is signed in; nil: nobody
	Others  []index.Person // further accounts of the browser
	Options []status.Option
	Logins  []string
	// Unverified is that of [Config].
	Unverified string
}

// home shows the page.
func (s *Server) home(c *call) error { return s.show(c, http.StatusOK, "") }

// show shows the page, with a notice about what went wrong.
func (s *Server) show(c *call, code int, notice string) error {
	v := view{
		Now: s.cfg.Now().UTC(), Token: s.token(c.visitor), Notice: notice, Typed: c.form.Get("account"), Options: status.Options(),
		Logins: s.cfg.Logins, Unverified: s.cfg.Unverified,
	}
	for i, id := range c.visitor.Sessions {
		p, err := s.cfg.Index.Person(c.ctx(), id.DID())
		if err != nil {
			return err
		}
		if i == 0 {
			v.Me = &p
		} else {
			v.Others = append(v.Others, p)
		}
	}
	var err error
	if v.Page, err = s.cfg.Index.Page(c.ctx(), c.visitor.session().DID()); err != nil {
		return err
	}
	return s.render(c, code, "home", v)
}

// render answers with a page.
func (s *Server) render(c *call, code int, name string, v any) error {
	var b bytes.Buffer
	if err := s.assets.templates.ExecuteTemplate(&b, name, v); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Cookie")
	c.w.WriteHeader(code)
	_, _ = c.w.Write(b.Bytes())
	return nil
}

// named is how a page calls somebody.
func named(p index.Person) string { return cmp.Or(p.Name, string(p.Handle), short(string(p.DID))) }

// at is the handle under a name. It is empty if there is none, or it is the name.
func at(p index.Person) string {
	switch {
	case p.Handle == "":
		return ""
	case p.Name == "":
		return ""
	}
	return "@" + string(p.Handle)
}

// short cuts a DID that stands for a name.
func short(did string) string {
	if len(did) > 24 {
		return did[:16] + "…" + did[len(did)-4:]
	}
	return did
}

// ago says how long ago something was, as the script does.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min ago"
	case d < 24*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h ago"
	case d < 7*24*time.Hour:
		return strconv.Itoa(int(d.Hours()/24)) + " d ago"
	}
	return t.Format("2 Jan 2006")
}
