// Package blobtype recognises the types of blobs from their first bytes, for Service.Sniff of
// package atproto. It knows some 190 formats, including those of today's cameras and browsers
// (HEIC, AVIF, JPEG XL, Opus). It is a separate package, so that only hosts that use it link its
// library.
package blobtype

import (
	"bytes"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// Sniff returns the media type of a blob from its first 3072 bytes, without parameters, or
// "application/octet-stream" if the format is unknown. For text (markup, JSON, programs) the result
// is a guess.
func Sniff(head []byte) (mime string, guess bool) {
	if isSVG(head) {
		return "image/svg+xml", true
	}
	m := mimetype.Detect(head)
	mime, _, _ = strings.Cut(m.String(), ";")
	for ; m != nil; m = m.Parent() {
		guess = guess || m.Is("text/plain")
	}
	return mime, guess
}

// isSVG reports whether the first element of a text is that of an SVG image, with or without what
// may stand before it: a byte order mark, an XML declaration, comments, a document type.
func isSVG(head []byte) bool {
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	for {
		head = bytes.TrimLeft(head, " \t\r\n")
		end := ""
		switch {
		case bytes.HasPrefix(head, []byte("<?")):
			end = "?>"
		case bytes.HasPrefix(head, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(head, []byte("<!DOCTYPE svg")):
			end = ">"
			if at := bytes.IndexAny(head, "[>"); at >= 0 && head[at] == '[' { // with declarations
				end = "]>"
			}
		default:
			name, found := bytes.CutPrefix(head, []byte("<"))
			name = bytes.TrimPrefix(name, []byte("svg:"))
			name, rest := bytes.CutPrefix(name, []byte("svg"))
			return found && rest && len(name) > 0 && bytes.IndexByte([]byte(" \t\r\n/>"), name[0]) >= 0
		}
		_, rest, found := bytes.Cut(head, []byte(end))
		if !found {
			return false
		}
		head = rest
	}
}
