package site

import (
	"bytes"
	"net/http"
)

// Page is what all pages have. What a template shows is a struct that embeds it: the template asks
// it for messages, and for the fields that each form needs.
type Page struct {
	// Title is the heading of the page.
	Title string
	// Status is that of the answer. 0: 200, or 422 if there are Problems.
	Status int
	// Problems are what is wrong with a form. They are listed at the top of the page, with links to
	// the fields.
	Problems []Problem
	Lang     Language
	Brand    Brand
	// Style is the path of the style sheet.
	Style string
	// Script is the path of the one script that the page may run: see [PasskeyScript]. Empty: it
	// may run none.
	Script string
	// Flow is that of the call: see [Call].
	Flow string

	token func(path string) string
}

// Problem is something that is wrong with a field: its id, and a text.
type Problem struct{ Field, Text string }

// Wrong is what a template shows beside a field: see the template "wrong".
type Wrong = Problem

// Page begins a page. title is the key of its title, with arguments as in [Page.T].
func (c *Call) Page(title string, args ...any) Page {
	p := Page{Lang: c.Lang, Brand: c.site.cfg.Brand, Style: c.site.look.stylePath, Flow: c.Flow}
	flow := c.Flow
	p.token = func(path string) string { return c.site.token(c.Browser, path, flow) }
	p.Title = p.T(title, args...)
	return p
}

// T returns a message in the language of the page. The arguments are names and values of its
// placeholders.
func (p *Page) T(key string, args ...any) string { return p.Lang.Message(key, args...) }

// Hidden are the fields that no form goes without.
type Hidden struct{ Token, Flow string }

// Hidden returns them for the form that is sent to a path, for the template "hidden".
func (p *Page) Hidden(path string) Hidden { return Hidden{p.token(path), p.Flow} }

// Problem returns what is wrong with a field, or nothing.
func (p *Page) Problem(field string) string { return p.Wrong(field).Text }

// Wrong returns what is wrong with a field, for the template "wrong".
func (p *Page) Wrong(field string) Wrong {
	for _, x := range p.Problems {
		if x.Field == field {
			return x
		}
	}
	return Wrong{Field: field}
}

// Add adds a problem of a field.
func (p *Page) Add(field, key string, args ...any) {
	p.Problems = append(p.Problems, Problem{field, p.T(key, args...)})
}

func (p *Page) page() *Page { return p }

// View is what a template shows: a pointer to a struct that embeds a Page.
type View interface{ page() *Page }

// Show answers with a page: the template of a name, with a view.
func (c *Call) Show(name string, v View) error {
	var b bytes.Buffer
	t := c.set.template(name)
	if t == nil {
		panic("site: the set has no templates/" + name + ".html")
	}
	if err := t.ExecuteTemplate(&b, "layout", v); err != nil {
		c.site.log.ErrorContext(c.Context(), "pages", "page", name, "err", err)
		http.Error(c.W, "Internal Server Error", http.StatusInternalServerError)
		return nil
	}
	p := v.page()
	h := c.W.Header()
	if p.Script != "" {
		c.site.allowScript(h, p.Script)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", p.Lang.Tag)
	status := p.Status
	if status == 0 {
		status = http.StatusOK
		if len(p.Problems) > 0 {
			status = http.StatusUnprocessableEntity
		}
	}
	c.W.WriteHeader(status)
	c.W.Write(b.Bytes())
	return nil
}
