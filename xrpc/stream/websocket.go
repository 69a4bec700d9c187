package stream

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// ServeHTTP accepts a WebSocket connection and sends the stream over it. The
// query parameter "cursor" is where it starts.
func (o *Outbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var cursor *int64
	if s := r.URL.Query().Get("cursor"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			http.Error(w, `{"error":"InvalidRequest","message":"cursor must be a non-negative integer"}`, http.StatusBadRequest)
			return
		}
		cursor = &n
	}
	// Streams are public: pages of any origin may read them.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	// CloseRead answers pings and ends the context when the peer closes or sends
	// anything, which it must not.
	ctx, cancel := context.WithCancelCause(conn.CloseRead(context.WithoutCancel(r.Context())))
	defer cancel(nil)
	go o.keepAlive(ctx, conn, cancel)

	for frame, err := range o.Subscribe(ctx, cursor) {
		var told *Error
		switch {
		case err == nil:
			if o.write(ctx, conn, frame) != nil {
				return
			}
		case errors.As(err, &told):
			o.write(ctx, conn, told.Encode())
			conn.Close(websocket.StatusPolicyViolation, told.Name)
			return
		case errors.Is(err, ErrClosed):
			conn.Close(websocket.StatusGoingAway, "the server is shutting down")
			return
		case ctx.Err() == nil:
			conn.Close(websocket.StatusInternalError, "")
			return
		}
	}
}

func (o *Outbox) write(ctx context.Context, conn *websocket.Conn, frame []byte) error {
	timeout := o.WriteTimeout
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageBinary, frame)
}

// keepAlive pings the peer and ends the context when no answer comes.
func (o *Outbox) keepAlive(ctx context.Context, conn *websocket.Conn, cancel context.CancelCauseFunc) {
	every := o.Ping
	if every == 0 {
		every = 30 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pingCtx, stop := context.WithTimeout(ctx, every)
		err := conn.Ping(pingCtx)
		stop()
		if err != nil {
			cancel(err)
			return
		}
	}
}
