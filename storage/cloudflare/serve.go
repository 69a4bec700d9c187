//go:build js

package cloudflare

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall/js"
)

// exchanges are the requests that are being answered.
type exchanges struct {
	host    *Host
	handler http.Handler

	mu   sync.Mutex
	last int
	open map[int]*exchange
}

// fetch is called with a request: its head, its body (null, bytes or a stream), which of these, and
// the functions that answer. It returns the number of the request.
func (x *exchanges) fetch(_ js.Value, args []js.Value) any {
	ctx, cancel := context.WithCancel(context.Background())
	ex := &exchange{host: x.host, answer: args[3], cancel: cancel, header: make(http.Header), size: -1}
	r, err := parseRequest(args[0].String())
	if err != nil {
		ex.fail(http.StatusBadRequest)
		cancel()
		return 0
	}
	switch args[2].Int() {
	case bodyBytes:
		b := make([]byte, args[1].Length())
		js.CopyBytesToGo(b, args[1])
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	case bodyStream:
		ex.body = &chunks{host: x.host, ctx: ctx, reading: args[1]}
		r.Body = ex.body
	default:
		r.Body, r.ContentLength = http.NoBody, 0
	}
	ex.request = r.WithContext(context.WithValue(ctx, exchangeKey{}, ex))
	x.mu.Lock()
	x.last++
	id := x.last
	x.open[id] = ex
	x.mu.Unlock()
	go func() {
		defer func() {
			x.mu.Lock()
			delete(x.open, id)
			x.mu.Unlock()
			cancel()
		}()
		ex.serve(x.handler)
	}()
	return id
}

// What a request's body is.
const (
	_ = iota
	bodyBytes
	bodyStream
)

// exchangeKey is the key of an exchange in the context of its request.
type exchangeKey struct{}

// gone is called when the client of a request has gone.
func (x *exchanges) gone(_ js.Value, args []js.Value) any {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ex := x.open[args[0].Int()]; ex != nil {
		ex.cancel()
	}
	return nil
}

var errHead = errors.New("cloudflare: malformed head of a request")

// parseRequest reads the head of a request: method, URL, the client's address, and headers, one a
// line.
func parseRequest(head string) (*http.Request, error) {
	lines := strings.Split(head, "\n")
	if len(lines) < 3 {
		return nil, errHead
	}
	u, err := url.Parse(lines[1])
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: lines[0], Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(lines)), ContentLength: -1,
	}
	if u.Scheme == "https" {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: u.Hostname()}
	}
	if net.ParseIP(lines[2]) == nil {
		lines[2] = "127.0.0.1" // where there is no edge
	}
	r.RemoteAddr = net.JoinHostPort(lines[2], "0")
	for _, line := range lines[3:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, errHead
		}
		switch name = http.CanonicalHeaderKey(name); name {
		case "Host":
		case "Content-Length":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				r.ContentLength = n
			}
			fallthrough
		default:
			r.Header.Add(name, value)
		}
	}
	u.Scheme, u.Host = "", ""
	r.URL, r.RequestURI = u, u.RequestURI()
	return r, nil
}
