package pages

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"

	"github.com/pdskit/pdskit/repo/account"
)

//go:embed templates/*.html
var templateFiles embed.FS

// templates are the pages by name. Each is the layout with a body.
var templates = func() map[string]*template.Template {
	layout := template.Must(template.ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	all := make(map[string]*template.Template)
	for _, name := range []string{"error", "signin", "factor", "account", "signout", "signup", "consent", "activate", "forgot", "reset", "done"} {
		all[name] = template.Must(template.Must(layout.Clone()).ParseFS(templateFiles, "templates/"+name+".html"))
	}
	return all
}()

// view is what a template shows.
type view struct {
	page   string
	Status int // of the answer; 0: 200
	Lang   language
	Brand  Brand
	Style  string
	Title  string

	// Flow and Tokens are the fields of forms.
	Flow   string
	tokens func(path string) string

	App     app
	Request bool // an app has asked for this

	// Problems are what is wrong with a form.
	Problems []problem
	// Message, Detail and Code tell of an error.
	Message, Detail, Code string

	// What was entered, or is known already.
	Who, Handle, Label, Domain, Email, Invite, Code6 string
	Fixed, Remember                                  bool

	Offers struct{ SignUp, Reset bool }

	Choices []choice

	SignUp struct {
		Domains          []string
		Invite           bool
		Min, Max         int
		Available, Taken string
	}

	Factor struct {
		Proof              string
		App, Email, Mailed bool
	}

	Consent consent
	Account account.Account
}

// problem is something that is wrong with a field.
type problem struct{ Field, Text string }

// choice is an account that may be chosen.
type choice struct {
	account.Account
	SignIn bool
	Link   string
}

// T returns a message in the language of the page. The arguments are names and values.
func (v *view) T(key string, args ...any) string { return v.Lang.message(key, args...) }

// Token is the token of the form that is sent to a path.
func (v *view) Token(path string) string { return v.tokens(path) }

// Problem returns what is wrong with a field, or nothing.
func (v *view) Problem(field string) string {
	for _, x := range v.Problems {
		if x.Field == field {
			return x.Text
		}
	}
	return ""
}

func (v *view) problem(field, key string, args ...any) {
	v.Problems = append(v.Problems, problem{field, v.T(key, args...)})
}

// view begins a page.
func (p *Pages) view(c *call, page, title string, args ...any) *view {
	v := &view{page: page, Lang: c.lang, Brand: p.cfg.Brand, Style: p.look.stylePath}
	v.Title = v.T(title, args...)
	v.Flow = ""
	if c.flow != (flow{}) {
		v.Flow = p.sealFlow(c.device.Name, c.flow)
	}
	v.tokens = func(path string) string { return p.token(c.device.Name, path, v.Flow) }
	v.Request = c.flow.Request != ""
	v.App.Name = c.flow.App
	v.Who, v.Fixed = c.flow.Who, c.flow.Fixed
	if s := p.cfg.Service; s != nil {
		v.Offers.SignUp = len(s.Policy().Domains) > 0 && !c.flow.Fixed
		v.Offers.Reset = s.SendsMail()
	}
	return v
}

// show answers with a page.
func (p *Pages) show(c *call, v *view) error {
	var b bytes.Buffer
	if err := templates[v.page].ExecuteTemplate(&b, "layout", v); err != nil {
		p.log.ErrorContext(c.ctx(), "pages", "page", v.page, "err", err)
		http.Error(c.w, "Internal Server Error", http.StatusInternalServerError)
		return nil
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.Lang.Tag)
	status := v.Status
	if status == 0 {
		status = http.StatusOK
		if len(v.Problems) > 0 {
			status = http.StatusUnprocessableEntity
		}
	}
	c.w.WriteHeader(status)
	c.w.Write(b.Bytes())
	return nil
}
