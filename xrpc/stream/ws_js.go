package stream

import (
	"context"
	"errors"
	"net/http"
	"syscall/js"

	"github.com/coder/websocket"
)

// accept fails: a browser accepts no connections.
func accept(w http.ResponseWriter, r *http.Request, t terms) (*websocket.Conn, error) {
	return websocket.Accept(w, r, nil)
}

var errNoWebSocket = errors.New("stream: this runtime of JavaScript has no WebSocket")

// dial opens a WebSocket connection through the runtime, which has neither a client
// of ours nor pings.
func dial(ctx context.Context, url string, _ *http.Client, _ func()) (*websocket.Conn, error) {
	if !js.Global().Get("WebSocket").Truthy() {
		return nil, errNoWebSocket
	}
	c, _, err := websocket.Dial(ctx, url, nil)
	return c, err
}
