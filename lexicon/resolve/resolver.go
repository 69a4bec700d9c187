package resolve

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/loadcache"
	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Records reads records of accounts on any server; *records.Reader of package xrpc/records
// implements it. It must be safe for concurrent use.
type Records interface {
	// Record returns a record in DAG-CBOR, and the revision of the commit that proves it. It must
	// verify that the record is the account's, and bound its size.
	//
	// If there is no record, the error matches fs.ErrNotExist. If a later attempt may succeed, the
	// error, or one that it wraps, has a method Temporary() bool that returns true. Any other error
	// means that what was found is not the account's record.
	Record(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (record []byte, rev syntax.TID, err error)
}

// DNS looks up TXT records; *net.Resolver implements it. A name without records gives a
// *net.DNSError with IsNotFound.
type DNS interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Resolver resolves and caches schemas. The zero value knows no schemas. With Records it finds
// those on the network:
//
//	r := &resolve.Resolver{Base: lexicon.Builtin(), Records: new(records.Reader)}
//
// It is safe for concurrent use. Do not copy it, or change its fields after the first use.
type Resolver struct {
	// Base has schemas that take precedence over the network; nil: none.
	Base *lexicon.Catalog
	// Offline forbids requests: schemas outside of Base give ErrOffline.
	Offline bool

	// Records reads the records of schemas. Nil: the Resolver is offline.
	Records Records
	// DNS looks up TXT records; default: net.DefaultResolver. It is required on WebAssembly, which
	// has no sockets; identity.DNSOverHTTPS implements it.
	DNS DNS

	// TTL is how long a schema is fresh; default 1 hour. The specification allows at most 24 hours.
	TTL time.Duration
	// StaleFor is how long after TTL a schema is used if it cannot be resolved again; default 90
	// days; negative: not at all.
	StaleFor time.Duration
	// NegativeTTL is how long a failure is cached, and how long a stale schema is used before the
	// next attempt; default 5 minutes.
	NegativeTTL time.Duration
	// Timeout bounds one resolution, including all that a schema refers to; default 10 seconds.
	Timeout time.Duration
	// MaxSize bounds a schema, in bytes of DAG-CBOR; default 512 KiB.
	MaxSize int
	// MaxEntries bounds the number of cached schemas and failures; default 1024. A schema of more
	// than 8 KiB counts as several.
	MaxEntries int
	// MaxRefs bounds how many documents are resolved because a schema refers to them, directly or
	// indirectly; default 64.
	MaxRefs int
	// Concurrency bounds the number of concurrent resolutions; default 16. Others wait.
	Concurrency int
	// Now is the clock; default time.Now.
	Now func() time.Time

	once     sync.Once
	cache    *loadcache.Cache[syntax.NSID, *Schema]
	slots    chan struct{}
	catalogs catalogs
}

// Schema is a published schema.
type Schema struct {
	Document *lexicon.Document // shared: not to be changed
	DID      syntax.DID        // of the account that published it
	CID      cid.Cid           // of the record
	Rev      syntax.TID        // of the commit that proved it
	size     int
}

// URI returns the AT-URI of the record.
func (s *Schema) URI() syntax.ATURI {
	return syntax.ATURI("at://" + string(s.DID) + "/" + Collection + "/" + string(s.Document.ID))
}

func defaultDNS() DNS {
	if platform.Wasm {
		return noDNS{}
	}
	return net.DefaultResolver
}

// noDNS is where there is no DNS.
type noDNS struct{}

func (noDNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "there are no sockets, and Resolver.DNS is not set", Name: name, IsTemporary: true}
}

func (r *Resolver) init() {
	r.once.Do(func() {
		if r.DNS == nil {
			r.DNS = defaultDNS()
		}
		r.cache = loadcache.New(loadcache.Config[syntax.NSID, *Schema]{
			TTL: or(r.TTL, time.Hour), Stale: or(r.StaleFor, 90*24*time.Hour), Negative: or(r.NegativeTTL, 5*time.Minute),
			Timeout: r.timeout(), Max: or(r.MaxEntries, 1024), Now: r.now,
			Cost:   func(s *Schema) int { return 1 + s.size>>13 },
			GaveUp: func(id syntax.NSID, err error) error { return &Error{ID: id, Kind: ErrUnavailable, Err: err} },
		})
		r.slots = make(chan struct{}, or(r.Concurrency, 16))
	})
}

// or returns v, or a default if v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (r *Resolver) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r *Resolver) timeout() time.Duration { return or(r.Timeout, 10*time.Second) }
func (r *Resolver) maxSize() int           { return or(r.MaxSize, 512<<10) }

// Schema resolves a schema over the network, even if Base has it. Errors are *Error.
func (r *Resolver) Schema(ctx context.Context, id syntax.NSID) (*Schema, error) {
	r.init()
	if r.Offline || r.Records == nil {
		return nil, &Error{ID: id, Kind: ErrOffline}
	}
	if _, err := syntax.ParseNSID(string(id)); err != nil {
		return nil, &Error{ID: id, Kind: ErrInvalid, Err: err}
	}
	return r.cache.Get(ctx, id, func(ctx context.Context, old *Schema, held bool) (*Schema, error) {
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		case <-ctx.Done():
			return nil, &Error{ID: id, Kind: ErrUnavailable, Err: ctx.Err()}
		}
		s, err := r.load(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case held && old.DID == s.DID && s.Rev < old.Rev:
			return old, nil // the server went back; what it signed later holds
		}
		return s, nil
	})
}

// Document returns a document from Base, or resolves it.
func (r *Resolver) Document(ctx context.Context, id syntax.NSID) (*lexicon.Document, error) {
	doc, _, err := r.document(ctx, id)
	return doc, err
}

// document returns a document, and its size if it is from the network.
func (r *Resolver) document(ctx context.Context, id syntax.NSID) (*lexicon.Document, int, error) {
	if r.Base != nil {
		if doc, ok := r.Base.Lookup(id); ok {
			return doc, 0, nil
		}
	}
	s, err := r.Schema(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	return s.Document, s.size, nil
}

// PermissionSet returns the permission set of an NSID. If the document is something else, the error
// is ErrInvalid.
func (r *Resolver) PermissionSet(ctx context.Context, id syntax.NSID) (*lexicon.PermissionSet, error) {
	doc, err := r.Document(ctx, id)
	if err != nil {
		return nil, err
	}
	set, ok := doc.Main().(*lexicon.PermissionSet)
	if !ok {
		return nil, &Error{ID: id, Kind: ErrInvalid, Step: "schema", Err: errNotPermissionSet}
	}
	return set, nil
}
