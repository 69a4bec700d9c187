package xrpc

import (
	"compress/flate"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc/limit"
)

var (
	errTooLarge     = &Error{Status: http.StatusRequestEntityTooLarge, Message: "request entity too large"}
	errBroken       = InvalidRequest("The request's body broke off")
	errNoBody       = InvalidRequest("A request body is expected but none was provided")
	errUnwantedBody = InvalidRequest("A request body was provided when none was expected")
	errNoEncoding   = InvalidRequest("Request encoding (Content-Type) required but not provided")
)

// input reads, validates and decodes a JSON body.
func (r *Request) input(to any) error {
	if err := r.decompress(); err != nil {
		return err
	}
	ct := r.Header.Get("Content-Type")
	if ct == "" && !r.hasBody() {
		return errNoBody
	}
	if err := r.accepts(ct); err != nil {
		return err
	}
	text, err := r.readBody()
	if err != nil {
		return err
	}
	if len(text) == 0 {
		text = []byte("{}") // what an empty body means where the type is given
	}
	if r.method != nil {
		value, err := data.FromJSON(text, data.Limits{Bytes: int(r.limit)})
		if err != nil {
			return InvalidRequest("Invalid request body: %s", err)
		}
		if err := r.server.Catalog.ValidateInput(r.NSID, value); err != nil && !errors.Is(err, lexicon.ErrUnknownSchema) {
			return InvalidRequest("%s", err)
		}
	}
	if err := json.Unmarshal(text, to); err != nil {
		return InvalidRequest("Invalid request body: %s", jsonDetail(err))
	}
	return nil
}

// readBody reads a body that must arrive in time.
func (r *Request) readBody() ([]byte, error) {
	if b, ok := r.Body.(*body); ok {
		b.renew()
		b.total = true
	}
	var b []byte
	var err error
	if n := r.ContentLength; n > 0 && r.Header.Get("Content-Encoding") == "" {
		b = make([]byte, n)
		if _, err = io.ReadFull(r.Body, b); err == nil {
			_, err = r.Body.Read(make([]byte, 1)) // the end
		}
		if err == io.EOF {
			err = nil
		}
	} else {
		b, err = io.ReadAll(r.Body)
	}
	return b, bodyError(err)
}

// bodyError is the answer to a body that cannot be read.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	var known *Error
	var full *limit.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.As(err, &full):
		return asError(full)
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, new(flate.CorruptInputError)):
		return InvalidRequest("Malformed content-encoding")
	}
	return errBroken
}

// rawInput prepares a body for a handler that reads it itself.
func (r *Request) rawInput() error {
	if m := r.method; m != nil && m.Input == nil {
		return r.noInput()
	} else if m != nil {
		if err := r.accepts(r.Header.Get("Content-Type")); err != nil {
			return err
		}
	}
	return r.decompress()
}

// noInput checks that there is no body. One of unknown length may be empty.
func (r *Request) noInput() error {
	if !r.hasBody() {
		return nil
	}
	if r.ContentLength < 0 {
		if n, err := io.ReadFull(r.Body, make([]byte, 1)); n == 0 && err == io.EOF {
			return nil
		}
	}
	return errUnwantedBody
}

func (r *Request) hasBody() bool { return r.ContentLength != 0 }

// accepts checks the media type of the body against that of the schema. Without one
// it must be JSON.
func (r *Request) accepts(contentType string) error {
	if contentType == "" {
		return errNoEncoding
	}
	want := &lexicon.Body{Encoding: "application/json"}
	if r.method != nil && r.method.Input != nil {
		want = r.method.Input
	}
	if want.Encoding == "*/*" {
		return nil
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil || !want.Accepts(t) {
		return InvalidRequest("Wrong request encoding (Content-Type): %s", contentType)
	}
	return nil
}

// decompress undoes the body's content encoding. What comes out is bounded like
// what goes in.
func (r *Request) decompress() error {
	switch e := r.Header.Get("Content-Encoding"); e {
	case "", "identity":
	case "gzip", "x-gzip":
		r.Body = &answering{http.MaxBytesReader(nil, &gunzip{raw: r.Body}, r.limit)}
	default:
		return &Error{Status: http.StatusUnsupportedMediaType, Message: "unsupported content-encoding: " + e}
	}
	return nil
}

// gunzip decompresses a body. It reads nothing before it is read from.
type gunzip struct {
	raw io.ReadCloser
	z   *gzip.Reader
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(g.raw)
		if err != nil {
			if err == io.EOF { // nothing at all
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		g.z = z
	}
	return g.z.Read(p)
}

func (g *gunzip) Close() error { return g.raw.Close() }

// answering turns errors of a body into answers.
type answering struct{ io.ReadCloser }

func (a *answering) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = bodyError(err)
	}
	return n, err
}

// minBodyRate is how many bytes a second a body has to bring on average, once the server has waited for it
// for as long as it may stall: one that trickles would keep a connection for as long as it
// likes.
const minBodyRate = 1 << 10

// body is the body of a request. It ends in time, or, unless total is set, may
// take as long as it needs if it neither stalls nor trickles. Its errors are answers.
type body struct {
	answering
	c      *http.ResponseController
	limit  time.Duration // not positive: none
	total  bool
	waited time.Duration // in Read: how long the handler takes does not count
	got    int64         // bytes
}

// renew sets the time until which more of the body must be there.
func (b *body) renew() {
	if b.limit > 0 {
		left := b.limit + time.Duration(float64(b.got)/minBodyRate*float64(time.Second)) - b.waited
		b.c.SetReadDeadline(time.Now().Add(min(b.limit, left))) // not every ResponseWriter can do this
	}
}

func (b *body) Read(p []byte) (int, error) {
	if !b.total {
		b.renew()
	}
	start := time.Now()
	n, err := b.answering.Read(p)
	b.waited += time.Since(start)
	b.got += int64(n)
	if err == io.EOF && b.limit > 0 {
		b.c.SetReadDeadline(time.Time{})
	}
	return n, err
}
