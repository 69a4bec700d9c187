package xrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/sleep"
)

// Client calls XRPC methods. It is safe for concurrent use. Do not change its fields while it is in
// use.
type Client struct {
	// Host is the URL of the server, for example "https://pds.example.com". It is required.
	Host string
	// HTTP makes the requests. Nil: http.DefaultClient. For hosts named by untrusted input, use the
	// client of safehttp.NewClient.
	HTTP *http.Client
	// Authorize, if not nil, adds credentials to each request.
	Authorize func(r *http.Request) error
	// Retries is how often a query is tried again after a network failure, or if the server is busy
	// (429, 502, 503, 504). The client waits as long as the server asks. Procedures are never tried
	// again, and never follow redirects, because they may have taken effect. 0: 2; negative: none.
	Retries int
	// MaxWait bounds the time between tries. If the server asks for a longer wait, there is no
	// other try. 0: 30 seconds.
	MaxWait time.Duration
	// MaxBody bounds the bytes of a JSON response. 0: 10 MiB.
	MaxBody int64
}

var errNoHost = errors.New("xrpc: Client.Host is missing")

// Bearer returns a Client.Authorize function that sends a bearer token.
func Bearer(token string) func(*http.Request) error {
	return func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
}

// Query calls a query and decodes its JSON response into out (nil: ignored). params is a
// url.Values, a struct whose fields have JSON names, or nil. An error response of the server is
// returned as an *Error.
func (c *Client) Query(ctx context.Context, nsid string, params, out any) error {
	resp, err := c.Get(ctx, nsid, params)
	if err != nil {
		return err
	}
	return c.decode(nsid, resp, out)
}

// Get calls a query whose response is not JSON. The caller closes the body. Errors are those of
// Query.
func (c *Client) Get(ctx context.Context, nsid string, params any) (*http.Response, error) {
	query, err := encodeParams(params)
	if err != nil {
		return nil, err
	}
	if query != "" {
		query = "?" + query
	}
	tries := c.Retries
	if tries == 0 {
		tries = 2
	}
	for wait := 250 * time.Millisecond; ; wait *= 2 {
		resp, err := c.do(ctx, http.MethodGet, nsid+query, "", nil)
		if err == nil || tries <= 0 || ctx.Err() != nil || !temporary(err) {
			return resp, err
		}
		tries--
		most := c.MaxWait
		if most == 0 {
			most = 30 * time.Second
		}
		wait = min(wait, most)
		delay := wait/2 + rand.N(wait/2+1)
		var xerr *Error
		if errors.As(err, &xerr) {
			delay = max(delay, xerr.RetryAfter(time.Now()))
		}
		if delay > most {
			return nil, err
		}
		if sleep.For(ctx, delay) != nil {
			return nil, err
		}
	}
}

// Procedure calls a procedure with a JSON input (nil: none) and decodes its JSON response into out
// (nil: ignored). Errors are those of Query.
func (c *Client) Procedure(ctx context.Context, nsid string, in, out any) error {
	var body io.Reader
	ct := ""
	if in != nil {
		text, err := exactjson.Marshal(in)
		if err != nil {
			return err
		}
		body, ct = bytes.NewReader(text), "application/json"
	}
	return c.Upload(ctx, nsid, ct, body, out)
}

// Upload calls a procedure with any input. It sends the length of a body that has a method Size()
// int64, such as *io.SectionReader, and of the bodies whose length net/http knows.
func (c *Client) Upload(ctx context.Context, nsid, contentType string, body io.Reader, out any) error {
	resp, err := c.do(ctx, http.MethodPost, nsid, contentType, body)
	if err != nil {
		return err
	}
	return c.decode(nsid, resp, out)
}

// do makes one request. An answer that is no success is an *Error.
func (c *Client) do(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	if c.Host == "" {
		return nil, errNoHost
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Host, "/")+prefix+path, body)
	if err != nil {
		return nil, fmt.Errorf("xrpc: %w", err)
	}
	if sized, ok := body.(interface{ Size() int64 }); ok && r.ContentLength == 0 {
		r.ContentLength = sized.Size()
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.Authorize != nil {
		if err := c.Authorize(r); err != nil {
			return nil, err
		}
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	if method != http.MethodGet {
		stay := *client
		stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		client = &stay
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, &networkError{err}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{Status: resp.StatusCode, Header: resp.Header, Remote: true}
	var env envelope
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if exactjson.UnmarshalPlain(text, &env) == nil {
		e.Name, e.Message = env.Error, env.Message
	} else {
		e.Message = http.StatusText(resp.StatusCode)
	}
	return nil, e
}

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 16 << 10

// decode reads a JSON answer.
func (c *Client) decode(nsid string, resp *http.Response, out any) error {
	defer resp.Body.Close()
	limit := c.MaxBody
	if limit == 0 {
		limit = 10 << 20
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("xrpc: answer of %s: %w", nsid, err)
	case int64(len(text)) > limit:
		return fmt.Errorf("xrpc: answer of %s: more than %d bytes", nsid, limit)
	case out == nil:
		return nil
	}
	if err := exactjson.UnmarshalAnswer(text, out); err != nil {
		return fmt.Errorf("xrpc: answer of %s: %w", nsid, err)
	}
	return nil
}

// networkError is what kept a request from being answered.
type networkError struct{ err error }

func (e *networkError) Error() string { return "xrpc: " + e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// temporary reports whether another try may succeed.
func temporary(err error) bool {
	var xerr *Error
	if !errors.As(err, &xerr) {
		return errors.As(err, new(*networkError))
	}
	switch xerr.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// encodeParams is the query string of parameters. Zero fields of a struct are left out.
func encodeParams(params any) (string, error) {
	switch p := params.(type) {
	case nil:
		return "", nil
	case url.Values:
		return p.Encode(), nil
	}
	v := reflect.Indirect(reflect.ValueOf(params))
	if v.Kind() != reflect.Struct {
		return "", fmt.Errorf("xrpc: parameters of type %T", params)
	}
	q := url.Values{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if f := v.Field(i); name != "" && !f.IsZero() {
			if err := addParam(q, name, f); err != nil {
				return "", err
			}
		}
	}
	return q.Encode(), nil
}

func addParam(q url.Values, name string, f reflect.Value) error {
	switch f.Kind() {
	case reflect.Slice:
		for i := range f.Len() {
			if err := addParam(q, name, f.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Pointer:
		if f.IsNil() {
			return nil
		}
		return addParam(q, name, f.Elem())
	case reflect.String:
		q.Add(name, f.String())
	case reflect.Bool:
		q.Add(name, strconv.FormatBool(f.Bool()))
	case reflect.Int, reflect.Int64:
		q.Add(name, strconv.FormatInt(f.Int(), 10))
	default:
		return fmt.Errorf("xrpc: parameter %s cannot be a %s", name, f.Type())
	}
	return nil
}
