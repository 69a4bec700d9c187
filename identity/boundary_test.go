package identity

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// What a directory takes has bounds on each part; the part at its bound is taken, one byte more is not.
func TestPLCPartsAtTheirBounds(t *testing.T) {
	const uri = "https://a.example/"
	alias := func(n int) string { return uri + strings.Repeat("x", n-len(uri)) }
	key := func(n int) string { return "did:key:z" + strings.Repeat("2", n-len("did:key:z")) }
	service := func(typ, endpoint int) PLCService {
		return PLCService{Type: strings.Repeat("T", typ), Endpoint: alias(endpoint)}
	}
	id := func(n int) string { return strings.Repeat("i", n) }
	for name, c := range map[string]struct{ got, want bool }{
		"the longest alias":         {validAlias(alias(newPLCAlias)), true},
		"a longer alias":            {validAlias(alias(newPLCAlias + 1)), false},
		"an alias without scheme":   {validAlias("a.example/x"), false},
		"an alias without host":     {validAlias("https:///x"), false},
		"an alias of any scheme":    {validAlias("//a.example/x"), false},
		"an alias that is no URL":   {validAlias("https://a.example/%zz"), false},
		"a handle":                  {validAlias("at://a.example.com"), true},
		"no handle":                 {validAlias("at://a.example.com/x"), false},
		"the longest key":           {validPLCKey("other", key(newPLCKey)), true},
		"a longer key":              {validPLCKey("other", key(newPLCKey+1)), false},
		"the longest name":          {validPLCKey(id(newPLCID), key(60)), true},
		"a longer name":             {validPLCKey(id(newPLCID+1), key(60)), false},
		"a key without a name":      {validPLCKey("", key(60)), false},
		"a key that is empty":       {validPLCKey("other", "did:key:z"), false},
		"a key that is no base58":   {validPLCKey("other", "did:key:z0OIl"), false},
		"a signing key that is not": {validPLCKey(SigningKeyID, key(60)), false},
		"the longest type":          {validPLCService("other", service(newPLCType, 60)), true},
		"a longer type":             {validPLCService("other", service(newPLCType+1, 60)), false},
		"no type":                   {validPLCService("other", service(0, 60)), false},
		"the longest endpoint":      {validPLCService("other", service(1, newPLCEndpoint)), true},
		"a longer endpoint":         {validPLCService("other", service(1, newPLCEndpoint+1)), false},
		"the longest id":            {validPLCService(id(newPLCID), service(1, 60)), true},
		"a longer id":               {validPLCService(id(newPLCID+1), service(1, 60)), false},
		"no id":                     {validPLCService("", service(1, 60)), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", name, c.got)
		}
	}
}

// A host that is away for a moment is not one without an account.
func TestStatusOfHandles(t *testing.T) {
	for status, want := range map[int]error{
		199: ErrUnavailable, 200: nil, 299: nil, 300: ErrUnavailable, 304: ErrUnavailable, 399: ErrUnavailable,
		400: ErrNotFound, http.StatusRequestTimeout: ErrUnavailable, http.StatusTooManyRequests: ErrUnavailable, 404: ErrNotFound,
		499: ErrNotFound, 500: ErrUnavailable, 503: ErrUnavailable,
	} {
		if err := httpStatus(status); !errors.Is(err, want) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// Where the document of a did:web lies. Names of this machine count in development alone.
func TestAddressesOfWebDIDs(t *testing.T) {
	for did, want := range map[syntax.DID]struct{ public, development string }{
		"did:web:a.example.com":         {"https://a.example.com", "https://a.example.com"},
		"did:web:a.test":                {"", "https://a.test"},
		"did:web:localhost":             {"", "http://localhost"},
		"did:web:localhost%3A1":         {"", "http://localhost:1"},
		"did:web:localhost%3A65535":     {"", "http://localhost:65535"},
		"did:web:localhost%3A65536":     {},
		"did:web:localhost%3A0":         {},
		"did:web:localhost%3A080":       {},
		"did:web:localhost%3A":          {},
		"did:web:localhost%3Ax":         {},
		"did:web:localhost%3a80":        {},
		"did:web:a.example.com%3A443":   {},
		"did:web:a.example.com:user":    {},
		"did:web:A.example.com":         {},
		"did:web:a.local":               {},
		"did:web:localhost.example.com": {"https://localhost.example.com", "https://localhost.example.com"},
	} {
		for development, want := range map[bool]string{false: want.public, true: want.development} {
			if want != "" {
				want += "/.well-known/did.json"
			}
			got, err := webURL(did, development)
			if got != want || want == "" && !errors.Is(err, ErrInvalid) || want != "" && err != nil {
				t.Errorf("%s, in development: %v: %q, %v; want %q", did, development, got, err, want)
			}
		}
	}
}

// A handle may be too long for DNS, with the label before it. Then it is not asked for there.
func TestHandlesTooLongForDNS(t *testing.T) {
	label := strings.Repeat("a", 63) + "."
	for n, want := range map[int]error{244: nil, 245: ErrNotFound} {
		handle := syntax.Handle(label + label + label + strings.Repeat("b", n-3*64-4) + ".com")
		dns := fakeDNS{"_atproto." + string(handle) + ".": {"did=" + string(alice)}}
		if did, err := lookupDNS(ctx, dns, handle); len(handle) != n || !errors.Is(err, want) || (err == nil) != (did == alice) {
			t.Errorf("%d characters: %q, %v", len(handle), did, err)
		}
	}
}

// Keys of legacy documents have bounds, whatever type they are said to be of.
func TestLegacyKeysThatAreNone(t *testing.T) {
	for _, typ := range []string{keyLegacyK256, keyLegacyP256, keyMultikey, "Ed25519VerificationKey2018", ""} {
		for _, text := range []string{"", "z", "z2", "y22222", "z0OIl", "z" + strings.Repeat("2", 95), "z" + strings.Repeat("2", 96), "z" + strings.Repeat("2", 100_000)} {
			if key, err := (VerificationMethod{Type: typ, PublicKeyMultibase: text}).PublicKey(); key != nil || !errors.Is(err, crypto.ErrKey) {
				t.Errorf("%s, %.20q: %v", typ, text, err)
			}
		}
	}
}

// An operation may have as many rotation keys as others have had, and what it has none of is empty, not
// null.
func TestListsOfOperations(t *testing.T) {
	for n, want := range map[int]error{MaxPLCRotationKeys: nil, MaxPLCRotationKeys + 1: ErrOperation} {
		op := &PLCOperation{Type: PLCUpdate, RotationKeys: make([]string, n)}
		if _, err := op.encode(false); !errors.Is(err, want) {
			t.Errorf("%d rotation keys: %v", n, err)
		}
	}
	got, err := PLCOperation{Type: PLCUpdate}.MarshalJSON()
	if want := `{"alsoKnownAs":[],"prev":null,"rotationKeys":[],"services":{},"type":"plc_operation","verificationMethods":{}}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}
