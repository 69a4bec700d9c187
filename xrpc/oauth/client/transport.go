package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// RoundTrip implements http.RoundTripper. It sends a request to the account's PDS, with the
// session's token and a proof. Requests to other servers are not sent: the error is ErrOrigin.
// Errors of the session are those of Refresh.
//
// If the server asks for a nonce, the request is sent once more. If it refuses the token, the
// session is renewed and the request sent once more. A body can be sent again only with
// Request.GetBody, which http.NewRequest sets for buffers. For other bodies, such as files,
// RoundTrip requests a nonce in advance, unless the last one is recent. If the server still refuses
// such a request, the caller gets the response with status 401.
func (s *Session) RoundTrip(r *http.Request) (*http.Response, error) {
	replayable := r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
	h, err := s.current(r.Context())
	if err == nil && !replayable {
		h, err = s.prepare(r.Context(), h)
	}
	if err == nil {
		if origin := originOf(r.URL); origin != h.PDS {
			err = fmt.Errorf("%w: %s, and the account's is %s", ErrOrigin, origin, h.PDS)
		}
	}
	if err != nil {
		closeBody(r)
		return nil, err
	}
	body := r.Body
	asked, refused := false, false
	for {
		resp, err := s.send(r, body, h)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		switch code := challenge(resp.Header); {
		case code == "use_dpop_nonce" && !asked && replayable:
			asked = true
		case code == "invalid_token" && !refused && replayable:
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

// nonceLife is for how long a nonce is good surely: servers may change it each minute, and accept
// the one before.
const nonceLife = time.Minute

// prepare makes a call that costs little, by which the nonce and the token are known to be good.
func (s *Session) prepare(ctx context.Context, h *held) (*held, error) {
	if nonce, at := s.c.nonces.get(h.PDS); nonce != "" && s.c.now().Sub(at) < nonceLife {
		return h, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.PDS+"/xrpc/com.atproto.server.getSession", nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	drop(resp)
	return s.current(ctx)
}

// send sends a request once.
func (s *Session) send(r *http.Request, body io.ReadCloser, h *held) (*http.Response, error) {
	c := s.c
	once := r.Clone(r.Context())
	once.Body = body
	once.Host = "" // that of the URL: behind a proxy, another name would be another server
	last, _ := c.nonces.get(h.PDS)
	proof, err := dpop.Sign(r.Context(), h.key, dpop.Target{Method: method(r), URL: h.PDS + r.URL.EscapedPath(), Token: h.Access}, last, c.now())
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
		c.nonces.keep(h.PDS, resp.Header, c.now())
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
