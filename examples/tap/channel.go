package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/lexicon/data"
)

// Bounds of sockets.
const (
	maxSockets = 64
	maxFrame   = 4 << 10 // of a message of a client
	window     = 256     // events that a socket has and has not acknowledged
	writeTime  = 30 * time.Second
	pingEvery  = 30 * time.Second
)

// channel serves GET /channel.
func (a *app) channel(w http.ResponseWriter, r *http.Request) {
	if a.set.webhook != "" {
		fail(w, http.StatusBadRequest, "websocket not available in webhook mode")
		return
	}
	if a.sockets.Add(1) > maxSockets {
		a.sockets.Add(-1)
		fail(w, http.StatusServiceUnavailable, "too many sockets")
		return
	}
	defer a.sockets.Add(-1)
	// Pages of other sites cannot connect: see websocket.AcceptOptions.
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer conn.CloseNow() // clients reconnect after that, as they would not after a close frame
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	s := &socket{app: a, conn: conn, consumer: a.out.join(window)}
	defer a.out.remove(s.consumer)
	context.AfterFunc(ctx, func() { a.out.remove(s.consumer) })
	go s.ping(ctx, stop)
	go func() {
		defer stop()
		if err := s.read(ctx); err != nil && ctx.Err() == nil {
			a.set.log.Debug("a socket ended", "error", err)
		}
	}()
	if err := s.write(ctx); err != nil && ctx.Err() == nil {
		a.set.log.Info("a socket ended", "error", err)
	}
}

type socket struct {
	app      *app
	conn     *websocket.Conn
	consumer *consumer
}

// errMessage: a client has sent something that is no message.
var errMessage = errors.New("message of a client: no JSON object with a type")

// parseAck reads a message of a client. Only acknowledgements matter.
func parseAck(b []byte) (id int64, ok bool, err error) {
	var m struct {
		Type string          `json:"type"`
		ID   json.RawMessage `json:"id"` // only of interest in an acknowledgement
	}
	if err := data.UnmarshalPlainJSON(b, &m); err != nil {
		return 0, false, errMessage
	}
	if m.Type != "ack" {
		return 0, false, nil
	}
	if err := data.UnmarshalPlainJSON(m.ID, &id); err != nil || id <= 0 {
		return 0, false, errMessage
	}
	return id, true, nil
}

// read takes acknowledgements until the client leaves.
func (s *socket) read(ctx context.Context) error {
	s.conn.SetReadLimit(maxFrame)
	for {
		_, b, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		if s.app.set.forget {
			continue
		}
		id, ok, err := parseAck(b)
		if err != nil {
			s.conn.Close(websocket.StatusInvalidFramePayloadData, err.Error())
			return err
		}
		if ok {
			s.app.out.ack(id)
		}
	}
}

// write sends events until the client leaves, or does not take one in time.
func (s *socket) write(ctx context.Context) error {
	out := s.app.out
	for {
		list := out.take(s.consumer, 32)
		if len(list) == 0 {
			return nil
		}
		bodies, err := out.load(ctx, list)
		if err != nil {
			return err
		}
		for i, b := range bodies {
			if b == nil {
				continue
			}
			limited, done := context.WithTimeout(ctx, min(writeTime, out.timeout))
			err := s.conn.Write(limited, websocket.MessageText, b)
			done()
			if err != nil {
				return err
			}
			if s.app.set.forget {
				out.ack(list[i].id)
			}
		}
	}
}

// ping finds out whether the client is still there.
func (s *socket) ping(ctx context.Context, stop func()) {
	defer stop()
	for pause(ctx, pingEvery) {
		limited, done := context.WithTimeout(ctx, pingEvery)
		err := s.conn.Ping(limited)
		done()
		if err != nil {
			return
		}
	}
}
