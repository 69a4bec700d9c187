package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Limits of a filter, as Jetstream has them.
const (
	maxWantedCollections = 100
	maxWantedDIDs        = 10_000
	maxPrefix            = 317 // the length of the longest NSID

	// maxUpdate is the size in bytes of the largest message that a subscriber of version 1 may
	// send, and smallUpdate of one that does not need a place of its own.
	maxUpdate   = 10_000_000
	smallUpdate = 1 << 20
)

// kinds is a set of kinds of messages.
type kinds uint8

const (
	kindCommit kinds = 1 << iota
	kindIdentity
	kindAccount
	kindSync
)

// filter says which messages of a JSONView or an EventsView a subscriber gets.
type filter struct {
	kinds       kinds                // 0: all
	collections map[syntax.NSID]bool // nil: with prefixes, all
	prefixes    []string             // "app.bsky.feed."
	dids        map[syntax.DID]bool  // nil: all
	maxSize     int64                // 0: any
}

// filterOptions are what a subscriber asks for, in parameters or in a message.
type filterOptions struct {
	Collections []string `json:"wantedCollections"`
	DIDs        []string `json:"wantedDids"`
	MaxSize     int64    `json:"maxMessageSizeBytes"`
}

// Limits on the memory of all subscribers' filters, and of those of one network.
const (
	filterBytes           = 64 << 20
	filterBytesPerNetwork = 8 << 20
)

// size estimates the memory of a filter in bytes.
func (f *filter) size() int64 {
	n := 200
	for c := range f.collections {
		n += 64 + len(c)
	}
	for _, p := range f.prefixes {
		n += 32 + len(p)
	}
	for d := range f.dids {
		n += 64 + len(d)
	}
	return int64(n)
}

// filterOf is the filter of a subscriber, which changes.
type filterOf struct {
	budget  *limit.Budget
	client  limit.Client
	current atomic.Pointer[filter]

	mu    sync.Mutex // of changes
	held  int64
	ended bool
}

// set replaces the filter, if there is memory for it.
func (o *filterOf) set(f *filter) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return errSend
	}
	size := f.size()
	if err := o.budget.Take(o.client, size); err != nil {
		return err
	}
	o.budget.Give(o.client, o.held)
	o.held = size
	o.current.Store(f)
	return nil
}

// end gives the memory back.
func (o *filterOf) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.budget.Give(o.client, o.held)
}

// newFilter checks options. What is named twice counts once. What comes before the "*" of a pattern
// is not checked: one that no collection begins with lets none through.
func newFilter(o filterOptions) (*filter, error) {
	f := &filter{maxSize: max(o.MaxSize, 0)}
	for _, c := range o.Collections {
		if err := f.addCollection(c); err != nil {
			return nil, fmt.Errorf("wantedCollections: %w", err)
		}
		if len(f.collections)+len(f.prefixes) > maxWantedCollections {
			return nil, fmt.Errorf("too many wantedCollections: at most %d", maxWantedCollections)
		}
	}
	for _, d := range o.DIDs {
		if err := f.addDID(d); err != nil {
			return nil, fmt.Errorf("wantedDids: %w", err)
		}
		if len(f.dids) > maxWantedDIDs {
			return nil, fmt.Errorf("too many wantedDids: at most %d", maxWantedDIDs)
		}
	}
	return f, nil
}

// addCollection lets a collection through, or all with a prefix: "app.bsky.feed.*".
func (f *filter) addCollection(c string) error {
	if prefix, ok := strings.CutSuffix(c, "*"); ok && strings.HasSuffix(prefix, ".") {
		if len(prefix) > maxPrefix {
			prefix = "." // which lets none through either
		}
		if !slices.Contains(f.prefixes, prefix) {
			f.prefixes = append(f.prefixes, prefix)
		}
		return nil
	}
	nsid, err := syntax.ParseNSID(c)
	if err != nil {
		return err
	}
	if f.collections == nil {
		f.collections = make(map[syntax.NSID]bool)
	}
	f.collections[nsid] = true
	return nil
}

// addDID lets an account through.
func (f *filter) addDID(d string) error {
	did, err := syntax.ParseDID(d)
	if err != nil {
		return err
	}
	if f.dids == nil {
		f.dids = make(map[syntax.DID]bool)
	}
	f.dids[did] = true
	return nil
}

// queryOptions reads options from parameters. A maxMessageSizeBytes that is no number of 32 bits is
// as good as none.
func queryOptions(q url.Values) filterOptions {
	o := filterOptions{Collections: q["wantedCollections"], DIDs: q["wantedDids"]}
	if n, err := strconv.ParseUint(q.Get("maxMessageSizeBytes"), 10, 32); err == nil {
		o.MaxSize = int64(n)
	}
	return o
}

// malformedError is that of a message that is not JSON, or of another form.
type malformedError struct{ reason string }

func (e *malformedError) Error() string { return e.reason }

// maxUpdateValues bounds the commas of a message, and with them the memory for what is read from
// it.
const maxUpdateValues = 200_000

// parseUpdate reads a message by which a subscriber changes its filter; nil: it is of another type.
func parseUpdate(b []byte) (*filter, error) {
	if bytes.Count(b, []byte{','}) > maxUpdateValues {
		return nil, errors.New("the message has too many values")
	}
	var m struct {
		Type    string          `json:"type"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := exactjson.Unmarshal(b, &m); err != nil {
		return nil, &malformedError{"the message is not a JSON object with a type"}
	}
	if m.Type != "options_update" {
		return nil, nil
	}
	var o filterOptions
	if err := exactjson.Unmarshal(m.Payload, &o); err != nil {
		return nil, &malformedError{"the payload of options_update is malformed"}
	}
	return newFilter(o)
}

// account reports whether anything of an account is wanted.
func (f *filter) account(did syntax.DID) bool { return f.dids == nil || f.dids[did] }

// message reports whether a message is wanted. Those of no collection always are.
func (f *filter) message(m *message) bool {
	if f.maxSize > 0 && int64(len(m.bytes)) > f.maxSize || f.kinds != 0 && f.kinds&m.kind == 0 {
		return false
	}
	if m.collection == "" || f.collections == nil && f.prefixes == nil || f.collections[m.collection] {
		return true
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(string(m.collection), p) {
			return true
		}
	}
	return false
}
