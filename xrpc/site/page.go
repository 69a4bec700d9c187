package site

import (
	"bytes"
	"net/http"
)

// Page has the fields of all pages. The value that a template shows is a struct that embeds it. The
// template gets messages from it, and the fields that each form needs.
type Page struct {
	// Title is the heading of the page.
	Title string
	// Status is the status of the response. 0: 200, or 422 if there are Problems.
	Status int
	// Problems are the faults of a form. They are listed at the top of the page, with links to the
	// fields.
	Problems []Problem
	Lang     Language
	Brand    Brand
	// Style is the path of the style sheet.
	Style string
	// Script is the path of the only script that the page may run: see [PasskeyScript]. Empty: it
	// may run none.
	Script string
	// Flow is that of the call: see [Call].
	Flow string

	token func(path string) string
}

// Problem is a fault of a field: the field's id, and a text.
type Problem struct{ Field, Text string }

// Wrong is the value that the template "wrong" shows beside a field.
type Wrong = Problem

// Page returns a new page. title is the key of its title, with arguments as in [Page.T].
func (c *Call) Page(title string, args ...any) Page {
	p := Page{Lang: c.Lang, Brand: c.site.cfg.Brand, Style: c.site.look.stylePath, Flow: c.Flow}
	flow := c.Flow
	p.token = func(path string) string { return c.site.token(c.Browser, path, flow) }
	p.Title = p.T(title, args...)
	return p
}

// T returns a message in the language of the page. args are names and values of its placeholders.
func (p *Page) T(key string, args ...any) string { return p.Lang.Message(key, args...) }

// Hidden has the hidden fields that every form needs.
type Hidden struct{ Token, Flow string }

// Hidden returns the hidden fields of a form that is sent to a path, for the template "hidden".
func (p *Page) Hidden(path string) Hidden { return Hidden{p.token(path), p.Flow} }

// Problem returns the text of a field's fault, or "".
func (p *Page) Problem(field string) string { return p.Wrong(field).Text }

// Wrong returns a field's fault, for the template "wrong".
func (p *Page) Wrong(field string) Wrong {
	for _, x := range p.Problems {
		if x.Field == field {
			return x
		}
	}
	return Wrong{Field: field}
}

// Add adds a fault of a field.
func (p *Page) Add(field, key string, args ...any) {
	p.Problems = append(p.Problems, Problem{field, p.T(key, args...)})
}

func (p *Page) page() *Page { return p }

// View is a value that a template shows: a pointer to a struct that embeds a Page.
type View interface{ page() *Page }

// Show responds with a page: the template with a name, showing a view.
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
