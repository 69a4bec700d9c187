package agent

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/pdskit/pdskit/examples/agents/internal/host"
	"github.com/pdskit/pdskit/examples/agents/internal/lex"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Messages to one agent are encrypted with HPKE (RFC 9180): DHKEM(X25519, HKDF-SHA256),
// HKDF-SHA256, AES-256-GCM. The context binds a message to its writer, its reader and its record
// key, so nobody can show it as their own, or as another one, in a record of theirs. The text is
// padded, so its length tells little. HPKE here does not sign: the commit of the writer's
// repository does that.

var kem = hpke.DHKEM(ecdh.X25519())

// block is what texts are padded to a multiple of.
const block = 256

// ErrLetter: a message cannot be opened.
var ErrLetter = errors.New("agent: not a message for this agent")

// newLetterKey makes the key pair of an agent.
func newLetterKey() (private, public []byte, err error) {
	k, err := kem.GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	private, err = k.Bytes()
	return private, k.PublicKey().Bytes(), err
}

func letterInfo(from, to syntax.DID, rkey syntax.RecordKey) []byte {
	return []byte(strings.Join([]string{lex.MessageNSID, string(from), string(to), string(rkey)}, "\n"))
}

// sealLetter encrypts a text for the owner of a public key.
func sealLetter(public []byte, from, to syntax.DID, rkey syntax.RecordKey, text string) (encapsulated, sealed []byte, err error) {
	key, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	padded := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	padded = append(padded, text...)
	padded = append(padded, bytes.Repeat([]byte{0}, (block-len(padded)%block)%block)...)
	encapsulated, sender, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.AES256GCM(), letterInfo(from, to, rkey))
	if err != nil {
		return nil, nil, err
	}
	sealed, err = sender.Seal(nil, padded)
	return encapsulated, sealed, err
}

// openLetter decrypts a message. Anybody may have written it.
func openLetter(private []byte, from, to syntax.DID, rkey syntax.RecordKey, encapsulated, sealed []byte) (string, error) {
	key, err := kem.NewPrivateKey(private)
	if err != nil {
		return "", err
	}
	recipient, err := hpke.NewRecipient(encapsulated, key, hpke.HKDFSHA256(), hpke.AES256GCM(), letterInfo(from, to, rkey))
	if err != nil {
		return "", ErrLetter
	}
	padded, err := recipient.Open(nil, sealed)
	if err != nil || len(padded) < 4 {
		return "", ErrLetter
	}
	n := binary.BigEndian.Uint32(padded)
	if uint64(n) > uint64(len(padded)-4) {
		return "", ErrLetter
	}
	return strings.ToValidUTF8(string(padded[4:4+n]), "\uFFFD"), nil
}

// open opens a message to the agent.
func (a *Agent) open(ctx context.Context, from syntax.DID, rkey syntax.RecordKey, m *lex.Message) (string, error) {
	if m.To != a.DID {
		return "", ErrLetter
	}
	return OpenLetter(ctx, a.g.host, from, rkey, m)
}

// OpenLetter opens a message with the private key that lies in the namespace of its reader.
func OpenLetter(ctx context.Context, h *host.Host, from syntax.DID, rkey syntax.RecordKey, m *lex.Message) (string, error) {
	var stored []byte
	err := h.Repos.View(ctx, m.To, func(r storage.Reader) (err error) {
		stored, err = r.Get(ctx, keyPlace)
		return err
	})
	if err != nil {
		return "", err
	}
	key, err := h.Box.Open(place(m.To, keyPlace), stored)
	if err != nil {
		return "", err
	}
	return openLetter(key, from, m.To, rkey, m.Encapsulated, m.Sealed)
}

// ReadLetters returns the messages that an agent has opened, in a snapshot of its repository: the
// texts by the writer's DID, a slash and the record key.
func ReadLetters(ctx context.Context, box *sealed.Box, did syntax.DID, r storage.Reader) (map[string]string, error) {
	letters := make(map[string]string)
	for pair, err := range r.Keys(ctx, storage.Prefix(heardPlace)) {
		if err != nil {
			return nil, err
		}
		text, err := box.Open(place(did, pair.Key), pair.Value)
		if err != nil {
			return nil, err
		}
		letters[strings.TrimPrefix(pair.Key, heardPlace)] = string(text)
	}
	return letters, nil
}
