package lexicon

import (
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/data"
)

type blobNode struct {
	accept  []string // for messages
	mime    mimeSet
	maxSize *int64
}

func compileBlob(t *Blob) *blobNode {
	return &blobNode{t.Accept, mimeSetOf(t.Accept), t.MaxSize}
}

func (n *blobNode) check(w *walk, v any) bool {
	b, ok := data.BlobOf(v)
	if !ok || b.Legacy && !w.legacy {
		return w.fail("type", "must be a reference to a blob")
	}
	if n.accept != nil && !n.mime.has(b.MIME) {
		return w.fail("accept", "must be a blob of the media type "+listed(n.accept, quote))
	}
	if n.maxSize != nil && b.Size > *n.maxSize {
		return w.fail("maxSize", "must not be a blob of more than "+strconv.FormatInt(*n.maxSize, 10)+" bytes")
	}
	return true
}

// mimeSet holds media types, and groups of them such as "image/", in lower case. "/" stands for
// any.
type mimeSet map[string]struct{}

func mimeSetOf(patterns []string) mimeSet {
	set := make(mimeSet, len(patterns))
	for _, p := range patterns {
		if p == "*/*" {
			p = "/"
		}
		set[strings.ToLower(strings.TrimSuffix(p, "*"))] = struct{}{}
	}
	return set
}

func (s mimeSet) has(mime string) bool {
	slash := strings.IndexByte(mime, '/')
	if slash < 1 || slash == len(mime)-1 {
		return false
	}
	mime = strings.ToLower(mime)
	for _, key := range []string{mime, mime[:slash+1], "/"} {
		if _, ok := s[key]; ok {
			return true
		}
	}
	return false
}
