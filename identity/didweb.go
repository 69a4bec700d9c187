package identity

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// webURL returns where the document of a did:web lies. Only whole host names are
// supported, of top-level domains that handles may have; in development also
// localhost, with a port. Specification: DID, did:web in AT Protocol.
func webURL(did syntax.DID, development bool) (string, error) {
	const path = "/.well-known/did.json"
	host := did.Identifier()
	if name, port, hasPort := strings.Cut(host, "%3A"); name == "localhost" && development {
		if !hasPort {
			return "http://localhost" + path, nil
		}
		if _, err := strconv.ParseUint(port, 10, 16); err == nil && port[0] != '0' {
			return "http://localhost:" + port + path, nil
		}
		return "", fmt.Errorf("%w: port of %.64q", ErrInvalid, did)
	}
	h, err := syntax.ParseHandle(host)
	if err != nil {
		return "", fmt.Errorf("%w: %.64q is not a host name: %w", ErrInvalid, did, err)
	}
	if h != h.Normalize() {
		return "", fmt.Errorf("%w: %.64q has upper-case letters", ErrInvalid, did)
	}
	if !h.AllowedTLD() || h.TLD() == "test" && !development {
		return "", fmt.Errorf("%w: %.64q is under a reserved top-level domain", ErrInvalid, did)
	}
	return "https://" + host + path, nil
}

// fetchDocument fetches the document of a did:web.
func fetchDocument(ctx context.Context, client *http.Client, did syntax.DID, url string) (*Document, error) {
	status, body, err := get(ctx, client, url, "application/did+ld+json,application/json", MaxDocumentSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", did, dnsError(err))
	}
	if err := httpStatus(status); err != nil {
		return nil, fmt.Errorf("%s: %w", did, err)
	}
	return parseDocumentOf(did, body)
}

// parseDocumentOf reads the document of a DID, or fails with ErrMismatch if it is of
// another.
func parseDocumentOf(did syntax.DID, b []byte) (*Document, error) {
	doc, err := ParseDocument(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", did, err)
	}
	if doc.ID != did {
		return nil, fmt.Errorf("%w: asked for %s, got the document of %s", ErrMismatch, did, doc.ID)
	}
	return doc, nil
}
