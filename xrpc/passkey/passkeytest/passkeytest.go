// Package passkeytest has a software authenticator, for tests of pages and methods with passkeys
// (WebAuthn). It signs any request. Its fields make it sign what a real authenticator would refuse.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/pdskit/pdskit/internal/exactjson"
)

// Flags of authenticator data.
const (
	Present  byte = 1
	Verified byte = 4
	Eligible byte = 8
	BackedUp byte = 16
	attested byte = 64
)

// Authenticator is a software authenticator with one passkey, together with its browser.
type Authenticator struct {
	T   testing.TB
	Key *ecdsa.PrivateKey
	// ID is the ID of its passkey, and Handle the user handle for which it was registered.
	ID, Handle []byte
	Counter    uint32
	Flags      byte
	// Origin is the origin of the page, according to the browser.
	Origin string
	// RPID is the relying party ID to sign; empty: that of the options.
	RPID string
	// Said changes the client data of the browser; nil changes nothing.
	Said func(map[string]any)
}

// New returns an authenticator that verifies its user, in a browser at an origin.
func New(t testing.TB, origin string) *Authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 32)
	rand.Read(id)
	return &Authenticator{T: t, Key: key, ID: id, Flags: Present | Verified, Origin: origin}
}

func (a *Authenticator) ok(err error) {
	a.T.Helper()
	if err != nil {
		a.T.Fatal(err)
	}
}

var b64 = base64.RawURLEncoding

// clientData is what the browser says.
func (a *Authenticator) clientData(purpose, challenge string) []byte {
	a.T.Helper()
	said := map[string]any{"type": purpose, "challenge": challenge, "origin": a.Origin, "crossOrigin": false}
	if a.Said != nil {
		a.Said(said)
	}
	text, err := json.Marshal(said)
	a.ok(err)
	return text
}

// data is authenticator data.
func (a *Authenticator) data(rpID string, flags byte) []byte {
	if a.RPID != "" {
		rpID = a.RPID
	}
	hash := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.Counter)
}

// Create returns the response to creation options (navigator.credentials.create), in JSON.
func (a *Authenticator) Create(options []byte) []byte {
	a.T.Helper()
	type named struct {
		ID string `json:"id"`
	}
	var o struct {
		Challenge string `json:"challenge"`
		RP        named  `json:"rp"`
		User      named  `json:"user"`
	}
	a.ok(exactjson.UnmarshalPlain(options, &o))
	handle, err := b64.DecodeString(o.User.ID)
	a.ok(err)
	a.Handle = handle
	point, err := a.Key.PublicKey.Bytes()
	a.ok(err)
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	a.ok(err)
	data := append(a.data(o.RP.ID, a.Flags|attested), make([]byte, 16)...) // no AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.ID)))
	data = append(append(data, a.ID...), cose...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	a.ok(err)
	return a.answer(map[string]any{
		"clientDataJSON": b64.EncodeToString(a.clientData("webauthn.create", o.Challenge)), "attestationObject": b64.EncodeToString(object),
		"transports": []string{"internal", "hybrid", "<script>"},
	})
}

// Get returns the response to request options (navigator.credentials.get), in JSON.
func (a *Authenticator) Get(options []byte) []byte {
	a.T.Helper()
	var o struct {
		Challenge string `json:"challenge"`
		RPID      string `json:"rpId"`
	}
	a.ok(exactjson.UnmarshalPlain(options, &o))
	said, data := a.clientData("webauthn.get", o.Challenge), a.data(o.RPID, a.Flags)
	hash := sha256.Sum256(said)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.Key, digest[:])
	a.ok(err)
	return a.answer(map[string]any{
		"clientDataJSON": b64.EncodeToString(said), "authenticatorData": b64.EncodeToString(data), "signature": b64.EncodeToString(signature),
		"userHandle": b64.EncodeToString(a.Handle),
	})
}

func (a *Authenticator) answer(response map[string]any) []byte {
	a.T.Helper()
	id := b64.EncodeToString(a.ID)
	text, err := json.Marshal(map[string]any{
		"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}},
		"authenticatorAttachment": "platform",
	})
	a.ok(err)
	return text
}
