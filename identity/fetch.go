package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// get fetches a URL and reads at most limit bytes of the answer, whatever its
// status. Errors are ErrUnavailable, ErrTooLarge and ErrAddress.
func get(ctx context.Context, c *http.Client, url, accept string, limit int64) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	req.Header.Set("Accept", accept)
	return do(c, req, limit)
}

func do(c *http.Client, req *http.Request, limit int64) (status int, body []byte, err error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, transportError(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return 0, nil, transportError(err)
	case int64(len(body)) > limit:
		return 0, nil, fmt.Errorf("%w: answer of %s of more than %d bytes", ErrTooLarge, req.URL.Host, limit)
	}
	return resp.StatusCode, body, nil
}

// transportError wraps an error of an exchange in one of this package, unless the
// guarded client has done so.
func transportError(err error) error {
	if errors.Is(err, ErrAddress) || errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
