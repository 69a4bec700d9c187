package readafter

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/pdskit/pdskit/internal/platform"
)

const (
	defaultMaxBody = 10 << 20
	firstPart      = 32 << 10 // that is read at once
)

// defaultMaxTotal is the default of MaxTotal.
var defaultMaxTotal = platform.Default[int64](64<<20, 16<<20)

var errTooLarge = errors.New("readafter: answer too large")

// read reads the body of an answer and decompresses it. The answer has a body then that
// gives the same bytes as before, and from which the error of reading comes, if there was one. It
// is not ok if the body is too large, or cannot be decompressed.
func (m *Merger) read(res *http.Response) (body []byte, ok bool) {
	encoding := strings.TrimPrefix(strings.ToLower(res.Header.Get("Content-Encoding")), "x-")
	if encoding != "" && encoding != "identity" && encoding != "gzip" {
		return nil, false
	}
	most := or(m.MaxBody, defaultMaxBody)
	if res.ContentLength > most {
		return nil, false
	}
	h := &memoryShare{used: &m.used, most: or(m.MaxTotal, defaultMaxTotal)}
	raw, err := h.readAll(res.Body, most)
	from := io.Reader(bytes.NewReader(raw))
	if err != nil {
		from = io.MultiReader(from, res.Body)
	}
	res.Body = &meteredBody{from, res.Body, h}
	if err != nil || encoding != "gzip" {
		return raw, err == nil
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, false
	}
	body, err = h.readAll(z, most)
	return body, err == nil
}

func or(n, fallback int64) int64 {
	if n == 0 {
		return fallback
	}
	return n
}

// memoryShare is a share of the memory for answers.
type memoryShare struct {
	used *atomic.Int64 // by all
	most int64
	n    int64
}

// grow takes more, unless there is no more.
func (h *memoryShare) grow(n int64) bool {
	if h.used.Add(n) > h.most {
		h.used.Add(-n)
		return false
	}
	h.n += n
	return true
}

// readAll reads to the end, at most so many bytes as there is memory for. It returns what it has
// read along with an error.
func (h *memoryShare) readAll(r io.Reader, most int64) (b []byte, err error) {
	for {
		if len(b) == cap(b) {
			grow := max(int64(cap(b)), firstPart)
			if int64(len(b)) > most || !h.grow(grow) {
				return b, errTooLarge
			}
			b = append(make([]byte, 0, int64(cap(b))+grow), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			if int64(len(b)) > most {
				err = errTooLarge
			} else {
				err = nil
			}
			return b, err
		} else if err != nil {
			return b, err
		}
	}
}

// release gives the memory back.
func (h *memoryShare) release() {
	h.used.Add(-h.n)
	h.n = 0
}

// meteredBody is a body that holds memory until it is closed.
type meteredBody struct {
	io.Reader
	body  io.Closer
	share *memoryShare
}

func (b *meteredBody) Close() error {
	b.share.release()
	return b.body.Close()
}
