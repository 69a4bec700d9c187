package client

import (
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// RoundTrip implements http.RoundTripper: it sends a request to the account's PDS, with the session's
// token and a proof. A request to anywhere else is not sent: the error is ErrOrigin. Errors of the
// session are those of Refresh.
//
// If the server asks for a nonce, the request is sent once more; if it does not accept the token,
// the session is renewed and the request sent once more. A body can be sent again only with
// Request.GetBody, which http.NewRequest sets for buffers; else the caller gets the answer of
// status 401. A body that is not sent in one piece, such as that of an upload, is safest after
// another call, by which the nonce is known.
func (s *Session) RoundTrip(r *http.Request) (*http.Response, error) {
	h, err := s.current(r.Context())
	if err == nil {
		if origin := originOf(r.URL); origin != h.PDS {
			err = fmt.Errorf("%w: %s, and the account's is %s", ErrOrigin, origin, h.PDS)
		}
	}
	if err != nil {
		closeBody(r)
		return nil, err
	}
	again := r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
	body := r.Body
	asked, refused := false, false
	for {
		resp, err := s.send(r, body, h)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		switch code := challenge(resp.Header); {
		case code == "use_dpop_nonce" && !asked && again:
			asked = true
		case code == "invalid_token" && !refused && again:
			refused = true
			newer, err := s.renew(r.Context(), h, whenRefused)
			if err != nil {
				drop(resp)
				return nil, err
			}
			if newer.PDS != h.PDS {
				drop(resp)
				return nil, fmt.Errorf("%w: the account has moved to %s", ErrOrigin, newer.PDS)
			}
			h = newer
		default:
			return resp, nil
		}
		drop(resp)
		if r.GetBody != nil {
			if body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// send sends a request once.
func (s *Session) send(r *http.Request, body io.ReadCloser, h *held) (*http.Response, error) {
	c := s.c
	once := r.Clone(r.Context())
	once.Body = body
	proof, err := dpop.Sign(r.Context(), h.key, dpop.Target{Method: method(r), URL: h.PDS + r.URL.EscapedPath(), Token: h.Access}, c.nonces.get(h.PDS), c.now())
	if err != nil {
		if body != nil {
			body.Close()
		}
		return nil, err
	}
	once.Header.Set("Authorization", "DPoP "+h.Access)
	once.Header.Set("DPoP", proof)
	resp, err := c.calls.RoundTrip(once)
	if err == nil {
		c.nonces.keep(h.PDS, resp.Header)
	}
	return resp, err
}

func method(r *http.Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

// maxDrop is how much of an answer is read that nobody wants, so that its connection can be used
// again: in bytes.
const maxDrop = 16 << 10

func drop(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxDrop))
	resp.Body.Close()
}

var challengeError = regexp.MustCompile(`(?i)^\s*dpop\s(?:.*[\s,])?error="([a-z_]{1,40})"`)

// challenge is the error that the WWW-Authenticate header names (RFC 9449, 7.1 and 9).
func challenge(h http.Header) string {
	for _, v := range h.Values("WWW-Authenticate") {
		if m := challengeError.FindStringSubmatch(v); m != nil {
			return m[1]
		}
	}
	return ""
}
