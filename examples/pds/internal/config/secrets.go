package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/crypto"
)

// Secrets are what the server must keep to itself.
type Secrets struct {
	AdminPassword  string
	JWTSecret      []byte
	PLCRotationKey *crypto.PrivateKey
	// MasterKey seals the accounts' signing keys.
	MasterKey []byte
	// NewPassword reports that AdminPassword was generated just now, so that the
	// operator must be told.
	NewPassword bool
}

// secretsFile is the form of the secrets in the data directory. It has only
// those that the environment did not give when they were first needed.
type secretsFile struct {
	AdminPassword  string `json:"adminPassword,omitempty"`
	JWTSecret      string `json:"jwtSecret,omitempty"`
	PLCRotationKey string `json:"plcRotationKey,omitempty"`
	MasterKey      string `json:"masterKey,omitempty"`
}

// Secrets returns the secrets of the environment and, for those that it does not
// give, those of the file secrets.json in the data directory, which only its owner may
// read. What is in neither is generated and kept there.
func (c *Config) Secrets() (*Secrets, error) {
	path := filepath.Join(c.DataDirectory, "secrets.json")
	var file secretsFile
	have, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(have, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &Secrets{}
	pick := func(env string, kept *string, generate func() string) (value string, fresh bool) {
		if env != "" {
			return env, false
		}
		if *kept == "" {
			*kept, fresh = generate(), true
		}
		return *kept, fresh
	}
	random := func() string { return hex.EncodeToString(randomBytes(32)) }
	s.AdminPassword, s.NewPassword = pick(c.AdminPassword, &file.AdminPassword, rand.Text)
	jwt, _ := pick(c.JWTSecret, &file.JWTSecret, random)
	s.JWTSecret = []byte(jwt)
	rotation, _ := pick(c.PLCRotationKey, &file.PLCRotationKey, random)
	if s.PLCRotationKey, err = parseKey(rotation); err != nil {
		return nil, fmt.Errorf("PLC rotation key: %w", err)
	}
	master, _ := pick("", &file.MasterKey, random)
	if s.MasterKey, err = hex.DecodeString(master); err != nil {
		return nil, fmt.Errorf("%s: master key: %w", path, err)
	}
	now, err := json.MarshalIndent(file, "", "\t")
	if err != nil {
		return nil, err
	}
	now = append(now, '\n')
	if bytes.Equal(now, have) {
		return s, nil
	}
	return s, writeFile(path, now)
}

// writeFile replaces a file so that a crash leaves the old one or the new one.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "secrets-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func parseKey(s string) (*crypto.PrivateKey, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return nil, err
	}
	return crypto.ParsePrivateKey(crypto.K256, raw)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
