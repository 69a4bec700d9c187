package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

const (
	multikeyK256 = "zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"
	legacyK256   = "zQYEBzXeuTM9UR3rfvNag6L3RNAs5pQZyYPsomTsgQhsxLdEgCrPTLgFna8yqCnxPpNT7DBk6Ym3dgPKNu86vt9GR"
)

func doc(parts string) string { return `{"id":"did:web:a.example.com"` + parts + `}` }

func method(id, typ, controller, key string) string {
	return fmt.Sprintf(`{"id":%q,"type":%q,"controller":%q,"publicKeyMultibase":%q}`, id, typ, controller, key)
}

func TestDocumentSigningKey(t *testing.T) {
	const did = "did:web:a.example.com"
	want, err := crypto.ParseMultikey(multikeyK256)
	if err != nil {
		t.Fatal(err)
	}
	p256 := key(t, 1).PublicKey()
	for _, tc := range []struct {
		name    string
		methods string
		want    *crypto.PublicKey
	}{
		{"full id", method(did+"#atproto", "Multikey", did, multikeyK256), want},
		{"relative id", method("#atproto", "Multikey", did, multikeyK256), want},
		{"P-256", method("#atproto", "Multikey", did, p256.Multikey()), p256},
		{"legacy K-256, uncompressed", method("#atproto", "EcdsaSecp256k1VerificationKey2019", did, legacyK256), want},
		{"first valid of several", method("#atproto", "Multikey", did, "zBroken") + "," + method("#atproto", "Multikey", did, multikeyK256), want},
		{"after keys of other names and kinds", method("#other", "Multikey", did, p256.Multikey()) + `,{"id":7,"publicKeyJwk":{}},` + method("#atproto", "Multikey", did, multikeyK256), want},
		{"none", "", nil},
		{"of another DID's fragment", method("did:web:b.example.com#atproto", "Multikey", did, multikeyK256), nil},
		{"controlled by another DID", method("#atproto", "Multikey", "did:web:b.example.com", multikeyK256), nil},
		{"fragment without #", method("atproto", "Multikey", did, multikeyK256), nil},
		{"longer fragment", method("#atproto2", "Multikey", did, multikeyK256), nil},
		{"unknown type", method("#atproto", "Ed25519VerificationKey2020", did, multikeyK256), nil},
		{"legacy key of the other curve", method("#atproto", "EcdsaSecp256r1VerificationKey2019", did, legacyK256), nil},
		{"quadratic base58", method("#atproto", "Multikey", did, "z"+strings.Repeat("2", 20_000)), nil},
		{"quadratic base58, legacy", method("#atproto", "EcdsaSecp256k1VerificationKey2019", did, "z"+strings.Repeat("2", 20_000)), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := ParseDocument([]byte(doc(`,"verificationMethod":[` + tc.methods + `]`)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.SigningKey()
			if tc.want == nil {
				if !errors.Is(err, ErrDocument) {
					t.Errorf("%v, %v", got, err)
				}
			} else if err != nil || !got.Equal(tc.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestDocumentHandle(t *testing.T) {
	for aka, want := range map[string]syntax.Handle{
		`[]`:                                    "",
		`["https://a.example.com"]`:             "",
		`["at://a.example.com"]`:                "a.example.com",
		`["at://A.Example.COM"]`:                "a.example.com",
		`["x","at://not a handle","at://b.co"]`: "b.co",
		`["at://b.co/app.bsky.feed.post/1"]`:    "",
		`["at://did:web:b.co"]`:                 "",
		`["at://a.co","at://b.co"]`:             "a.co",
		`null`:                                  "",
	} {
		d, err := ParseDocument([]byte(doc(`,"alsoKnownAs":` + aka)))
		if err != nil {
			t.Fatal(aka, err)
		}
		if got, ok := d.Handle(); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %t", aka, got, ok)
		}
	}
}

func TestDocumentPDS(t *testing.T) {
	for endpoint, want := range map[string]string{
		`"https://pds.example.com"`:           "https://pds.example.com",
		`"https://pds.example.com/"`:          "https://pds.example.com",
		`"https://pds.example.com:8443"`:      "https://pds.example.com:8443",
		`"http://localhost:2583"`:             "http://localhost:2583",
		`"https://pds.example.com/xrpc"`:      "",
		`"https://pds.example.com?"`:          "",
		`"https://pds.example.com?a=b"`:       "",
		`"https://pds.example.com#x"`:         "",
		`"https://user@pds.example.com"`:      "",
		`"https://"`:                          "",
		`"https://:443"`:                      "",
		`"ftp://pds.example.com"`:             "",
		`"file:///etc/passwd"`:                "",
		`"javascript:alert(1)"`:               "",
		`"pds.example.com"`:                   "",
		`"https://pds.example.com\n"`:         "",
		`{"origins":["https://example.com"]}`: "",
		`["https://pds.example.com"]`:         "",
		`null`:                                "",
	} {
		for _, id := range []string{"#atproto_pds", "did:web:a.example.com#atproto_pds"} {
			d, err := ParseDocument([]byte(doc(`,"service":[{"id":"` + id + `","type":"AtprotoPersonalDataServer","serviceEndpoint":` + endpoint + `}]`)))
			if err != nil {
				t.Fatal(endpoint, err)
			}
			if got, ok := d.PDS(); got != want || ok != (want != "") {
				t.Errorf("%s: %q, %t", endpoint, got, ok)
			}
		}
	}
	d := &Document{ID: "did:web:a.example.com", Services: []Service{
		{"#atproto_pds", "Other", "https://other.example.com"},
		{"did:web:b.example.com#atproto_pds", PDSType, "https://b.example.com"},
		{"#atproto_pds", PDSType, "https://first.example.com"},
		{"#atproto_pds", PDSType, "https://second.example.com"},
		{"#bsky_fg", "BskyFeedGenerator", "https://feed.example.com/path"},
	}}
	if got, _ := d.PDS(); got != "https://first.example.com" {
		t.Error(got)
	}
	if got, _ := d.Service("#bsky_fg", ""); got != "https://feed.example.com/path" {
		t.Error(got)
	}
	if got, ok := d.Service("bsky_fg", "Other"); ok {
		t.Error(got)
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want error
	}{
		"empty":               {"", ErrDocument},
		"null":                {"null", ErrDocument},
		"array":               {"[]", ErrDocument},
		"no id":               {"{}", ErrDocument},
		"id in upper case":    {`{"ID":"did:web:a.example.com"}`, ErrDocument},
		"id is no DID":        {`{"id":"https://a.example.com"}`, ErrDocument},
		"id is a number":      {`{"id":1}`, ErrDocument},
		"handles not strings": {doc(`,"alsoKnownAs":[1]`), ErrDocument},
		"services an object":  {doc(`,"service":{}`), ErrDocument},
		"method a string":     {doc(`,"verificationMethod":["#atproto"]`), ErrDocument},
		"bytes after it":      {doc("") + "{}", ErrDocument},
		"too large":           {doc(`,"x":"` + strings.Repeat("a", MaxDocumentSize) + `"`), ErrTooLarge},
		"too many services":   {doc(`,"service":[` + strings.Repeat("{},", MaxDocumentEntries) + `{}]`), ErrTooLarge},
		"too many handles":    {doc(`,"alsoKnownAs":[` + strings.Repeat(`"",`, MaxDocumentEntries) + `""]`), ErrTooLarge},
		"nested deeply":       {doc(`,"x":` + strings.Repeat(`[`, 60_000)), ErrDocument},
		"an error page":       {"<!doctype html>", ErrDocument},
		"id twice":            {`{"id":"did:web:a.example.com","id":"did:web:b.example.com"}`, ErrDocument},
		"id twice, escaped":   {`{"id":"did:web:a.example.com","\u0069d":"did:web:b.example.com"}`, ErrDocument},
		"a key twice":         {doc(`,"verificationMethod":[{"id":"#atproto","publicKeyMultibase":"zA","publicKeyMultibase":"zB"}]`), ErrDocument},
		"an unknown twice":    {doc(`,"x":{"a":1,"a":2}`), ErrDocument},
		"not UTF-8":           {doc(",\"x\":\"\xff\""), ErrDocument},
	} {
		if d, err := ParseDocument([]byte(tc.in)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}

// A list may have as many entries as are allowed.
func TestDocumentWithTheMostEntries(t *testing.T) {
	list := func(entry string) string { return "[" + strings.Repeat(entry+",", MaxDocumentEntries-1) + entry + "]" }
	d, err := ParseDocument([]byte(doc(`,"alsoKnownAs":` + list(`""`) + `,"service":` + list(`{}`) + `,"verificationMethod":` + list(`{}`))))
	if err != nil || len(d.AlsoKnownAs) != MaxDocumentEntries || len(d.Services) != MaxDocumentEntries || len(d.VerificationMethods) != MaxDocumentEntries {
		t.Error(err)
	}
}

// A document may be as long as is allowed.
func TestDocumentOfTheGreatestSize(t *testing.T) {
	text := doc(`,"x":"` + strings.Repeat("a", MaxDocumentSize-len(doc(`,"x":""`))) + `"`)
	if _, err := ParseDocument([]byte(text)); len(text) != MaxDocumentSize || err != nil {
		t.Errorf("%d bytes: %v", len(text), err)
	}
	if _, err := ParseDocument([]byte(text + " ")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte more: %v", err)
	}
}

// Members in another case are unknown ones.
func TestDocumentNamesAreExact(t *testing.T) {
	d, err := ParseDocument([]byte(`{"id":"did:web:a.example.com","ID":"did:web:b.example.com","alsoKnownAs":["at://a.example.com"],"AlsoKnownAs":["at://b.example.com"],
		"service":[{"id":"#atproto_pds","ID":"#x","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://a.example.com","ServiceEndpoint":"https://b.example.com"}],"Service":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	pds, _ := d.PDS()
	if h, _ := d.Handle(); d.ID != "did:web:a.example.com" || h != "a.example.com" || pds != "https://a.example.com" {
		t.Errorf("%+v", d)
	}
}

func TestDocumentTolerates(t *testing.T) {
	for _, parts := range []string{
		`,"@context":"https://www.w3.org/ns/did/v1"`,
		`,"@context":["https://www.w3.org/ns/did/v1",{"x":"y"}]`,
		`,"@context":{}`,
		`,"authentication":["#atproto",{}],"x":1.5,"deactivated":false`,
		`,"service":[{}],"verificationMethod":[{"publicKeyJwk":{"kty":"EC"}}]`,
		`,"service":null,"verificationMethod":null,"alsoKnownAs":null`,
	} {
		if _, err := ParseDocument([]byte(doc(parts))); err != nil {
			t.Errorf("%s: %v", parts, err)
		}
	}
}

func TestDocumentContext(t *testing.T) {
	d := Document{ID: "did:web:a.example.com"}
	d.VerificationMethods = []VerificationMethod{
		NewVerificationMethod(d.ID, SigningKeyID, key(t, 1).PublicKey()),
		NewVerificationMethod(d.ID, "atproto_label", key(t, 0).PublicKey()),
		NewVerificationMethod(d.ID, "more", key(t, 2).PublicKey()),
		{ID: "#ed25519", Type: keyMultikey, PublicKeyMultibase: "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"},
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var got Document
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1",
		"https://w3id.org/security/suites/ecdsa-2019/v1", "https://w3id.org/security/suites/secp256k1-2019/v1"}
	if diff := cmp.Diff(want, got.Context); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(d.VerificationMethods, got.VerificationMethods); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(doc("")))
	f.Add([]byte(doc(`,"@context":["https://www.w3.org/ns/did/v1"],"alsoKnownAs":["at://a.example.com"],"verificationMethod":[` +
		method("#atproto", "Multikey", "did:web:a.example.com", multikeyK256) + `],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://a.example.com"}]`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ParseDocument(in)
		if err != nil {
			if !errors.Is(err, ErrDocument) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		if pds, ok := d.PDS(); ok && !strings.HasPrefix(pds, "http") {
			t.Fatal(pds)
		}
		_, _ = d.SigningKey()
		_, _ = d.Handle()
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > MaxDocumentSize {
			return // escapes made it longer
		}
		again, err := ParseDocument(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Context) == 0 {
			d.Context = again.Context
		}
		one, _ := json.Marshal(d)
		two, _ := json.Marshal(again)
		if string(one) != string(two) {
			t.Fatalf("%s\n%s", one, two)
		}
	})
}

func BenchmarkParseDocument(b *testing.B) {
	in := []byte(doc(`,"alsoKnownAs":["at://a.example.com"],"verificationMethod":[` +
		method("#atproto", "Multikey", "did:web:a.example.com", multikeyK256) + `],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://a.example.com"}]`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseDocument(in); err != nil {
			b.Fatal(err)
		}
	}
}
