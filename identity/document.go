package identity

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/mr-tron/base58"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Limits of ParseDocument.
const (
	MaxDocumentSize    = 128 << 10 // bytes
	MaxDocumentEntries = 256       // of each list
)

// Names that AT Protocol gives to parts of a document.
const (
	SigningKeyID = "atproto"
	PDSID        = "atproto_pds"
	PDSType      = "AtprotoPersonalDataServer"
)

// Types of verification methods.
const (
	keyMultikey   = "Multikey"
	keyLegacyK256 = "EcdsaSecp256k1VerificationKey2019"
	keyLegacyP256 = "EcdsaSecp256r1VerificationKey2019"
)

// Document is a DID document. It has only the members that the AT Protocol uses. Specification:
// DID, DID Documents.
type Document struct {
	// Context is the "@context" of the JSON form. If it is empty, MarshalJSON writes the contexts
	// that the document's keys need.
	Context             []string
	ID                  syntax.DID
	AlsoKnownAs         []string // URIs; a handle is "at://" and the handle
	VerificationMethods []VerificationMethod
	Services            []Service
}

// VerificationMethod is a public key of a document.
type VerificationMethod struct {
	ID                 string // "did:…#atproto" or "#atproto"
	Type               string // "Multikey", or one of the two legacy types
	Controller         string // DID
	PublicKeyMultibase string
}

// Service is a service that a document lists.
type Service struct {
	ID       string // "did:…#atproto_pds" or "#atproto_pds"
	Type     string
	Endpoint string // empty if it is not a string in the JSON form
}

// NewVerificationMethod returns the entry for a key with the fragment id, such as SigningKeyID, in
// the form for new documents.
func NewVerificationMethod(did syntax.DID, id string, key *crypto.PublicKey) VerificationMethod {
	return VerificationMethod{ID: string(did) + "#" + id, Type: keyMultikey, Controller: string(did), PublicKeyMultibase: key.Multikey()}
}

// Handle returns the handle that the document claims, in lower case: the first valid "at://" entry.
// It does not check that the handle points back: see [Resolver.Lookup].
func (d *Document) Handle() (syntax.Handle, bool) {
	for _, uri := range d.AlsoKnownAs {
		if name, ok := strings.CutPrefix(uri, "at://"); ok {
			if h, err := syntax.ParseHandle(name); err == nil {
				return h.Normalize(), true
			}
		}
	}
	return "", false
}

// SigningKey returns the key that signs the account's repository: the first valid key with the
// fragment "#atproto". If there is none, the error is ErrDocument.
func (d *Document) SigningKey() (*crypto.PublicKey, error) { return d.Key(SigningKeyID) }

// Key returns the first valid key with a fragment, such as "atproto_label", whose controller is the
// document's own DID. If there is none, the error is ErrDocument.
func (d *Document) Key(id string) (*crypto.PublicKey, error) {
	var reason error
	for _, m := range d.VerificationMethods {
		if !d.isFragment(m.ID, id) || m.Controller != string(d.ID) {
			continue
		}
		key, err := m.PublicKey()
		if err == nil {
			return key, nil
		}
		reason = err
	}
	if reason != nil {
		return nil, fmt.Errorf("%w: %s has no valid key #%s: %w", ErrDocument, d.ID, id, reason)
	}
	return nil, fmt.Errorf("%w: %s has no key #%s", ErrDocument, d.ID, id)
}

// PublicKey returns the key. It accepts the present form and two legacy forms.
func (m VerificationMethod) PublicKey() (*crypto.PublicKey, error) {
	switch m.Type {
	case keyMultikey:
		return crypto.ParseMultikey(m.PublicKeyMultibase)
	case keyLegacyK256:
		return parseLegacyKey(crypto.K256, m.PublicKeyMultibase)
	case keyLegacyP256:
		return parseLegacyKey(crypto.P256, m.PublicKeyMultibase)
	}
	return nil, fmt.Errorf("%w: verification method of type %.64q", crypto.ErrKey, m.Type)
}

// parseLegacyKey reads a key without multicodec; the specification wants the
// uncompressed point, but compressed ones were published too.
func parseLegacyKey(alg crypto.Algorithm, multibase string) (*crypto.PublicKey, error) {
	const most = 96 // the real ones have 89; base58 takes quadratic time
	if len(multibase) < 2 || len(multibase) > most || multibase[0] != 'z' {
		return nil, fmt.Errorf("%w: not base58btc of a point", crypto.ErrKey)
	}
	b, err := base58.Decode(multibase[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", crypto.ErrKey, err)
	}
	return crypto.ParsePublicKey(alg, b)
}

// PDS returns the URL of the server that hosts the account: scheme, host and optional port, without
// a trailing slash. It is untrusted: make requests to it with a client like that of package
// safehttp.
func (d *Document) PDS() (string, bool) {
	endpoint, ok := d.Service(PDSID, PDSType)
	if !ok {
		return "", false
	}
	if u, err := url.Parse(endpoint); err != nil || u.Path != "" {
		return "", false
	}
	return endpoint, true
}

// Service returns the endpoint of the first service with a fragment, such as "bsky_fg", and a type;
// an empty type means any. The endpoint is an http or https URL with a host, without user, query,
// fragment and trailing slash; others are ignored.
func (d *Document) Service(id, typ string) (string, bool) {
	for _, s := range d.Services {
		if d.isFragment(s.ID, id) && (typ == "" || s.Type == typ) {
			endpoint := strings.TrimSuffix(s.Endpoint, "/")
			u, err := url.Parse(endpoint)
			if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
				u.User != nil || strings.ContainsAny(endpoint, "?#") {
				return "", false
			}
			return endpoint, true
		}
	}
	return "", false
}

// isFragment reports whether an entry's ID is the fragment, relative or of this DID.
func (d *Document) isFragment(entry, fragment string) bool {
	fragment = strings.TrimPrefix(fragment, "#")
	base, got, ok := strings.Cut(entry, "#")
	return ok && got == fragment && (base == "" || base == string(d.ID))
}

// size returns about how many bytes of memory the document takes.
func (d *Document) size() int {
	n := 0
	for _, s := range d.Context {
		n += 16 + len(s)
	}
	for _, s := range d.AlsoKnownAs {
		n += 16 + len(s)
	}
	for _, m := range d.VerificationMethods {
		n += 64 + len(m.ID) + len(m.Type) + len(m.Controller) + len(m.PublicKeyMultibase)
	}
	for _, s := range d.Services {
		n += 48 + len(s.ID) + len(s.Type) + len(s.Endpoint)
	}
	return n
}

// The JSON forms.
type (
	documentJSON struct {
		Context             []string     `json:"@context"`
		ID                  syntax.DID   `json:"id"`
		AlsoKnownAs         []string     `json:"alsoKnownAs"`
		VerificationMethods []methodJSON `json:"verificationMethod"`
		Services            []svcJSON    `json:"service"`
	}
	methodJSON struct {
		ID                 string `json:"id"`
		Type               string `json:"type"`
		Controller         string `json:"controller"`
		PublicKeyMultibase string `json:"publicKeyMultibase,omitempty"`
	}
	svcJSON struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		Endpoint string `json:"serviceEndpoint"`
	}
)

