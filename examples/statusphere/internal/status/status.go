// Package status has the record type of the app: its Lexicon schema, and the only code that makes
// and checks records. The app's own records and those from the network pass the same check.
package status

import (
	_ "embed"
	"errors"
	"fmt"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Collection is the type of the records, and the collection that they are in.
const Collection syntax.NSID = "xyz.statusphere.status"

// Option is an emoji that the page offers, with its name for those who cannot see it.
type Option struct{ Text, Name string }

// Options returns what the page offers. Any other single character is as good.
func Options() []Option {
	return []Option{
		{"👍", "thumbs up"}, {"👎", "thumbs down"}, {"💙", "blue heart"}, {"🥳", "party"}, {"😎", "cool"},
		{"🤩", "amazed"}, {"😍", "in love"}, {"🫶", "heart hands"}, {"😂", "laughing"}, {"🙂", "fine"},
		{"😌", "relieved"}, {"🤔", "thinking"}, {"🫠", "melting"}, {"😴", "asleep"}, {"🤒", "ill"},
		{"😢", "sad"}, {"😤", "determined"}, {"🤯", "mind blown"}, {"☕", "coffee"}, {"🍕", "pizza"},
		{"🌱", "growing"}, {"🌧️", "rain"}, {"☀️", "sunny"}, {"🧑‍💻", "coding"}, {"🏃", "running"},
		{"🎧", "listening"}, {"🚀", "taking off"}, {"🌙", "good night"},
	}
}

// Status is a valid record.
type Status struct {
	Text    string    // one grapheme cluster, such as "👩‍👩‍👧"
	Created time.Time // what the record says, which may be wrong
}

// Type checks records. Make one with [New]. It is safe for concurrent use.
type Type struct {
	catalog lexicon.Catalog
}

//go:embed status.json
var document []byte

// Document returns the schema, for a server's own catalog.
func Document() (*lexicon.Document, error) { return lexicon.ParseSchema(document) }

// New returns the type.
func New() (*Type, error) {
	doc, err := Document()
	if err != nil {
		return nil, err
	}
	t := new(Type)
	t.catalog.Add(doc)
	return t, t.catalog.Check()
}

// ErrInvisible: the character of a status cannot be seen, or changes how the text around it is
// read. The schema allows it; the page does not show it.
var ErrInvisible = errors.New("status: no visible character")

// Record returns a new record.
func (t *Type) Record(text string, now time.Time) (map[string]any, error) {
	record := map[string]any{
		"$type": string(Collection), "status": text, "createdAt": string(syntax.NewDatetime(now)),
	}
	_, err := t.check(syntax.RecordKey(syntax.NewTID(now, 0)), record)
	return record, err
}

// CBOR reads a record as it is in a repository. The error says why it is not a status.
func (t *Type) CBOR(rkey syntax.RecordKey, record []byte) (Status, error) {
	value, err := data.Decode(record, data.Limits{})
	if err != nil {
		return Status{}, err
	}
	return t.check(rkey, value)
}

// JSON reads a record as an HTTP API writes it, and returns it in CBOR too, whose hash is its CID.
func (t *Type) JSON(rkey syntax.RecordKey, record []byte) (Status, []byte, error) {
	value, err := data.FromJSON(record, data.Limits{})
	if err != nil {
		return Status{}, nil, err
	}
	s, err := t.check(rkey, value)
	if err != nil {
		return Status{}, nil, err
	}
	b, err := data.Encode(value)
	return s, b, err
}

// check validates a record.
func (t *Type) check(rkey syntax.RecordKey, value any) (Status, error) {
	if err := t.catalog.ValidateRecord(Collection, rkey, value); err != nil {
		return Status{}, err
	}
	record := value.(map[string]any) // a valid record is one
	s := Status{Text: record["status"].(string), Created: syntax.Datetime(record["createdAt"].(string)).Time()}
	if !visible(s.Text) {
		return Status{}, fmt.Errorf("%w: %q", ErrInvisible, s.Text)
	}
	return s, nil
}

// visible reports whether a text has a character that can be seen, and no control character.
// The joiners and selectors that emoji are made of are neither.
func visible(s string) bool {
	seen := false
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return false
		case unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S):
			seen = seen || !blank[r]
		}
	}
	return seen
}

// blank are letters and symbols without a shape.
var blank = map[rune]bool{'\u115f': true, '\u1160': true, '\u2800': true, '\u3164': true, '\uffa0': true}
