package blobtype_test

import (
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/atproto/blobtype"
)

func ExampleSniff() {
	_ = &atproto.Service{Sniff: blobtype.Sniff}
	fmt.Println(blobtype.Sniff([]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")))
	fmt.Println(blobtype.Sniff([]byte("hello")))
	// Output:
	// image/heic false
	// text/plain true
}

func TestGuesses(t *testing.T) {
	for content, want := range map[string]string{
		"{\"a\":1}": "application/json", `<svg xmlns="http://www.w3.org/2000/svg"></svg>`: "image/svg+xml", "<!DOCTYPE html>": "text/html", "#!/bin/sh\n": "text/x-shellscript",
	} {
		if mime, guess := blobtype.Sniff([]byte(content)); mime != want || !guess {
			t.Errorf("%q: %s, a guess: %t", content, mime, guess)
		}
	}
	for content, want := range map[string]string{
		"\x00\x01\x02\x03": "application/octet-stream", "GIF89a": "image/gif", "%PDF-1.7": "application/pdf", "OggS\x00": "application/ogg",
	} {
		if mime, guess := blobtype.Sniff([]byte(content)); mime != want || guess {
			t.Errorf("%q: %s, a guess: %t", content, mime, guess)
		}
	}
}