// MarshalJSON implements json.Marshaler.
func (d Document) MarshalJSON() ([]byte, error) {
	out := documentJSON{Context: d.Context, ID: d.ID, AlsoKnownAs: append([]string{}, d.AlsoKnownAs...),
		VerificationMethods: []methodJSON{}, Services: []svcJSON{}}
	if len(out.Context) == 0 {
		out.Context = d.context()
	}
	for _, m := range d.VerificationMethods {
		out.VerificationMethods = append(out.VerificationMethods, methodJSON(m))
	}
	for _, s := range d.Services {
		out.Services = append(out.Services, svcJSON(s))
	}
	return json.Marshal(out)
}

// context returns the JSON-LD contexts that the document's keys call for.
func (d *Document) context() []string {
	list := []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"}
	seen := map[crypto.Algorithm]bool{}
	for _, m := range d.VerificationMethods {
		key, err := m.PublicKey()
		if err != nil || seen[key.Algorithm()] {
			continue // a kind of key without a context of its own
		}
		seen[key.Algorithm()] = true
		if key.Algorithm() == crypto.K256 {
			list = append(list, "https://w3id.org/security/suites/secp256k1-2019/v1")
		} else {
			list = append(list, "https://w3id.org/security/suites/ecdsa-2019/v1")
		}
	}
	return list
}

// UnmarshalJSON implements json.Unmarshaler, within the limits of ParseDocument.
func (d *Document) UnmarshalJSON(b []byte) error {
	doc, err := ParseDocument(b)
	if err == nil {
		*d = *doc
	}
	return err
}

// ParseDocument reads a DID document from JSON. It ignores members and entries that the AT Protocol
// does not use, and is strict about sizes and about the types of those it uses. It does not check
// the document's ID: compare it with the requested DID. Errors are ErrTooLarge and ErrDocument.
func ParseDocument(b []byte) (*Document, error) {
	if len(b) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: DID document of %d bytes", ErrTooLarge, len(b))
	}
	// Members are found by their exact names, unlike those of a Go struct.
	var members map[string]json.RawMessage
	if err := exactjson.Unmarshal(b, &members); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	doc := &Document{}
	var id string
	if err := member(members, "id", &id); err != nil {
		return nil, err
	}
	did, err := syntax.ParseDID(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	doc.ID = did
	doc.Context = stringsOf(members["@context"])
	if err := member(members, "alsoKnownAs", &doc.AlsoKnownAs); err != nil {
		return nil, err
	}
	var methods, services []map[string]json.RawMessage
	if err := member(members, "verificationMethod", &methods); err != nil {
		return nil, err
	}
	if err := member(members, "service", &services); err != nil {
		return nil, err
	}
	if max(len(doc.Context), len(doc.AlsoKnownAs), len(methods), len(services)) > MaxDocumentEntries {
		return nil, fmt.Errorf("%w: DID document with a list of more than %d entries", ErrTooLarge, MaxDocumentEntries)
	}
	for _, m := range methods {
		doc.VerificationMethods = append(doc.VerificationMethods, VerificationMethod{
			ID: stringOf(m["id"]), Type: stringOf(m["type"]), Controller: stringOf(m["controller"]), PublicKeyMultibase: stringOf(m["publicKeyMultibase"])})
	}
	for _, s := range services {
		doc.Services = append(doc.Services, Service{ID: stringOf(s["id"]), Type: stringOf(s["type"]), Endpoint: stringOf(s["serviceEndpoint"])})
	}
	return doc, nil
}

// member reads a member of a JSON object, if it is there.
func member(members map[string]json.RawMessage, name string, to any) error {
	raw, ok := members[name]
	if !ok {
		return nil
	}
	if err := exactjson.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDocument, name, err)
	}
	return nil
}

// stringOf reads a JSON string; anything else is "".
func stringOf(raw json.RawMessage) (s string) {
	if exactjson.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// stringsOf reads a JSON string or the strings of an array.
func stringsOf(raw json.RawMessage) (list []string) {
	if s := stringOf(raw); s != "" {
		return []string{s}
	}
	var items []json.RawMessage
	if exactjson.Unmarshal(raw, &items) != nil {
		return nil
	}
	for _, item := range items {
		if s := stringOf(item); s != "" {
			list = append(list, s)
		}
	}
	return list
}
