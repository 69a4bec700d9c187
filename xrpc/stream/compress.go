package stream

import (
	"net/http"
	"strings"
)

// Compressor compresses the messages of a view with zstd. [dictionary.Dictionary] implements it. It
// must be safe for concurrent use.
//
// [dictionary.Dictionary]: https://pkg.go.dev/github.com/pdskit/pdskit/xrpc/stream/dictionary
type Compressor interface {
	// ID returns the ID of the dictionary that frames need (RFC 8878, section 5), or 0 if they need
	// none.
	ID() uint32
	// Bytes returns the dictionary. It must not be changed.
	Bytes() []byte
	// AppendFrame appends a message as one frame.
	AppendFrame(dst, message []byte) []byte
}

// packedOverhead bounds how much longer than a message its compressed form is: a frame header, and
// a block header for each 128 KiB.
const packedOverhead = 64

// packable prepares the messages of an item for compression.
func (i *item) packable() *item {
	for k := range i.messages {
		i.messages[k].packed = new(packed)
	}
	return i
}

// offers reports whether one of the values of a header, which are separated by commas, is a token.
// It is compared exactly, without what follows a semicolon.
func offers(r *http.Request, header, token string) bool {
	for _, line := range r.Header.Values(header) {
		for value := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(value, ";")
			if strings.TrimSpace(name) == token {
				return true
			}
		}
	}
	return false
}
