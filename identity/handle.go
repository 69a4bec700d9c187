package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

const (
	dnsTimeout    = 3 * time.Second
	maxHandleBody = 4 << 10 // bytes: a DID has at most 2048
	maxDNSName    = 253     // bytes
)

// lookupHandle asks DNS and HTTPS at the same time, and prefers what DNS says.
// Specification: Handle, Handle Resolution.
func lookupHandle(ctx context.Context, dns DNS, client *http.Client, h syntax.Handle) (syntax.DID, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the HTTPS request when DNS has answered
	defer cancel()
	type result struct {
		did syntax.DID
		err error
	}
	https := make(chan result, 1)
	go func() {
		did, err := lookupHTTPS(ctx, client, h)
		https <- result{did, err}
	}()
	did, dnsErr := lookupDNS(ctx, dns, h)
	if dnsErr == nil || errors.Is(dnsErr, ErrAmbiguous) {
		return did, dnsErr
	}
	res := <-https
	if res.err == nil {
		return res.did, nil
	}
	return "", &HandleError{Handle: h, DNS: dnsErr, HTTPS: res.err}
}

// HandleError says why both ways of resolving a handle failed. It matches ErrUnavailable if one of
// them may succeed later, else ErrNotFound.
type HandleError struct {
	Handle     syntax.Handle
	DNS, HTTPS error
}

func (e *HandleError) Error() string {
	return fmt.Sprintf("identity: handle %s: by DNS: %v; by HTTPS: %v", e.Handle, e.DNS, e.HTTPS)
}

func (e *HandleError) Is(target error) bool {
	if errors.Is(e.DNS, ErrUnavailable) || errors.Is(e.HTTPS, ErrUnavailable) {
		return target == ErrUnavailable
	}
	return target == ErrNotFound
}

// lookupDNS reads the TXT record of a handle. There must be exactly one that starts
// with "did=". Errors are ErrNotFound, ErrAmbiguous and ErrUnavailable.
func lookupDNS(ctx context.Context, dns DNS, h syntax.Handle) (syntax.DID, error) {
	name := "_atproto." + string(h)
	if len(name) > maxDNSName {
		return "", fmt.Errorf("%w: %s is too long for DNS", ErrNotFound, name)
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	records, err := dns.LookupTXT(ctx, name+".") // rooted: search lists do not apply
	if err != nil {
		return "", dnsError(err)
	}
	did, found := "", 0
	for _, txt := range records {
		if value, ok := strings.CutPrefix(txt, "did="); ok {
			did, found = value, found+1
		}
	}
	switch {
	case found == 0:
		return "", fmt.Errorf("%w: no record at %s", ErrNotFound, name)
	case found > 1:
		return "", fmt.Errorf("%w: %d at %s", ErrAmbiguous, found, name)
	}
	valid, err := syntax.ParseDID(did)
	if err != nil {
		return "", fmt.Errorf("%w: record at %s: %w", ErrNotFound, name, err)
	}
	return valid, nil
}

// lookupHTTPS reads the well-known file of a handle. Errors are ErrNotFound,
// ErrUnavailable, ErrTooLarge and ErrAddress.
func lookupHTTPS(ctx context.Context, client *http.Client, h syntax.Handle) (syntax.DID, error) {
	status, body, err := get(ctx, client, "https://"+string(h)+"/.well-known/atproto-did", "text/plain", maxHandleBody)
	if err != nil {
		return "", dnsError(err)
	}
	if err := httpStatus(status); err != nil {
		return "", err
	}
	did, err := syntax.ParseDID(strings.TrimSpace(string(body)))
	if err != nil {
		return "", fmt.Errorf("%w: answer is not a DID: %w", ErrNotFound, err)
	}
	return did, nil
}

// httpStatus returns nil for a success, ErrNotFound if the client is to blame, and
// ErrUnavailable for the rest.
func httpStatus(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
	case status >= 400 && status < 500:
		return fmt.Errorf("%w: status %d", ErrNotFound, status)
	}
	return fmt.Errorf("%w: status %d", ErrUnavailable, status)
}

// dnsError tells a name that does not exist from a failure to find out.
func dnsError(err error) error {
	var e *net.DNSError
	if errors.As(err, &e) && e.IsNotFound {
		return fmt.Errorf("%w: %s has no such record", ErrNotFound, e.Name)
	}
	return transportError(err)
}
