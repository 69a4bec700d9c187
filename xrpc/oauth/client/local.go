package client

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// LoginLocal logs in an account with the browser on this machine. It is for command-line programs,
// whose metadata is made by [Loopback]. It listens on a free port of 127.0.0.1, calls show with the
// URL to open, and waits until the browser comes back or ctx ends. show prints the URL or opens a
// browser, and returns; its error ends the login.
//
// Errors are those of Start and Finish. A page in the browser shows the outcome.
func (c *Client) LoginLocal(ctx context.Context, l Login, show func(address string) error) (*Session, error) {
	if l.RedirectURI == "" {
		l.RedirectURI = c.cfg.Metadata.RedirectURIs[0]
	}
	u, err := url.Parse(l.RedirectURI)
	if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" {
		return nil, fmt.Errorf("oauth client: the redirect URI %s is not at http://127.0.0.1: see Loopback", l.RedirectURI)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:"+u.Port()) // without a port: any
	if err != nil {
		return nil, fmt.Errorf("oauth client: %w", err)
	}
	u.Host = listener.Addr().String()
	l.RedirectURI, l.Browser = u.String(), "" // whoever comes back has the state, which is secret
	w := &waiter{c: c, host: u.Host, path: u.EscapedPath(), done: make(chan struct{})}
	server := &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go server.Serve(listener)
	defer server.Close()

	to, err := c.Start(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := show(to.String()); err != nil {
		return nil, fmt.Errorf("oauth client: showing the address of the login: %w", err)
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: nobody came back: %w", ErrTemporary, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	server.Shutdown(ctx) // the page gets through
	return w.session, w.err
}

// waiter serves the redirect URI of one login.
type waiter struct {
	c          *Client
	host, path string
	done       chan struct{} // closed when session and err are set
	once       sync.Once
	session    *Session
	err        error
}

var localPage = template.Must(template.New("local").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.}}</title></head>
<body><h1>{{.}}</h1><p>You can close this page and go back to the program.</p></body></html>
`))

// ServeHTTP implements http.Handler. Other programs on the machine, and other pages in the browser,
// may send requests here. Those that belong to no login are refused, and the login continues.
func (w *waiter) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	page := func(status int, text string) {
		rw.WriteHeader(status)
		localPage.Execute(rw, text)
	}
	path := r.URL.EscapedPath()
	switch {
	case r.Host != w.host || path != w.path && strings.TrimSuffix(path, "/") != strings.TrimSuffix(w.path, "/"):
		page(http.StatusNotFound, "There is nothing here")
		return
	case r.Method != http.MethodGet:
		page(http.StatusMethodNotAllowed, "There is nothing here")
		return
	}
	s, _, err := w.c.Finish(context.WithoutCancel(r.Context()), r.URL.Query(), "")
	switch {
	case errors.Is(err, ErrState):
		page(http.StatusBadRequest, "This is not the login that was begun")
		return
	case err != nil:
		page(http.StatusOK, "The login did not succeed")
	default:
		page(http.StatusOK, "You are logged in")
	}
	w.once.Do(func() {
		w.session, w.err = s, err
		close(w.done)
	})
}
