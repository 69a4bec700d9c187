package passkey_test

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
)

// Flags of authenticator data.
const (
	present, verified, eligible, backedUp, attested = 1, 4, 8, 16, 64
)

// authenticator is one in software, with one passkey. The browser that it is in is at an origin.
type authenticator struct {
	t       *testing.T
	key     *ecdsa.PrivateKey
	id      []byte
	handle  []byte // that it was registered for
	counter uint32
	flags   byte
	origin  string
	rpID    string // whose hash it signs; empty: that of the options
	// said changes what the browser says; nil changes nothing.
	said func(map[string]any)
}

func newAuthenticator(t *testing.T) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 32)
	rand.Read(id)
	return &authenticator{t: t, key: key, id: id, flags: present | verified, origin: origin}
}

func (a *authenticator) ok(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

var b64 = base64.RawURLEncoding

// clientData is what the browser says.
func (a *authenticator) clientData(purpose, challenge string) []byte {
	a.t.Helper()
	said := map[string]any{"type": purpose, "challenge": challenge, "origin": a.origin, "crossOrigin": false}
	if a.said != nil {
		a.said(said)
	}
	text, err := json.Marshal(said)
	a.ok(err)
	return text
}

// data is authenticator data.
func (a *authenticator) data(rpID string, flags byte) []byte {
	if a.rpID != "" {
		rpID = a.rpID
	}
	hash := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.counter)
}

// create answers creation options.
func (a *authenticator) create(options []byte) []byte {
	a.t.Helper()
	var o struct {
		Challenge string
		RP        struct{ ID string }
		User      struct{ ID string }
	}
	a.ok(json.Unmarshal(options, &o))
	handle, err := b64.DecodeString(o.User.ID)
	a.ok(err)
	a.handle = handle
	point, err := a.key.PublicKey.Bytes()
	a.ok(err)
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	a.ok(err)
	data := append(a.data(o.RP.ID, a.flags|attested), make([]byte, 16)...) // no AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.id)))
	data = append(append(data, a.id...), cose...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	a.ok(err)
	return a.answer(map[string]any{
		"clientDataJSON": b64.EncodeToString(a.clientData("webauthn.create", o.Challenge)), "attestationObject": b64.EncodeToString(object),
		"transports": []string{"internal", "hybrid", "<script>"},
	})
}

// get answers request options.
func (a *authenticator) get(options []byte) []byte {
	a.t.Helper()
	var o struct{ Challenge, RPID string }
	a.ok(json.Unmarshal(options, &o))
	said, data := a.clientData("webauthn.get", o.Challenge), a.data(o.RPID, a.flags)
	hash := sha256.Sum256(said)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	a.ok(err)
	return a.answer(map[string]any{
		"clientDataJSON": b64.EncodeToString(said), "authenticatorData": b64.EncodeToString(data), "signature": b64.EncodeToString(signature),
		"userHandle": b64.EncodeToString(a.handle),
	})
}

func (a *authenticator) answer(response map[string]any) []byte {
	a.t.Helper()
	id := b64.EncodeToString(a.id)
	text, err := json.Marshal(map[string]any{
		"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}},
		"authenticatorAttachment": "platform",
	})
	a.ok(err)
	return text
}
