package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// DefaultPLC is the address of the public directory.
const DefaultPLC = "https://plc.directory"

// Limits of PLCClient, in bytes.
const (
	maxPLCAnswer = 128 << 10
	maxPLCLog    = 16 << 20
)

// PLCClient is a client of a did:plc directory. The zero value uses the public one. It is safe for
// concurrent use.
//
// The operator chooses the directory, so by default its address may be private. Redirects are not
// followed.
type PLCClient struct {
	// URL is the URL of the directory, without a path; default DefaultPLC.
	URL string
	// HTTP makes the requests; default: a client with a timeout of 10 seconds.
	HTTP *http.Client
	// Verify makes Resolve, Data and Last fetch and verify the whole audit log, instead of trusting
	// the directory's summary. This costs a larger response, and one signature verification for
	// each operation.
	Verify bool
}

// PLCError is an error response of a directory. It matches ErrNotFound, ErrTombstoned, ErrOperation
// (refused as invalid) or ErrUnavailable.
type PLCError struct {
	Status  int    // HTTP status
	Message string // from the directory; at most 1024 bytes
}

func (e *PLCError) Error() string {
	return fmt.Sprintf("identity: PLC directory answers %d: %s", e.Status, e.Message)
}

func (e *PLCError) Is(target error) bool {
	switch e.Status {
	case http.StatusGone:
		return target == ErrTombstoned
	case http.StatusNotFound:
		// Directories differ in their status for a tombstone, not in the message.
		if strings.HasPrefix(e.Message, "DID not available") {
			return target == ErrTombstoned
		}
		return target == ErrNotFound
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge:
		return target == ErrOperation
	}
	return target == ErrUnavailable
}

// Resolve returns the DID document of a did:plc. Errors are ErrInvalid, ErrNotFound, ErrTombstoned,
// ErrUnavailable, ErrTooLarge, ErrDocument and ErrMismatch. With Verify they include those of
// ValidatePLCLog.
func (c *PLCClient) Resolve(ctx context.Context, did syntax.DID) (*Document, error) {
	if c.Verify {
		d, err := c.Data(ctx, did)
		if err != nil {
			return nil, err
		}
		return d.Document(), nil
	}
	body, err := c.get(ctx, did, "", maxPLCAnswer)
	if err != nil {
		return nil, err
	}
	return parseDocumentOf(did, body)
}

// Data returns the state of a did:plc, which includes its rotation keys. Its errors
// are those of Resolve.
func (c *PLCClient) Data(ctx context.Context, did syntax.DID) (*PLCData, error) {
	if c.Verify {
		log, err := c.validLog(ctx, did)
		if err != nil {
			return nil, err
		}
		return log.Data()
	}
	var d PLCData
	if err := c.getJSON(ctx, did, "/data", maxPLCAnswer, &d); err != nil {
		return nil, err
	}
	if d.DID != did {
		return nil, fmt.Errorf("%w: asked for %s, got the data of %s", ErrMismatch, did, d.DID)
	}
	return &d, nil
}

// validLog returns the whole log, which it has checked.
func (c *PLCClient) validLog(ctx context.Context, did syntax.DID) (*PLCLog, error) {
	entries, err := c.AuditLog(ctx, did)
	if err != nil {
		return nil, err
	}
	return ValidatePLCLog(did, entries)
}

// Log returns the valid operations of a did:plc, oldest first. There is at least one.
func (c *PLCClient) Log(ctx context.Context, did syntax.DID) (list []*PLCOperation, err error) {
	if err := c.getJSON(ctx, did, "/log", maxPLCLog, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 || slices.Contains(list, nil) { // JSON null is a pointer that is nil
		return nil, fmt.Errorf("%w: %s/log: operations are missing", ErrDocument, did)
	}
	return list, nil
}

// AuditLog returns all operations of a did:plc, oldest first, including nullified ones. It does not
// check them: see ValidatePLCLog.
func (c *PLCClient) AuditLog(ctx context.Context, did syntax.DID) (list []PLCLogEntry, err error) {
	err = c.getJSON(ctx, did, "/log/audit", maxPLCLog, &list)
	return list, err
}

// Last returns the last valid operation of a did:plc, which the next operation must follow (see
// PLCOperation.Next). It may be a tombstone. Errors are those of Resolve.
func (c *PLCClient) Last(ctx context.Context, did syntax.DID) (*PLCOperation, error) {
	if c.Verify {
		log, err := c.validLog(ctx, did)
		if err != nil {
			return nil, err
		}
		return log.Last(), nil
	}
	op := &PLCOperation{}
	if err := c.getJSON(ctx, did, "/log/last", maxPLCAnswer, op); err != nil {
		return nil, err
	}
	return op, nil
}

// Submit sends a signed operation to the directory. If the error is ErrUnavailable, the operation
// may have been accepted nevertheless: [SubmitPLC] finds out.
func (c *PLCClient) Submit(ctx context.Context, did syntax.DID, op *PLCOperation) error {
	if op == nil {
		return fmt.Errorf("%w: none", ErrOperation)
	}
	if _, err := op.Bytes(); err != nil {
		return err
	}
	body, err := json.Marshal(op)
	if err != nil {
		return err
	}
	url, err := c.url(did, "")
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	req.Header.Set("Content-Type", "application/json")
	status, answer, err := do(c.client(), req, maxPLCAnswer)
	if err != nil {
		return err
	}
	return plcStatus(status, answer)
}

func (c *PLCClient) getJSON(ctx context.Context, did syntax.DID, path string, limit int64, to any) error {
	body, err := c.get(ctx, did, path, limit)
	if err != nil {
		return err
	}
	if err := exactjson.Unmarshal(body, to); err != nil {
		return fmt.Errorf("%w: %s%s: %w", ErrDocument, did, path, err)
	}
	return nil
}

func (c *PLCClient) get(ctx context.Context, did syntax.DID, path string, limit int64) ([]byte, error) {
	url, err := c.url(did, path)
	if err != nil {
		return nil, err
	}
	status, body, err := get(ctx, c.client(), url, "application/did+ld+json,application/json", limit)
	if err != nil {
		return nil, err
	}
	return body, plcStatus(status, body)
}

func (c *PLCClient) client() *http.Client {
	client := safehttp.WithoutRedirects(c.HTTP)
	if c.HTTP == nil {
		client.Timeout = 10 * time.Second
	}
	return client
}

func (c *PLCClient) url(did syntax.DID, path string) (string, error) {
	if err := checkPLC(did); err != nil {
		return "", err
	}
	base := c.URL
	if base == "" {
		base = DefaultPLC
	}
	return strings.TrimSuffix(base, "/") + "/" + string(did) + path, nil
}

// checkPLC checks that a DID has the shape of did:plc: 24 characters of base32.
func checkPLC(did syntax.DID) error {
	id, ok := strings.CutPrefix(string(did), "did:plc:")
	if !ok || len(id) != 24 || strings.ContainsFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') }) {
		return fmt.Errorf("%w: %.64q is not a did:plc", ErrInvalid, did)
	}
	return nil
}

func plcStatus(status int, body []byte) error {
	if status >= 200 && status < 300 {
		return nil
	}
	var m struct {
		Message string `json:"message"`
	}
	if exactjson.Unmarshal(body, &m) != nil || m.Message == "" {
		m.Message = http.StatusText(status)
	}
	return &PLCError{status, strings.ToValidUTF8(m.Message[:min(len(m.Message), 1024)], "")}
}
