package xrpc

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
)

// maxCodings is how many content codings one body may have. Nobody sends more than one on purpose.
const maxCodings = 4

var errCoding = InvalidRequest("Malformed content-encoding")

// contentCodings are the codings of a body in the order in which they were applied (RFC 9110,
// section 8.4): in lower case, without identity.
func contentCodings(h http.Header) (list []string) {
	for _, line := range h["Content-Encoding"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if name != "" && name != "identity" {
				list = append(list, name)
			}
		}
	}
	return list
}

// decompress undoes the body's content codings. What comes out of each is bounded like what goes
// in.
func (r *Request) decompress() error {
	codings := contentCodings(r.Header)
	if len(codings) > maxCodings {
		return &Error{Status: http.StatusUnsupportedMediaType, Message: "too many content-encodings"}
	}
	for i := len(codings) - 1; i >= 0; i-- {
		open := r.server.decoder(codings[i])
		if open == nil {
			return &Error{Status: http.StatusUnsupportedMediaType, Message: "unsupported content-encoding: " + codings[i]}
		}
		d := &decoded{raw: coded{Reader: r.Body}, body: r.Body, open: open}
		r.Body = &answering{http.MaxBytesReader(nil, d, r.limit)}
	}
	return nil
}

// decoder returns what decodes a coding; nil if nothing does.
func (s *Server) decoder(name string) func(io.Reader) (io.Reader, error) {
	switch name {
	case "gzip", "x-gzip":
		return func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case "deflate":
		return inflate
	}
	return s.Decoders[name]
}

// inflate decodes deflate, which is in the format of zlib, or, as some clients have it, without
// that.
func inflate(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	var z io.Reader
	if method, check := head[0]&15, uint(head[0])<<8|uint(head[1]); method == 8 && check%31 == 0 {
		if z, err = zlib.NewReader(b); err != nil {
			return nil, err
		}
	} else {
		z = flate.NewReader(b)
	}
	return &whole{z, b}, nil
}

// whole is a decoder after whose end nothing may follow.
type whole struct {
	io.Reader
	rest *bufio.Reader
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err == io.EOF {
		if _, more := w.rest.Peek(1); more == nil {
			err = errCoding
		}
	}
	return n, err
}

// coded is a body that is read by a decoder. It remembers what kept it from being read.
type coded struct {
	io.Reader
	err error
}

func (c *coded) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// decoded is a body without a coding. It reads nothing before it is read from.
type decoded struct {
	raw  coded
	body io.Closer
	open func(io.Reader) (io.Reader, error)
	z    io.Reader
}

func (d *decoded) Read(p []byte) (n int, err error) {
	if d.z == nil {
		if d.z, err = d.open(&d.raw); err == io.EOF {
			err = io.ErrUnexpectedEOF // no body at all is none in this coding
		}
	}
	if err == nil {
		n, err = d.z.Read(p)
	}
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case d.raw.err != nil:
		return n, d.raw.err
	}
	return n, errCoding
}

func (d *decoded) Close() error { return d.body.Close() }
