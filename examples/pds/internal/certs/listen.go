package certs

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/internal/exactjson"
	"golang.org/x/crypto/acme"
)

// listener listens to what the authority says. Renewals run by themselves, and what goes wrong with
// them is heard of nowhere else.
type listener struct {
	next http.RoundTripper
	c    *Certs
}

// maxHeard bounds what is listened to of an answer; the rest passes.
const maxHeard = 64 << 10

// RoundTrip implements http.RoundTripper.
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	next := l.next
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/") || !strings.Contains(kind, "json") {
		return resp, nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxHeard))
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	if name, why := refusal(resp.StatusCode, head); why != "" {
		l.c.event(Event{Kind: Failed, Name: name, Reason: why})
	}
	return resp, nil
}

// problem is one of the authority (RFC 7807).
type problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
}

// refusal says what the authority has refused, and of which name if that is known; empty: nothing.
func refusal(status int, doc []byte) (name, why string) {
	var x struct {
		problem
		Status     any `json:"status"` // a number or a word
		Identifier struct {
			Value string `json:"value"`
		} `json:"identifier"`
		Challenges []struct {
			Type  string   `json:"type"`
			Error *problem `json:"error"`
		} `json:"challenges"`
	}
	if exactjson.UnmarshalAnswer(doc, &x) != nil {
		return "", ""
	}
	if status >= 400 {
		if x.Detail == "" || strings.HasSuffix(x.Type, ":badNonce") || strings.HasSuffix(x.Type, ":accountDoesNotExist") {
			return "", "" // it is asked again at once
		}
		return "", words(x.Detail)
	}
	if x.Status != "invalid" {
		return "", ""
	}
	for _, ch := range x.Challenges {
		if ch.Error != nil {
			return words(x.Identifier.Value), words(ch.Error.Detail)
		}
	}
	return "", ""
}

// reason is why there is no certificate, without what the library says around it.
func reason(err error) string {
	var authz *acme.AuthorizationError
	if errors.As(err, &authz) {
		for _, e := range authz.Errors {
			err = e
			break
		}
	}
	var e *acme.Error
	if errors.As(err, &e) && e.Detail != "" {
		return words(e.Detail)
	}
	return words(err.Error())
}

// maxWords bounds a reason, in bytes.
const maxWords = 400

// words is text of another server on one line, of bounded length.
func words(s string) string {
	if len(s) > maxWords {
		s = s[:maxWords] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
