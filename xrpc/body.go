package xrpc

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
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

// readInput reads, validates and decodes a JSON body.
func (r *Request) readInput(to any) error {
	if b, ok := r.Body.(*body); ok { // all of it must arrive in time
		b.renew()
		b.total = true
	}
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
		value, err := r.parse(text)
		if err != nil {
			return InvalidRequest("Invalid request body: %s", err)
		}
		if err := r.server.Catalog.ValidateInput(r.NSID, value); err != nil && !errors.Is(err, lexicon.ErrUnknownSchema) {
			return InvalidRequest("%s", err)
		}
	}
	decode := exactjson.Unmarshal
	if r.route.PlainJSON {
		decode = exactjson.UnmarshalPlain
	}
	if err := decode(text, to); err != nil {
		return InvalidRequest("Invalid request body: %s", jsonDetail(err))
	}
	return nil
}

// parse reads the value of a body, and keeps it for Input.
func (r *Request) parse(text []byte) (any, error) {
	if r.route.PlainJSON {
		return data.PlainJSON(text)
	}
	var err error
	if r.input, err = data.ParseJSON(text, data.Limits{Bytes: int(r.limit)}); err != nil {
		return nil, err
	}
	return r.input.Value()
}

// readBody reads a body to its end.
func (r *Request) readBody() ([]byte, error) {
	var b []byte
	var err error
	if n := r.ContentLength; n > 0 && len(contentCodings(r.Header)) == 0 {
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
	if t, ok := MediaType(contentType); !ok || !want.Accepts(t) {
		return InvalidRequest("Wrong request encoding (Content-Type): %s", contentType)
	}
	return nil
}

// answering turns errors of a body into answers.
type answering struct{ io.ReadCloser }

func (a *answering) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = bodyError(err)
	}
	return n, err
}

// minBodyRate is how many bytes a second a body has to bring on average, once the server has waited
// for it for as long as it may stall: one that trickles would keep a connection for as long as it
// likes.
const minBodyRate = 1 << 10

// MediaType returns the type of a Content-Type header, in lower case and without parameters. It
// reports false if the header is malformed or is not a single type, such as "image" or "image/*".
// It accepts "*/*", which clients send if they do not know the type.
func MediaType(contentType string) (t string, ok bool) {
	t, _, err := mime.ParseMediaType(contentType)
	top, sub, _ := strings.Cut(t, "/")
	return t, err == nil && (t == "*/*" || typeName(top) && typeName(sub))
}

// typeName reports whether a string is a restricted name of RFC 6838, section 4.2.
func typeName(s string) bool {
	const most = 127
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte("!#$&-^_.+", c) >= 0:
		default:
			return false
		}
	}
	return true
}

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
