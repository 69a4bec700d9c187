package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Limits of a Jetstream connection.
const (
	maxMessage   = 64 << 10 // bytes; a status has some hundred
	maxSkipped   = 64 << 20 // bytes of a message that is skipped
	idleTimeout  = time.Minute
	firstDelay   = 250 * time.Millisecond
	greatDelay   = 30 * time.Second
	firstPlayed  = 1 // the position of an index that has none: the oldest event that is there
	idleToPing   = idleTimeout / 2
	firstVersion = "/subscribe"
)

// jetstream follows one Jetstream.
type jetstream struct {
	*Network
	progress
	address string // its URL, which names the stream in the index
}

// Jetstream follows a Jetstream, version 1, until the context ends: "wss://jetstream.example.net".
// Nothing that it says can be verified.
func (n *Network) Jetstream(ctx context.Context, address string) {
	j := &jetstream{Network: n, address: address, progress: progress{index: n.Index, source: address}}
	defer func() { j.store(context.WithoutCancel(ctx)) }()
	for delay := firstDelay; ctx.Err() == nil; delay = min(2*delay, greatDelay) {
		got, err := j.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		n.log().Warn("the stream broke; it will be followed again", "source", address, "error", err)
		if got {
			delay = firstDelay
		}
		sleep(ctx, delay)
	}
}

// follow reads one connection. got reports whether a message came.
func (j *jetstream) follow(ctx context.Context) (got bool, err error) {
	u, err := url.Parse(j.address)
	if err != nil {
		return false, err
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = firstVersion
	}
	seq, _, found, err := j.Index.Cursor(ctx, j.address)
	if err != nil {
		return false, err
	}
	if !found {
		seq = firstPlayed
	}
	q := u.Query()
	q.Set("wantedCollections", string(status.Collection))
	q.Set("maxMessageSizeBytes", strconv.Itoa(maxMessage))
	q.Set("cursor", strconv.FormatInt(seq, 10))
	u.RawQuery = q.Encode()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPClient: j.Operator})
	if err != nil {
		return false, err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxSkipped)
	j.begin()
	go keepAlive(ctx, cancel, conn)
	for {
		text, err := read(ctx, conn)
		if err != nil {
			return got, err
		}
		if got = true; text == nil {
			continue
		}
		if err := j.message(ctx, text); err != nil {
			return got, err
		}
	}
}

// read reads a message. It is nil if it is none of the protocol's: one that is too long would come
// again after each new connection, so it must not end this one.
func read(ctx context.Context, conn *websocket.Conn) ([]byte, error) {
	typ, r, err := conn.Reader(ctx)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxMessage || typ != websocket.MessageText {
		_, err = io.Copy(io.Discard, r)
		return nil, err
	}
	return text, nil
}

// keepAlive ends a connection whose peer does not answer any more.
func keepAlive(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn) {
	for sleep(ctx, idleToPing) {
		limited, done := context.WithTimeout(ctx, idleToPing)
		err := conn.Ping(limited)
		done()
		if err != nil {
			cancel()
			return
		}
	}
}

// event is a message of Jetstream, version 1.
type event struct {
	DID    syntax.DID `json:"did"`
	Time   int64      `json:"time_us"`
	Kind   string     `json:"kind"`
	Commit *struct {
		Rev        syntax.TID       `json:"rev"`
		Operation  string           `json:"operation"`
		Collection string           `json:"collection"`
		RKey       syntax.RecordKey `json:"rkey"`
		Record     json.RawMessage  `json:"record"`
		CID        string           `json:"cid"`
	} `json:"commit"`
	Account *struct {
		Active bool       `json:"active"`
		DID    syntax.DID `json:"did"`
		Status string     `json:"status"`
	} `json:"account"`
}

// errMessage: a message is not of the protocol.
var errMessage = errors.New("malformed message")

// parse reads a message.
func parse(text []byte) (e event, err error) {
	if err := data.UnmarshalJSON(text, &e); err != nil {
		return e, fmt.Errorf("%w: %w", errMessage, err)
	}
	if e.DID == "" || e.Time <= 0 {
		return e, fmt.Errorf("%w: no DID or time", errMessage)
	}
	return e, nil
}

// message applies a message. The error is that of the index: what is wrong with a message only
// leaves it out.
func (j *jetstream) message(ctx context.Context, text []byte) error {
	e, err := parse(text)
	if err == nil && e.Time > j.now().Add(time.Hour).UnixMicro() {
		err = fmt.Errorf("%w: its time is in the future", errMessage) // would skip what comes until then
	}
	if err != nil {
		j.log().Info("a message was skipped", "source", j.address, "error", err)
		return nil
	}
	at := index.Position{Source: j.address, Seq: e.Time, Shared: true}
	if e.Kind == "commit" && e.Commit != nil && e.Commit.Collection == string(status.Collection) {
		op, err := j.operation(&e)
		if err != nil {
			j.log().Info("a message was skipped", "source", j.address, "did", e.DID, "error", err)
			return j.pass(ctx, at)
		}
		return j.done(j.Index.Commit(ctx, at, index.Commit{DID: e.DID, Rev: e.Commit.Rev, Ops: []index.Op{op}}))
	}
	known, err := j.Index.State(ctx, e.DID)
	switch {
	case err != nil:
		return err
	case known.Known && e.Kind == "identity":
		j.Resolver.Purge(syntax.AtIdentifier(e.DID))
		return j.done(j.Index.Identity(ctx, at, e.DID))
	case known.Known && e.Kind == "account" && e.Account != nil:
		return j.done(j.Index.Account(ctx, at, e.DID, e.Account.Active, e.Account.Status))
	}
	return j.pass(ctx, at)
}

// operation reads what a message says of a record. A record that is no valid status takes the place
// of one that was.
func (n *Network) operation(e *event) (op index.Op, err error) {
	if op.RKey = e.Commit.RKey; op.RKey == "" || e.Commit.Rev == "" {
		return op, fmt.Errorf("%w: no record key or revision", errMessage)
	}
	switch e.Commit.Operation {
	case "create", "update":
		s, b, err := n.Type.JSON(op.RKey, e.Commit.Record)
		if err != nil {
			return op, nil
		}
		op.CID = data.CID(b).String()
		if e.Commit.CID != "" && e.Commit.CID != op.CID {
			return op, fmt.Errorf("%w: the CID is not that of the record", errMessage)
		}
		op.Status = &s
	case "delete":
	default:
		return op, fmt.Errorf("%w: operation %.20q", errMessage, e.Commit.Operation)
	}
	return op, nil
}
