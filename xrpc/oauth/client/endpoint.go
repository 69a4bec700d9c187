package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// chooseAuth is how the client authenticates in a new session.
func (c *Client) chooseAuth(s *Server) (clientAuth, error) {
	if len(c.cfg.Keys) == 0 {
		return clientAuth{}, nil
	}
	alg := c.cfg.Keys[0].Signer.PublicKey().Algorithm().String()
	if !slices.Contains(s.AuthMethods, authKey) || !slices.Contains(s.AuthAlgorithms, alg) {
		return clientAuth{}, fmt.Errorf("%w: %s does not take %s with %s", ErrServer, s.Issuer, authKey, alg)
	}
	return clientAuth{KeyID: c.cfg.Keys[0].ID}, nil
}

// authenticate adds what the client authenticates with (RFC 7523): a new assertion each time.
func (c *Client) authenticate(ctx context.Context, s *Server, a clientAuth, form url.Values) error {
	form.Set("client_id", c.cfg.Metadata.ID)
	if a.KeyID == "" {
		return nil
	}
	key, ok := c.key(a.KeyID)
	if !ok {
		return fmt.Errorf("%w: %s", ErrKey, a.KeyID)
	}
	// Servers refuse assertions from the future, and those that are a minute old.
	now := c.now().Add(-10 * time.Second).Unix()
	head, err1 := json.Marshal(map[string]any{"typ": "JWT", "alg": key.Signer.PublicKey().Algorithm().String(), "kid": key.ID})
	claims, err2 := json.Marshal(map[string]any{
		"iss": c.cfg.Metadata.ID, "sub": c.cfg.Metadata.ID, "aud": s.Issuer, "jti": rand.Text(), "iat": now, "exp": now + 60,
	})
	if err1 != nil || err2 != nil {
		return fmt.Errorf("oauth client: assertion: %w, %w", err1, err2)
	}
	signed := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sig, err := key.Signer.Sign(ctx, []byte(signed))
	if err != nil {
		return fmt.Errorf("%w: signing with the key %s: %w", ErrTemporary, key.ID, err)
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", signed+"."+base64.RawURLEncoding.EncodeToString(sig))
	return nil
}

// post sends a form to an endpoint of an authorization server, with a proof, and decodes its answer
// into out (nil: ignored). If the server asks for a nonce, the request is sent once more. An error
// that the server answers with is an *Error. An *answerError leaves open whether the server has
// done what it was asked for.
func (c *Client) post(ctx context.Context, s *Server, endpoint string, key crypto.Signer, a clientAuth, form url.Values, out any) error {
	u, err := parseAddress(endpoint, c.disc.Development)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	origin := originOf(u)
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	for try := 0; ; try++ {
		if err := c.authenticate(ctx, s, a, form); err != nil {
			return err
		}
		last, _ := c.nonces.get(origin)
		proof, err := dpop.Sign(ctx, key, dpop.Target{Method: http.MethodPost, URL: endpoint}, last, c.now())
		if err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrServer, err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/json")
		r.Header.Set("DPoP", proof)
		resp, text, err := exchange(c.http, r)
		next := ""
		if resp != nil {
			next = c.nonces.keep(origin, resp.Header, c.now())
		}
		if err != nil {
			return &answerError{endpoint, err}
		}
		if out == nil && resp.StatusCode < 300 {
			return nil
		}
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated {
			if err := exactjson.UnmarshalPlain(text, out); err != nil {
				return &answerError{endpoint, fmt.Errorf("%w: %w", ErrServer, err)}
			}
			return nil
		}
		e := parseError(s.Issuer, resp.StatusCode, text)
		if e.Code == "use_dpop_nonce" && next != "" && try == 0 {
			continue
		}
		return e
	}
}

// answerError is why the answer to a request is not known. The server may have done what it was
// asked for.
type answerError struct {
	endpoint string
	err      error
}

func (e *answerError) Error() string { return fmt.Sprintf("%s: %v", e.endpoint, e.err) }
func (e *answerError) Unwrap() error { return e.err }

// parseError reads the answer of a server that refuses.
func parseError(issuer string, status int, text []byte) *Error {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	e := &Error{Server: issuer, Status: status}
	if exactjson.UnmarshalPlain(text, &body) != nil {
		e.Description = "answer without an OAuth error"
		return e
	}
	e.Code, e.Description = clip(body.Error), clip(body.Description)
	return e
}
