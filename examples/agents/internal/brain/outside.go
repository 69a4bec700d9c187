package brain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
)

// DefaultTimeout is how long a brain outside the process may think.
const DefaultTimeout = 20 * time.Second

// Command is a program that is started for each thought. It reads a Request in JSON from its
// standard input and writes a Response in JSON to its standard output. An exit code other than zero
// is an error, with the first bytes of the standard error output as its text.
type Command struct {
	Path string
	Args []string
	// Timeout is how long it may take; then it is killed. 0: DefaultTimeout.
	Timeout time.Duration
}

// Think implements Brain.
func (c Command) Think(ctx context.Context, r Request) (Response, error) {
	in, err := data.MarshalJSON(r)
	if err != nil {
		return Response{}, err
	}
	ctx, stop := context.WithTimeout(ctx, or(c.Timeout))
	defer stop()
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	out, errs := &bounded{max: MaxAnswer, stop: stop}, &bounded{max: 500}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, errs
	cmd.WaitDelay = time.Second // children of the program may hold its output open
	err = cmd.Run()
	switch {
	case out.over:
		return Response{}, fmt.Errorf("%w: more than %d bytes", ErrAnswer, MaxAnswer)
	case err != nil && ctx.Err() != nil:
		return Response{}, fmt.Errorf("brain: %s: %w", c.Path, context.Cause(ctx))
	case err != nil:
		return Response{}, fmt.Errorf("brain: %s: %w: %q", c.Path, err, errs.buf.String())
	}
	return parse(out.buf.Bytes())
}

// bounded keeps the first bytes that are written. If it has a stop, it calls that when there are
// more.
type bounded struct {
	buf  bytes.Buffer
	max  int
	over bool
	stop func()
}

// Write implements io.Writer. It takes everything, so that the program is not held up.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.max - b.buf.Len()
	if len(p) > room && b.stop != nil {
		b.over = true
		b.stop()
	}
	b.buf.Write(p[:min(len(p), room)])
	return len(p), nil
}

// Endpoint is an HTTP server that answers a POST of a Request with a Response, both in JSON.
type Endpoint struct {
	URL string
	// Token, if not empty, is sent as a bearer token.
	Token string
	// Timeout is how long it may take, the body included. 0: DefaultTimeout.
	Timeout time.Duration
	// Client is used for the request. Nil: one that follows no redirects.
	Client *http.Client
}

// plain follows no redirects, which would take what agents know to another server.
var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// Think implements Brain.
func (e Endpoint) Think(ctx context.Context, r Request) (Response, error) {
	in, err := data.MarshalJSON(r)
	if err != nil {
		return Response{}, err
	}
	ctx, stop := context.WithTimeout(ctx, or(e.Timeout))
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(in))
	if err != nil {
		return Response{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if e.Token != "" {
		req.Header.Set("Authorization", "Bearer "+e.Token)
	}
	client := e.Client
	if client == nil {
		client = plain
	}
	res, err := client.Do(req)
	if err != nil {
		return Response{}, fmt.Errorf("brain: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Response{}, errors.New("brain: the endpoint answered " + res.Status)
	}
	out, err := io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1))
	if err != nil {
		return Response{}, fmt.Errorf("brain: %w", err)
	}
	if len(out) > MaxAnswer {
		return Response{}, fmt.Errorf("%w: more than %d bytes", ErrAnswer, MaxAnswer)
	}
	return parse(out)
}

func or(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultTimeout
	}
	return d
}
