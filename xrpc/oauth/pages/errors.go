package pages

import (
	"net/http"

	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// Error shows an error of the provider: see [provider.Pages].
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, status int, e *provider.Error) {
	shown := &site.Error{Status: status, Key: "error.oauth", Text: e.Description, Code: e.Code}
	switch {
	case status == http.StatusTooManyRequests:
		shown.Key = "error.tooMany"
	case status == http.StatusServiceUnavailable:
		shown.Key = "error.busy"
	case status >= http.StatusInternalServerError:
		shown.Key = "error.server"
	}
	p.site.Begin(set, w, r, "").ShowError(shown)
}
