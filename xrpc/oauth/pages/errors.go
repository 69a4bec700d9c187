package pages

import (
	"errors"
	"net/http"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
)

// shownError is an error that a person is shown: a message of the catalog, or, for what need not be
// translated, a text in English.
type shownError struct {
	status int
	key    string
	text   string
	header http.Header
}

func (e *shownError) Error() string { return "pages: " + e.key + e.text }

func refuse(status int, text string) error { return &shownError{status: status, text: text} }

var (
	errForeign = &shownError{status: http.StatusForbidden, key: "error.foreign"}
	errForm    = &shownError{status: http.StatusForbidden, key: "error.form"}
	errExpired = &shownError{status: http.StatusBadRequest, key: "error.expired"}
	errBusy    = &shownError{status: http.StatusServiceUnavailable, key: "error.busy"}
	errServer  = &shownError{status: http.StatusInternalServerError, key: "error.server"}
	errDown    = &shownError{status: http.StatusForbidden, key: "error.takendown"}
	errNone    = &shownError{status: http.StatusNotFound, key: "error.notOffered"}
)

// shown is what a person is shown of an error. ok is false if something of the server's own failed.
func shown(err error) (e *shownError, ok bool) {
	var busy *limit.Error
	var method *xrpc.Error
	var oauth *provider.Error
	var passing interface{ Unavailable() bool }
	switch {
	case errors.As(err, &e):
		return e, true
	case errors.Is(err, account.ErrTakenDown):
		return errDown, true
	case errors.As(err, &busy):
		return &shownError{status: busy.Status(), key: "error.busy", header: busy.Header()}, true
	case errors.As(err, &method) && method.Status == http.StatusTooManyRequests:
		return &shownError{status: method.Status, key: "error.tooMany", header: method.Header}, true
	case errors.As(err, &method) && !method.Remote:
		status := method.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		return &shownError{status: status, text: method.Message, header: method.Header}, status < http.StatusInternalServerError
	case errors.As(err, &oauth):
		status := oauth.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		return &shownError{status: status, text: oauth.Description}, true
	case errors.Is(err, credential.ErrTooManyCodes):
		return &shownError{status: http.StatusTooManyRequests, key: "error.tooMany"}, true
	case errors.As(err, &passing) && passing.Unavailable():
		return errBusy, false
	}
	return errServer, false
}

// fail shows an error.
func (p *Pages) fail(c *call, err error) {
	e, told := shown(err)
	if !told {
		p.log.ErrorContext(c.ctx(), "pages", "path", c.r.URL.Path, "err", err)
	}
	for name, v := range e.header {
		c.w.Header()[http.CanonicalHeaderKey(name)] = v
	}
	v := p.view(c, "error", "error.title")
	v.Status = e.status
	if e.key != "" {
		v.Message = v.T(e.key)
	} else {
		v.Message = v.T("error.general")
		v.Detail = e.text
	}
	p.show(c, v)
}

// Error shows an error of the provider: see [provider.Pages].
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, status int, e *provider.Error) {
	p.headers(w.Header(), "")
	c := &call{w: w, r: r, lang: chooseLanguage("", r.Header.Get("Accept-Language"))}
	v := p.view(c, "error", "error.title")
	v.Status, v.Message, v.Detail, v.Code = status, v.T("error.oauth"), e.Description, e.Code
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		v.Message = v.T("error.server")
	case status == http.StatusTooManyRequests:
		v.Message = v.T("error.tooMany")
	case status == http.StatusServiceUnavailable:
		v.Message = v.T("error.busy")
	}
	p.show(c, v)
}
