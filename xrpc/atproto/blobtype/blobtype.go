// Package blobtype recognises the types of blobs by their first bytes, for Service.Sniff of package
// atproto. It knows some 190 formats, among them those of today's cameras and browsers (HEIC, AVIF,
// JPEG XL, Opus). It is a package of its own so that only hosts that want it link the library behind it.
package blobtype

import (
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// Sniff returns the media type of a blob by its first 3072 bytes, without parameters, and
// "application/octet-stream" for those of no known format. The answer is a guess where the bytes are
// text: markup, JSON, programs.
func Sniff(head []byte) (mime string, guess bool) {
	m := mimetype.Detect(head)
	mime, _, _ = strings.Cut(m.String(), ";")
	for ; m != nil; m = m.Parent() {
		guess = guess || m.Is("text/plain")
	}
	return mime, guess
}
