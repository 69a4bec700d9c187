package plctest

import (
	"bytes"
	"io"
	"net/http"

	"github.com/pdskit/pdskit/identity"
)

// Client returns a client that calls the directory in this process, without a port.
func (d *Directory) Client() *identity.PLCClient {
	return &identity.PLCClient{URL: "http://plc.invalid", HTTP: &http.Client{Transport: inProcess{d}}}
}

// inProcess is a transport that hands requests to a handler.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	w := &answer{header: make(http.Header), status: http.StatusOK}
	p.ServeHTTP(w, r)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// answer is what a handler writes.
type answer struct {
	header  http.Header
	status  int
	written bool
	body    bytes.Buffer
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if !w.written {
		w.status, w.written = status, true
	}
}

func (w *answer) Write(b []byte) (int, error) {
	w.written = true
	return w.body.Write(b)
}
