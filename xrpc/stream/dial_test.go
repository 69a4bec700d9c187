//go:build !js

package stream

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// dialWith opens a WebSocket connection with headers.
func dialWith(t *testing.T, url string, header http.Header) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: header})
}

// needsWebSockets does nothing where there are any.
func needsWebSockets(testing.TB) {}
