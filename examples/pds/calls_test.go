package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// calls is the transport of all clients of these tests. It holds every answer against what the
// protocol says, so that a test whose answer is wrong fails where it calls; and it notes which
// methods were called, with success and with which errors.
type calls struct {
	next    http.RoundTripper
	catalog *lexicon.Catalog

	mu     sync.Mutex
	good   map[string]int
	failed map[string]map[string]int // by name of the error
}

func newCalls(next http.RoundTripper) *calls {
	return &calls{next: next, catalog: lexicon.Builtin(), good: map[string]int{}, failed: map[string]map[string]int{}}
}

// recordCalls puts it in the place of the default transport.
func recordCalls() *calls {
	c := newCalls(http.DefaultTransport)
	http.DefaultTransport = c
	return c
}

func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(r)
	method, ok := strings.CutPrefix(r.URL.Path, "/xrpc/")
	if err != nil || !ok || method == "_health" || r.Method == http.MethodOptions {
		return res, err
	}
	if res.StatusCode < 400 {
		c.mu.Lock()
		c.good[method]++
		c.mu.Unlock()
	}
	if err := c.check(syntax.NSID(method), r, res); err != nil {
		res.Body.Close()
		return nil, fmt.Errorf("%s %s: status %d: %w", r.Method, r.URL, res.StatusCode, err)
	}
	return res, nil
}

// check checks an answer. It reads and replaces bodies of JSON.
func (c *calls) check(method syntax.NSID, r *http.Request, res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusInternalServerError:
		return errors.New("an answer that no request should have")
	case r.Method == http.MethodHead || res.StatusCode == http.StatusSwitchingProtocols:
		return nil
	}
	contentType := res.Header.Get("Content-Type")
	t, _, _ := mime.ParseMediaType(contentType)
	if schema, err := c.catalog.Method(method); err == nil && res.StatusCode == http.StatusOK {
		switch out := schema.Output; {
		case out == nil && res.ContentLength != 0:
			return fmt.Errorf("%d bytes where there is no output", res.ContentLength)
		case out == nil:
		case strings.HasSuffix(out.Encoding, "/json") && t != "application/json", !out.Accepts(contentType):
			return fmt.Errorf("a body of type %q", contentType)
		}
	}
	if t != "application/json" {
		if res.StatusCode >= 400 {
			return fmt.Errorf("an error of type %q", t)
		}
		return nil
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if res.StatusCode >= 400 {
		var env struct{ Error, Message string }
		if err := json.Unmarshal(text, &env); err != nil || env.Error == "" || env.Message == "" || strings.Contains(env.Message, "goroutine ") {
			return fmt.Errorf("an error without the envelope: %.200q", text)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.failed[string(method)] == nil {
			c.failed[string(method)] = map[string]int{}
		}
		c.failed[string(method)][env.Error]++
		return nil
	}
	value, err := data.FromJSON(text, data.Limits{Bytes: 64 << 20})
	if method == "app.bsky.actor.getPreferences" { // never CBOR
		value, err = data.PlainJSON(text)
	}
	if err != nil {
		return err
	}
	if err := (lexicon.Validator{Catalog: c.catalog, AllErrors: true}).Output(method, value); err != nil && !errors.Is(err, lexicon.ErrUnknownSchema) {
		return fmt.Errorf("%w in %.500s", err, text)
	}
	return nil
}

// wholeRun reports whether all tests were run.
func wholeRun() bool {
	if testing.Short() {
		return false
	}
	for _, name := range []string{"test.run", "test.skip", "test.bench", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

// elsewhere are errors that schemas name and that no HTTP answer here has, and why.
var elsewhere = map[string]string{
	"RepoSuspended":           "no account is suspended: it is taken down",
	"AuthFactorTokenRequired": "there is no second factor",
	"DuplicateCreate":         "codes are made in one transaction",
	"UnresolvableDid":         "only where accounts and repositories are on different servers",
	"IncompatibleDidDoc":      "only where accounts and repositories are on different servers",
	"FutureCursor":            "a frame of the stream",
	"ConsumerTooSlow":         "a frame of the stream",
	"HandleNotFound":          "the official server says InvalidRequest, and clients know that",
	"BlobNotFound":            "the official server says InvalidRequest, and clients know that",
	"BlockNotFound":           "the official server says InvalidRequest, and clients know that",

	"com.atproto.sync.getRecord RecordNotFound":     "that there is none is proved",
	"com.atproto.server.deleteSession ExpiredToken": "a late token is good enough to end its session",
}

// report returns the exit code: it fails if a method of the README was never called with
// success, never failed, or never with an error that its schema names.
func (c *calls) report() int {
	methods, err := readMethods()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 0
	for _, m := range methods {
		if c.good[m.nsid] == 0 || len(c.failed[m.nsid]) == 0 {
			fmt.Fprintf(os.Stderr, "no test calls %s with success (%d) and with an error (%v)\n", m.nsid, c.good[m.nsid], c.failed[m.nsid])
			code = 1
		}
		schema, err := c.catalog.Method(syntax.NSID(m.nsid))
		if err != nil {
			continue
		}
		for _, e := range schema.Errors {
			if c.failed[m.nsid][e.Name] == 0 && elsewhere[e.Name] == "" && elsewhere[m.nsid+" "+e.Name] == "" {
				fmt.Fprintf(os.Stderr, "no test makes %s fail with %s\n", m.nsid, e.Name)
				code = 1
			}
		}
	}
	return code
}
