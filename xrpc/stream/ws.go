//go:build !js

package stream

import (
	"context"
	"net/http"

	"github.com/coder/websocket"
)

// accept accepts a WebSocket connection of any origin: streams are public.
func accept(w http.ResponseWriter, r *http.Request, t terms) (*websocket.Conn, error) {
	opts := &websocket.AcceptOptions{InsecureSkipVerify: true}
	if t.protocol != "" && offers(r, "Sec-WebSocket-Protocol", t.protocol) {
		opts.Subprotocols = []string{t.protocol}
	}
	if t.deflate {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
	}
	return websocket.Accept(w, r, opts)
}

// dial opens a WebSocket connection. alive is called when the peer answers a ping.
func dial(ctx context.Context, url string, client *http.Client, alive func()) (*websocket.Conn, error) {
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient:     client,
		OnPongReceived: func(context.Context, []byte) { alive() },
	})
	return c, err
}
