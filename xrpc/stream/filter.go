package stream

import (
	"errors"
	"fmt"
	"net/url"
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
)

// filter says which messages of a JSONView a subscriber gets.
type filter struct {
	collections map[syntax.NSID]bool // nil: with prefixes, all
	prefixes    []string             // "app.bsky.feed."
	dids        map[syntax.DID]bool  // nil: all
	maxSize     int                  // 0: any
}

// filterOptions are what a subscriber asks for, in parameters or in a message.
type filterOptions struct {
	Collections []string `json:"wantedCollections"`
	DIDs        []string `json:"wantedDids"`
	MaxSize     int      `json:"maxMessageSizeBytes"`
}

// What the filters of all subscribers may take of memory, and those of one network.
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
	budget *limit.Budget
	client limit.Client
	now    atomic.Pointer[filter]

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
	o.now.Store(f)
	return nil
}

// end gives the memory back.
func (o *filterOf) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.budget.Give(o.client, o.held)
}

// newFilter checks options.
func newFilter(o filterOptions) (*filter, error) {
	if len(o.Collections) > maxWantedCollections {
		return nil, fmt.Errorf("too many wantedCollections: at most %d", maxWantedCollections)
	}
	if len(o.DIDs) > maxWantedDIDs {
		return nil, fmt.Errorf("too many wantedDids: at most %d", maxWantedDIDs)
	}
	f := &filter{maxSize: max(o.MaxSize, 0)}
	for _, c := range o.Collections {
		if prefix, ok := strings.CutSuffix(c, "*"); ok && strings.HasSuffix(prefix, ".") {
			if _, err := syntax.ParseNSID(prefix + "a"); err != nil && (strings.Count(prefix, ".") > 1 || len(prefix) > maxPrefix) {
				return nil, fmt.Errorf("wantedCollections: %.320q is no prefix of an NSID", c)
			}
			f.prefixes = append(f.prefixes, prefix)
			continue
		}
		nsid, err := syntax.ParseNSID(c)
		if err != nil {
			return nil, fmt.Errorf("wantedCollections: %w", err)
		}
		if f.collections == nil {
			f.collections = make(map[syntax.NSID]bool)
		}
		f.collections[nsid] = true
	}
	for _, d := range o.DIDs {
		did, err := syntax.ParseDID(d)
		if err != nil {
			return nil, fmt.Errorf("wantedDids: %w", err)
		}
		if f.dids == nil {
			f.dids = make(map[syntax.DID]bool)
		}
		f.dids[did] = true
	}
	return f, nil
}

// queryOptions reads options from parameters.
func queryOptions(q url.Values) (o filterOptions, err error) {
	o.Collections, o.DIDs = q["wantedCollections"], q["wantedDids"]
	if s := q.Get("maxMessageSizeBytes"); s != "" {
		if o.MaxSize, err = strconv.Atoi(s); err != nil {
			return o, errors.New("maxMessageSizeBytes must be an integer")
		}
	}
	return o, nil
}

// parseUpdate reads a message by which a subscriber changes its filter.
func parseUpdate(b []byte) (*filter, error) {
	var m struct {
		Type    string        `json:"type"`
		Payload filterOptions `json:"payload"`
	}
	if err := exactjson.Unmarshal(b, &m); err != nil || m.Type != "options_update" {
		return nil, errors.New("not an options_update")
	}
	return newFilter(m.Payload)
}

// account reports whether anything of an account is wanted.
func (f *filter) account(did syntax.DID) bool { return f.dids == nil || f.dids[did] }

// message reports whether a message is wanted. Those of no collection always are.
func (f *filter) message(m message) bool {
	if f.maxSize > 0 && len(m.bytes) > f.maxSize {
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
