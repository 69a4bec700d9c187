package mail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"net/url"
	"time"
)

// Hook sends messages by HTTP, for platforms without SMTP, such as a Cloudflare Worker. A message
// is one POST of a JSON object with from, to, subject and text, a format that several mail services
// accept. A response with status 2xx means that the message was accepted. Make one with NewHook. It
// is safe for concurrent use.
type Hook struct {
	url, from, token string
	http             *http.Client
}

// HookConfig configures a Hook. URL and From are required.
type HookConfig struct {
	// URL receives the messages. It must be https, or http of this machine.
	URL string
	// Token, if not empty, is sent as a bearer token.
	Token string
	// From is the sender's address, with or without a name.
	From string
	// HTTP makes the requests. Nil: a client with a timeout. Redirects are not followed, since they
	// would forward the token and the message.
	HTTP *http.Client
}

// maxHookAnswer bounds what is read of a refusal, in bytes.
const maxHookAnswer = 1 << 10

// NewHook returns the hook of a configuration, or an error that says what is wrong with it.
func NewHook(cfg HookConfig) (*Hook, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, errors.New("mail: the URL of the hook cannot be read") // it may hold a secret
	case u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1")):
		return nil, errors.New("mail: the URL of the hook must begin with https://")
	}
	if _, err := mail.ParseAddress(cfg.From); err != nil {
		return nil, fmt.Errorf("mail: the sender %q is no e-mail address: %w", cfg.From, err)
	}
	h := &Hook{url: cfg.URL, from: cfg.From, token: cfg.Token}
	client := http.Client{Timeout: 30 * time.Second}
	if cfg.HTTP != nil {
		client = *cfg.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.http = &client
	return h, nil
}

// Send implements Sender.
func (h *Hook) Send(ctx context.Context, m Message) error {
	if err := check(m); err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		From string `json:"from"`
		Message
	}{h.from, m})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("mail: the URL of the hook cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	res, err := h.http.Do(req)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // the URL may hold a secret
		}
		return fmt.Errorf("mail: hook: %w", err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxHookAnswer))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("mail: the hook answers with status %d: %.200q", res.StatusCode, text)
	}
	return nil
}
