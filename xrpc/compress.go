package xrpc

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// minCompressed is the length in bytes of the shortest answer that is worth compressing.
const minCompressed = 1 << 10

var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}}

// acceptsGzip reports whether a request takes answers in gzip (RFC 9110, section 12.5.3).
func acceptsGzip(h http.Header) bool {
	any := false
	for _, line := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			name, weight, weighted := strings.Cut(part, ";")
			q := 1.0
			if weighted {
				text, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(weight)), "q=")
				var err error
				if q, err = strconv.ParseFloat(text, 64); !ok || err != nil {
					q = 0
				}
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "gzip", "x-gzip":
				return q > 0
			case "*":
				any = q > 0
			}
		}
	}
	return any
}

// compress decides, before the header is sent, whether an answer is compressed: JSON and CAR files
// are, unless they are short, in an encoding already, or something that is asked for in parts.
func (w *response) compress(status int) {
	h := w.Header()
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if t != "application/json" && t != "application/vnd.ipld.car" || h.Get("Content-Encoding") != "" || h.Get("ETag") != "" ||
		status == http.StatusNoContent || status == http.StatusPartialContent || status == http.StatusNotModified {
		return
	}
	h.Add("Vary", "Accept-Encoding")
	if n, err := strconv.Atoi(h.Get("Content-Length")); !w.gzip || err == nil && n < minCompressed {
		return
	}
	h.Set("Content-Encoding", "gzip")
	h.Del("Content-Length")
	w.z = compressors.Get().(*gzip.Writer)
	w.z.Reset(w.ResponseWriter)
}

// end sends what is left of an answer, or, if it is broken, leaves it as it is.
func (w *response) end(broken bool) {
	if w.z == nil {
		return
	}
	if !broken {
		w.z.Close() // an error is that of a client that is not there
	}
	w.z.Reset(io.Discard)
	compressors.Put(w.z)
	w.z = nil
}

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	if w.z != nil {
		if err := w.z.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}
