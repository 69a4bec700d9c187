package pds

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Secrets are the secret keys of a server. They must not be lost. MasterKeys and RotationKeys are
// required. [ReadSecrets] keeps them in a file.
type Secrets struct {
	// MasterKeys seal the accounts' signing keys; each has 32 bytes. The first one seals new
	// secrets. The others unseal older ones.
	MasterKeys [][]byte
	// SessionKey signs session tokens: at least 16 random bytes. Nil: it is derived from the last
	// of MasterKeys.
	SessionKey []byte
	// RotationKeys sign changes of the accounts' did:plc. The first one is used for new accounts,
	// the others for older ones.
	RotationKeys []crypto.Signer
	// AdminPassword is the password of the user "admin" (HTTP basic authentication). Empty: there
	// is no administrator.
	AdminPassword string
}

// secretsFile is the form of secrets in a file. Keys are in hexadecimal.
type secretsFile struct {
	MasterKey     string `json:"masterKey"`
	RotationKey   string `json:"rotationKey"` // K-256
	AdminPassword string `json:"adminPassword"`
}

// ReadSecrets reads secrets from a file. If there is no such file, it makes one with new secrets
// that only its owner can read. Whoever has the file controls all accounts. Without it nobody can
// use them. Back it up, separately from backups of the store.
func ReadSecrets(path string) (Secrets, error) {
	text, err := durablefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = newSecrets()
		if err == nil {
			err = durablefile.Write(path, text)
		}
	}
	if err != nil {
		return Secrets{}, fmt.Errorf("pds: secrets: %w", err)
	}
	var file secretsFile
	if err := data.UnmarshalJSON(text, &file); err != nil {
		return Secrets{}, fmt.Errorf("pds: secrets in %s: %w", path, err)
	}
	master, err := hex.DecodeString(file.MasterKey)
	if err != nil || len(master) != 32 {
		return Secrets{}, fmt.Errorf("pds: secrets in %s: masterKey is not 32 bytes in hexadecimal", path)
	}
	raw, err := hex.DecodeString(file.RotationKey)
	if err != nil {
		return Secrets{}, fmt.Errorf("pds: secrets in %s: rotationKey is not in hexadecimal", path)
	}
	rotation, err := crypto.ParsePrivateKey(crypto.K256, raw)
	if err != nil {
		return Secrets{}, fmt.Errorf("pds: secrets in %s: rotationKey: %w", path, err)
	}
	return Secrets{MasterKeys: [][]byte{master}, RotationKeys: []crypto.Signer{rotation}, AdminPassword: file.AdminPassword}, nil
}

func newSecrets() ([]byte, error) {
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return nil, err
	}
	master := make([]byte, 32)
	rand.Read(master)
	text, err := json.MarshalIndent(secretsFile{hex.EncodeToString(master), hex.EncodeToString(rotation.Bytes()), rand.Text()}, "", "\t")
	return append(text, '\n'), err
}

// sessionKey is SessionKey or what takes its place.
func (s *Secrets) sessionKey() ([]byte, error) {
	if s.SessionKey != nil {
		return s.SessionKey, nil
	}
	return hkdf.Key(sha256.New, s.MasterKeys[len(s.MasterKeys)-1], nil, "pdskit session tokens", 32)
}

// oauthSecret is what the keys of OAuth are derived from.
func (s *Secrets) oauthSecret() ([]byte, error) {
	return hkdf.Key(sha256.New, s.MasterKeys[len(s.MasterKeys)-1], nil, "pdskit oauth", 32)
}
