package stream

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// dialWith is not possible: a browser's WebSockets have no headers.
func dialWith(t *testing.T, _ string, _ http.Header) (*websocket.Conn, *http.Response, error) {
	needsWebSockets(t)
	return nil, nil, nil
}

// needsWebSockets ends a test that serves them.
func needsWebSockets(tb testing.TB) {
	tb.Skip("the platform accepts no WebSocket connections")
}
