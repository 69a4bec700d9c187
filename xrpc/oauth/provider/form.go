package provider

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// maxBody is the length in bytes of the longest body that is read.
const maxBody = 64 << 10

// params are the parameters of a request. Each has one value.
type params map[string]string

// readParams reads the parameters in the body of a request: a form, or a JSON object of scalars. A
// parameter that comes twice is refused (RFC 6749, 3.1).
func readParams(w http.ResponseWriter, r *http.Request) (params, error) {
	unsupported := func(format string, args ...any) error {
		e := fail(codeInvalidRequest, format, args...)
		e.Status = http.StatusUnsupportedMediaType
		return e
	}
	if c := r.Header.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return nil, unsupported("The body must not be encoded")
	}
	kind, options, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, unsupported("The body must be application/x-www-form-urlencoded or application/json")
	}
	if c := options["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return nil, unsupported("The charset must be utf-8")
	}
	if kind != "application/x-www-form-urlencoded" && kind != "application/json" {
		return nil, unsupported("The body must be application/x-www-form-urlencoded or application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	if kind == "application/json" {
		return jsonParams(body)
	}
	return formParams(string(body))
}

// formParams reads a form or a query.
func formParams(text string) (params, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, fail(codeInvalidRequest, "The parameters are malformed")
	}
	p := make(params, len(values))
	for name, v := range values {
		if len(v) > 1 {
			return nil, fail(codeInvalidRequest, "The parameter %s is given more than once", short(name))
		}
		if !utf8.ValidString(name) || !utf8.ValidString(v[0]) {
			return nil, fail(codeInvalidRequest, "The parameter %s is not UTF-8", short(name))
		}
		if v[0] != "" { // an empty one counts as missing (RFC 6749, 3.1)
			p[name] = v[0]
		}
	}
	return p, nil
}

func jsonParams(body []byte) (params, error) {
	var members map[string]json.RawMessage
	if err := exactjson.Unmarshal(body, &members); err != nil {
		return nil, fail(codeInvalidRequest, "The body is not a JSON object: %v", err)
	}
	p := make(params, len(members))
	for name, text := range members {
		var s string
		switch text[0] {
		case '"':
			if err := exactjson.Unmarshal(text, &s); err != nil {
				return nil, fail(codeInvalidRequest, "The parameter %s is malformed", short(name))
			}
		case '{', '[':
			return nil, fail(codeInvalidRequest, "The parameter %s is not a string", short(name))
		case 'n': // null
		default: // a number or a truth value, as its text
			s = string(text)
		}
		if s != "" {
			p[name] = s
		}
	}
	return p, nil
}

// short is a string of a stranger for an error.
func short(s string) string { return fmt.Sprintf("%.60q", s) }

// required returns a parameter that must be there.
func (p params) required(name string) (string, error) {
	if v := p[name]; v != "" {
		return v, nil
	}
	return "", fail(codeInvalidRequest, "The parameter %s is missing", name)
}

// writeJSON answers a client, which may be a page of another origin. Nobody may keep the answer.
func (p *Provider) writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body)
}

// allowOrigins lets pages of all origins use an endpoint that takes no cookies.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "*")
	h.Set("Access-Control-Allow-Headers", "Content-Type,DPoP")
	h.Set("Access-Control-Max-Age", "86400")
	h.Set("Access-Control-Expose-Headers", "DPoP-Nonce,WWW-Authenticate,Retry-After")
}

// endpoint serves an endpoint that clients post parameters to.
func (p *Provider) endpoint(name string, status int, serve func(r *http.Request, in params) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		allowOrigins(h)
		switch r.Method {
		case http.MethodOptions:
			w.WriteHeader(http.StatusOK)
			return
		case http.MethodPost:
		default:
			h.Set("Allow", "POST, OPTIONS")
			p.writeError(w, r, &Error{Code: codeInvalidRequest, Description: "The method must be POST", Status: http.StatusMethodNotAllowed})
			return
		}
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		h.Set("DPoP-Nonce", p.calls.Nonce()) // clients keep one nonce for an origin
		out, err := func() (any, error) {
			if !acceptsJSON(r) {
				return nil, &Error{Code: codeInvalidRequest, Description: "Answers are application/json", Status: http.StatusNotAcceptable}
			}
			if err := p.cfg.Limit(r, name, ""); err != nil {
				return nil, err
			}
			in, err := readParams(w, r)
			if err != nil {
				return nil, err
			}
			if id := in["client_id"]; id != "" && len(id) <= maxClientID {
				if err := p.cfg.Limit(r, name, id); err != nil {
					return nil, err
				}
			}
			return serve(r, in)
		}()
		if err != nil {
			p.writeError(w, r, err)
			return
		}
		p.writeJSON(w, status, out)
	}
}

func acceptsJSON(r *http.Request) bool {
	accept := r.Header.Values("Accept")
	if len(accept) == 0 {
		return true
	}
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "*/*", "application/*", "application/json":
			return true
		}
	}
	return false
}

// writeError answers a client with an error.
func (p *Provider) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e, isError := asError(err)
	if !isError {
		p.log.ErrorContext(r.Context(), "oauth", "path", r.URL.Path, "err", err)
	}
	e.retryAfter(w.Header())
	if e.status() == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", challenge(e.Code, e.Description))
	}
	p.writeJSON(w, e.status(), struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.Code, e.Description})
}
