package stream

import (
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
)

var (
	// ErrFrame: a frame does not conform to the specification.
	ErrFrame = errors.New("stream: malformed frame")
	// ErrUnknownOp: a frame has an operation that the specification does not define (yet).
	// Consumers must ignore it.
	ErrUnknownOp = errors.New("stream: frame of an unknown operation")
)

// Frame is one message of a stream: a header and a payload, both canonical
// CBOR (Event Stream specification, Framing).
type Frame struct {
	Kind    string // the header's "t", such as "#commit"
	Seq     int64  // the payload's "seq"; 0 if it has none
	Payload []byte // a map
}

// Error is the payload of an error frame, which ends a stream.
type Error struct {
	Name    string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("stream: %s: %s", e.Name, e.Message) }

// Is reports whether target is an *Error of the same name.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Name == e.Name
}

// Errors with which an Outbox ends a stream.
var (
	// ErrFutureCursor: the cursor is greater than the newest sequence number.
	ErrFutureCursor = &Error{"FutureCursor", "Cursor in the future."}
	// ErrConsumerTooSlow: the consumer does not keep up with the events.
	ErrConsumerTooSlow = &Error{"ConsumerTooSlow", "Stream consumer too slow"}
)

// OutdatedCursor is the name in the #info frame that says that events between the cursor and the
// next frame are no longer kept.
const OutdatedCursor = "OutdatedCursor"

// maxHeader bounds the bytes of a frame's header.
const maxHeader = 1 << 10

// appendHeader appends the header of a message.
func appendHeader(b []byte, kind string) []byte {
	b = cbor.AppendMap(b, 2)
	b = cbor.AppendText(b, "t")
	b = cbor.AppendText(b, kind)
	b = cbor.AppendText(b, "op")
	return cbor.AppendInt(b, 1)
}

// Encode returns the bytes of the frame.
func (f Frame) Encode() []byte {
	b := make([]byte, 0, len(f.Payload)+len(f.Kind)+8)
	return append(appendHeader(b, f.Kind), f.Payload...)
}

// Encode returns the bytes of the error's frame.
func (e *Error) Encode() []byte {
	b := cbor.AppendMap(nil, 1)
	b = cbor.AppendText(b, "op")
	b = cbor.AppendInt(b, -1)
	b = cbor.AppendMap(b, 2)
	b = cbor.AppendText(b, "error")
	b = cbor.AppendText(b, e.Name)
	b = cbor.AppendText(b, "message")
	return cbor.AppendText(b, e.Message)
}

// infoFrame tells a consumer something about the stream.
func infoFrame(name, message string) Frame {
	b := cbor.AppendMap(nil, 2)
	b = cbor.AppendText(b, "name")
	b = cbor.AppendText(b, name)
	b = cbor.AppendText(b, "message")
	return Frame{Kind: "#info", Payload: cbor.AppendText(b, message)}
}

// Decode reads a frame. A frame that carries an error gives that *Error. A frame with an unknown
// operation gives ErrUnknownOp. All other errors are ErrFrame. The frame's Payload is part of b.
func Decode(b []byte) (Frame, error) {
	f, err := decode(b)
	switch err.(type) {
	case nil:
		return f, nil
	case *Error:
		return Frame{}, err
	}
	if err != ErrUnknownOp {
		err = fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return Frame{}, err
}

func decode(b []byte) (f Frame, err error) {
	r := cbor.NewReader(b)
	header, err := r.Raw(cbor.Limits{Bytes: maxHeader})
	if err != nil {
		return f, fmt.Errorf("header: %w", err)
	}
	var op int64
	if err := eachKey(header, func(key string, r *cbor.Reader) (err error) {
		switch key {
		case "t":
			f.Kind, err = r.Text()
		case "op":
			op, err = r.Int()
		default:
			err = r.Skip()
		}
		return err
	}); err != nil {
		return f, fmt.Errorf("header: %w", err)
	}
	f.Payload = b[r.Pos():]
	if err := cbor.Scan(f.Payload, cbor.Limits{Bytes: max(len(f.Payload), 1)}); err != nil {
		return f, err
	}
	switch op {
	case 1:
		return f, f.decodeMessage()
	case -1:
		return f, decodeError(f.Payload)
	case 0:
		return f, errors.New("header without op")
	}
	return f, ErrUnknownOp
}

// decodeMessage checks the payload of a message and reads its number.
func (f *Frame) decodeMessage() error {
	if f.Kind == "" {
		return errors.New("header without t")
	}
	return eachKey(f.Payload, func(key string, r *cbor.Reader) (err error) {
		if key != "seq" {
			return r.Skip()
		}
		if f.Seq, err = r.Int(); err == nil && f.Seq < 1 {
			err = fmt.Errorf("seq is %d", f.Seq)
		}
		return err
	})
}

// decodeError reads the payload of an error frame. It always returns an error.
func decodeError(payload []byte) error {
	serr := &Error{}
	if err := eachKey(payload, func(key string, r *cbor.Reader) (err error) {
		switch {
		case key == "error":
			serr.Name, err = r.Text()
		case key == "message" && r.Major() == cbor.MajorText:
			serr.Message, err = r.Text()
		default:
			err = r.Skip()
		}
		return err
	}); err != nil {
		return err
	}
	if serr.Name == "" {
		return errors.New("error without a name")
	}
	return serr
}

// eachKey calls fn for each key of a map, to read its value.
func eachKey(b []byte, fn func(key string, r *cbor.Reader) error) error {
	r := cbor.NewReader(b)
	n, err := r.Map()
	for range n {
		if err != nil {
			break
		}
		var key string
		if key, err = r.Text(); err == nil {
			err = fn(key, r)
		}
	}
	return err
}

// EncodeEvent returns the frame of an event, as an [Outbox] sends it: a header, and the event's
// payload with "seq" inserted. It is for servers that send frames without an Outbox. If the payload
// is not a canonical map without "seq", the error is storage.ErrCorrupt.
func EncodeEvent(e storage.Event) ([]byte, error) {
	r := cbor.NewReader(e.Payload)
	n, err := r.Map()
	start, at := r.Pos(), len(e.Payload)
	for range n {
		if err != nil {
			break
		}
		pos := r.Pos()
		var key string
		if key, err = r.Text(); err != nil {
			break
		}
		switch c := cbor.CompareKeys(key, "seq"); {
		case c == 0:
			err = errors.New(`"seq" is there already`)
		case c > 0 && at == len(e.Payload):
			at = pos
		}
		if err == nil {
			err = r.Skip()
		}
	}
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: payload of event %d: %w", storage.ErrCorrupt, e.Seq, err)
	}
	b := make([]byte, 0, len(e.Payload)+len(e.Kind)+32)
	b = appendHeader(b, e.Kind)
	b = cbor.AppendMap(b, n+1)
	b = append(b, e.Payload[start:at]...)
	b = cbor.AppendText(b, "seq")
	b = cbor.AppendInt(b, e.Seq)
	return append(b, e.Payload[at:]...), nil
}
