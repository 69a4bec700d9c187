package provider

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/storage"
)

// read returns a request.
func (p *Provider) read(ctx context.Context, id string) (q *request, err error) {
	err = p.kv.Read(ctx, func(r storage.KVReader) error {
		q, err = getRequest(ctx, r, id)
		return err
	})
	return q, err
}

// answer sends the browser back to the client, with a code or an error (RFC 6749, 4.1.2; RFC 9207).
func (p *Provider) answer(w http.ResponseWriter, q *request, e *Error, code string) error {
	out := [][2]string{{"iss", p.cfg.Issuer}, {"state", q.State}}
	if e != nil {
		out = append(out, [2]string{"error", e.Code}, [2]string{"error_description", e.Description})
	} else {
		out = append(out, [2]string{"code", code})
	}
	if q.Mode == modeForm {
		return p.answerForm(w, q.Redirect, out)
	}
	var b strings.Builder
	for i, o := range out {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(o[0] + "=" + url.QueryEscape(o[1]))
	}
	sep := "?"
	switch {
	case q.Mode == modeFragment:
		sep = "#"
	case strings.HasSuffix(q.Redirect, "?"):
		sep = ""
	case strings.Contains(q.Redirect, "?"):
		sep = "&"
	}
	h := w.Header()
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", q.Redirect+sep+b.String())
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// formScript sends the form of formPage. Without scripts there is the button.
const formScript = `document.forms[0].submit()`

// formPage is parsed when it is first needed, which is seldom.
var formPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("form").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Continue to the app</title></head>
<body><h1>Continue to the app</h1><form method="post" action="{{.Action}}">
{{range .Fields}}<input type="hidden" name="{{index . 0}}" value="{{index . 1}}">
{{end}}<button>Continue</button></form><script>` + formScript + `</script></body></html>
`))
})

func (p *Provider) answerForm(w http.ResponseWriter, to string, fields [][2]string) error {
	sum := sha256.Sum256([]byte(formScript))
	h := w.Header()
	h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'sha256-%s'; base-uri 'none'; frame-ancestors 'none'", base64.StdEncoding.EncodeToString(sum[:])))
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Type", "text/html; charset=utf-8")
	return formPage().Execute(w, struct {
		Action template.URL
		Fields [][2]string
	}{template.URL(to), fields})
}
