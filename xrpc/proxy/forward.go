package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// Headers that are forwarded.
var (
	requestHeaders  = []string{"Accept-Language", "Atproto-Accept-Labelers", "X-Bsky-Topics"}
	bodyHeaders     = []string{"Content-Type", "Content-Encoding"} // of requests with a body
	responseHeaders = []string{"Content-Type", "Content-Encoding", "Content-Length", "Content-Language",
		"Atproto-Repo-Rev", "Atproto-Content-Labelers", "Retry-After"}
)

var errUnreachable = &xrpc.Error{Status: http.StatusBadGateway, Message: "Upstream service unreachable"}

// Call says where a request is sent, and for whom.
type Call struct {
	To Service
	// As is the account for which the service is called. Empty: none, and no token is sent.
	As syntax.DID
	// Audience and Method, if set, replace To and the request's method in the token: it is then for
	// another service, which To will call.
	Audience string
	Method   syntax.NSID
}

// Forward sends a request to a service, with a service token, and passes the response on. It is for
// handlers of methods that a host serves itself only in some cases. They must have checked that the
// caller may call the service.
func (p *Proxy) Forward(w http.ResponseWriter, r *xrpc.Request, c Call) error {
	url, client, err := p.address(r, c.To)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stranger := c.To.URL == ""
	wait := newClock(or(p.HeaderTimeout, 10*time.Second), stranger, cancel)
	defer wait.end()
	var body io.ReadCloser = http.NoBody
	if r.Method == http.MethodPost && r.ContentLength != 0 {
		body = &upload{ReadCloser: r.Body, clock: wait}
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, url.String(), body)
	if err != nil {
		return err
	}
	if body != http.NoBody {
		out.ContentLength = r.ContentLength
		pass(out.Header, r.Header, bodyHeaders)
	}
	pass(out.Header, r.Header, requestHeaders)
	out.Header.Set("User-Agent", "") // none
	out.Header.Set("Accept-Encoding", "identity")
	pass(out.Header, r.Header, []string{"Accept-Encoding"})
	if c.As != "" {
		token, err := p.token(ctx, r, c)
		if err != nil {
			return err
		}
		out.Header.Set("Authorization", "Bearer "+token)
	}
	if p.Request != nil {
		p.Request(r, out)
	}
	wait.run()
	res, err := client.Do(out)
	wait.end()
	if err != nil {
		return failure(r, err)
	}
	stall := newClock(or(p.BodyTimeout, 30*time.Second), stranger, cancel)
	defer stall.end()
	res.Body = &download{res.Body, stall}
	defer func() { res.Body.Close() }() // which may be another one by then
	return p.answer(w, r, c.As, res)
}

// token makes a service token.
func (p *Proxy) token(ctx context.Context, r *xrpc.Request, c Call) (string, error) {
	signer, err := p.Signer(ctx, c.As)
	if err != nil {
		return "", err
	}
	t := serviceauth.Token{Issuer: string(c.As), Audience: c.Audience, Method: string(c.Method)}
	if t.Audience == "" {
		t.Audience = string(c.To.DID)
		if p.FullAudience {
			t.Audience = c.To.Ref()
		}
	}
	if t.Method == "" {
		t.Method = string(r.NSID)
	}
	if p.Now != nil {
		t.Issued = p.Now()
	}
	return serviceauth.Sign(ctx, signer, t)
}

// failure is the answer where a service gave none. What is wrong with the client's
// own body is the client's to know.
func failure(r *xrpc.Request, err error) error {
	var xerr *xrpc.Error
	switch {
	case r.Context().Err() != nil:
		return r.Context().Err()
	case errors.As(err, &xerr):
		return xerr
	}
	return errUnreachable
}

// answer passes an answer on.
func (p *Proxy) answer(w http.ResponseWriter, r *xrpc.Request, caller syntax.DID, res *http.Response) error {
	header := http.Header{}
	pass(header, res.Header, responseHeaders)
	res.Header = header
	if p.Response != nil {
		p.Response(r, caller, res)
	}
	if err := refused(res); err != nil {
		return err
	}
	h := w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	// It is another server's content, whatever it is: it must not run as if it were ours.
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	w.WriteHeader(res.StatusCode)
	if err := copyBody(w, res); err != nil {
		return failure(r, err)
	}
	return nil
}

// refused returns the error for an answer that is not passed on as it is.
func refused(res *http.Response) error {
	code := res.StatusCode
	switch {
	case code < 200:
		// 101 would have a proxy in front connect the client with this server, past its own rules.
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "Upstream service gave no answer"}
	case code < 300:
		return nil
	case code < 400:
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "Upstream service redirected"}
	case code != http.StatusInternalServerError && isJSON(res.Header.Get("Content-Type")):
		return nil
	}
	e := &xrpc.Error{Status: code, Message: http.StatusText(code), Header: http.Header{}}
	pass(e.Header, res.Header, []string{"Atproto-Repo-Rev", "Atproto-Content-Labelers", "Retry-After"})
	if code == http.StatusInternalServerError {
		e.Status, e.Message = http.StatusBadGateway, "Upstream service failed"
		var env struct {
			Message string `json:"message"`
		}
		text, _ := io.ReadAll(io.LimitReader(res.Body, 16<<10))
		if exactjson.UnmarshalPlain(text, &env) == nil && env.Message != "" {
			e.Message = env.Message
		}
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("Upstream service answered with status %d", code)
	}
	return e
}

func isJSON(contentType string) bool {
	t, ok := xrpc.MediaType(contentType)
	return ok && (t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json"))
}

// copyBody copies an answer as it comes. One of unknown length may be a slow stream, of which
// nothing is held back.
func copyBody(w http.ResponseWriter, res *http.Response) error {
	if res.ContentLength >= 0 {
		_, err := io.Copy(w, res.Body)
		return err
	}
	c := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := res.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := c.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// pass copies headers of these names.
func pass(to, from http.Header, names []string) {
	for _, name := range names {
		if values := from[name]; len(values) > 0 && values[0] != "" {
			to[name] = values
		}
	}
}

func or(v, fallback time.Duration) time.Duration {
	if v == 0 {
		return fallback
	}
	return v
}
