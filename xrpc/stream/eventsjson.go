package stream

import (
	"errors"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// jsonProtocol is the subprotocol of an EventsView.
const jsonProtocol = "xrpc.v1.json"

// noTime is when what never changes was changed.
var noTime time.Time

// eventsMessage is a message of an EventsView. Of the parts after Time, it has those of its kind.
type eventsMessage struct {
	Type string     `json:"$type"`
	Seq  int64      `json:"seq"`
	DID  syntax.DID `json:"did"`
	Time string     `json:"time"`
	*jsonCommit
	Identity rawJSON `json:"identity,omitempty"`
	Account  rawJSON `json:"account,omitempty"`
	Sync     rawJSON `json:"sync,omitempty"`
}

type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// eventsTime is the form of times in messages: six decimals, always.
const eventsTime = "2006-01-02T15:04:05.000000Z"

// eventsItem encodes an event for an EventsView: a commit as one message for each of its
// operations, others as one with the message of subscribeRepos in it. Those of unknown kinds have
// none. The error, if any, says what could not be shown; the item has the rest.
func eventsItem(e storage.Event) (*item, error) {
	it := &item{seq: e.Seq, did: e.DID}
	m, err := commit.Decode(e.Kind, e.Payload)
	if errors.Is(err, commit.ErrUnknownKind) {
		return it, nil
	}
	add := func(kind kinds, name string, seq int64, msg eventsMessage) error {
		msg.Type, msg.Seq, msg.DID, msg.Time = SubscribeEventsNSID+"#"+name, seq, e.DID, e.Time.UTC().Format(eventsTime)
		b, err := appendJSON([]byte(`{"$type":"message","payload":`), msg)
		x := message{seq: seq, kind: kind, bytes: append(b, '}')}
		if msg.jsonCommit != nil {
			x.collection = msg.Collection
		}
		if err == nil {
			it.messages = append(it.messages, x)
		}
		return err
	}
	var whole rawJSON
	if _, ok := m.(*commit.Event); !ok && err == nil {
		whole, err = upstream(e)
	}
	if err == nil {
		switch m := m.(type) {
		case *commit.Event:
			err = it.eachOp(e, m, func(seq int64, c *jsonCommit) error {
				return add(kindCommit, "commit", seq, eventsMessage{jsonCommit: c})
			})
		case *commit.Identity:
			err = add(kindIdentity, "identity", e.Seq, eventsMessage{Identity: whole})
		case *commit.Account:
			err = add(kindAccount, "account", e.Seq, eventsMessage{Account: whole})
		case *commit.Sync:
			err = add(kindSync, "sync", e.Seq, eventsMessage{Sync: whole})
		}
	}
	return it, err
}

// upstream is the message of subscribeRepos about an event, as JSON, with whatever fields it has.
func upstream(e storage.Event) (rawJSON, error) {
	b, err := data.AppendJSON(strconv.AppendInt([]byte(`{"seq":`), e.Seq, 10), e.Payload)
	if err != nil {
		return nil, err
	}
	// The payload is an object, which is not empty as it has been decoded: its "{" gives way to a
	// ",".
	b[len(strconv.AppendInt([]byte(`{"seq":`), e.Seq, 10))] = ','
	return b, nil
}

// infoMessage is an #info message of an EventsView.
func infoMessage(name, text string) []byte {
	b, _ := appendJSON([]byte(`{"$type":"message","payload":`), struct {
		Type    string `json:"$type"`
		Name    string `json:"name"`
		Message string `json:"message"`
	}{SubscribeEventsNSID + "#info", name, text})
	return append(b, '}')
}

// errorMessage is the message that an EventsView ends with.
func errorMessage(e *Error) []byte {
	b, _ := appendJSON(nil, struct {
		Type    string `json:"$type"`
		Error   string `json:"error"`
		Message string `json:"message,omitempty"`
	}{"error", e.Name, e.Message})
	return b
}

// EventMessages returns the uncompressed messages that an [EventsView] sends for an event, for
// example to train a dictionary. The error says what of the event cannot be shown, as in
// Outbox.Skipped; the messages are then the remaining ones.
func EventMessages(e storage.Event) (messages [][]byte, err error) {
	it, err := eventsItem(e)
	for _, m := range it.messages {
		messages = append(messages, m.bytes)
	}
	return messages, err
}
