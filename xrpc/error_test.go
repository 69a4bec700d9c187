package xrpc

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// An error that may pass says what users may be told, or nothing of itself.
func TestUnavailableMessage(t *testing.T) {
	for _, err := range []error{storage.ErrMoved, storage.ErrFull} {
		w := httptest.NewRecorder()
		WriteError(w, fmt.Errorf("writing: %w", err))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%v: status %d", err, w.Code)
		}
		if body := w.Body.String(); strings.Contains(body, "moved") != (err == storage.ErrMoved) || strings.Contains(body, "storage:") {
			t.Errorf("%v: %s", err, body)
		}
	}
}
