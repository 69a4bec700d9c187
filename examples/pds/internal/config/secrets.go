package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Secrets are what the server must keep to itself.
type Secrets struct {
	AdminPassword string
	JWTSecret     []byte
	// PLCRotationKeys sign operations on the accounts' DIDs. The first one is that of new DIDs;
	// while keys are exchanged, DIDs may have any of them.
	PLCRotationKeys []*crypto.PrivateKey
	// MasterKeys seal the accounts' signing keys. The first one is used for what is
	// sealed from now on, the others open what is older.
	MasterKeys [][]byte
	// NewPassword reports that AdminPassword was generated, and that nobody has been told: see
	// PasswordShown.
	NewPassword bool

	all secretsFile
}

// secretsFile is the form of the secrets in the data directory. It has only
// those that the environment did not give when they were first needed.
type secretsFile struct {
	AdminPassword string `json:"adminPassword,omitempty"`
	// AdminPasswordUnseen: it has not been shown yet, be it that the first start failed.
	AdminPasswordUnseen bool `json:"adminPasswordUnseen,omitempty"`

	JWTSecret      string `json:"jwtSecret,omitempty"`
	PLCRotationKey string `json:"plcRotationKey,omitempty"`
	// OldPLCRotationKeys are those that DIDs may still have.
	OldPLCRotationKeys []string `json:"oldPlcRotationKeys,omitempty"`
	MasterKey          string   `json:"masterKey,omitempty"`
	// OldMasterKeys are those that rotation is about to do away with.
	OldMasterKeys []string `json:"oldMasterKeys,omitempty"`
}

// secretsPath is where the file lies.
func (c *Config) secretsPath() string { return filepath.Join(c.DataDirectory, "secrets.json") }

// Secrets returns the secrets of the environment and, for those that it does not
// give, those of the file secrets.json in the data directory, which only its owner may
// read. What is in neither is generated and kept there.
func (c *Config) Secrets() (*Secrets, error) {
	file, have, err := c.readSecrets()
	if err != nil {
		return nil, err
	}
	s := &Secrets{}
	pick := func(env string, kept, all *string, generate func() string) (fresh bool) {
		*all = env
		if env == "" {
			if *kept == "" {
				*kept, fresh = generate(), true
			}
			*all = *kept
		}
		return fresh
	}
	if pick(c.AdminPassword, &file.AdminPassword, &s.all.AdminPassword, rand.Text) {
		file.AdminPasswordUnseen = true
	}
	s.NewPassword = c.AdminPassword == "" && file.AdminPasswordUnseen
	pick(c.JWTSecret, &file.JWTSecret, &s.all.JWTSecret, randomHex)
	// keys of the environment stand before those of the file.
	keys := func(env []string, kept *string, old []string) []string {
		if len(env) == 0 && *kept == "" {
			*kept = randomHex()
		}
		all := slices.Clone(env)
		if *kept != "" {
			all = append(all, *kept)
		}
		return append(all, old...)
	}
	masters := keys(c.MasterKeys, &file.MasterKey, file.OldMasterKeys)
	s.all.MasterKey, s.all.OldMasterKeys = masters[0], masters[1:]
	rotation := keys(c.PLCRotationKeys, &file.PLCRotationKey, file.OldPLCRotationKeys)
	s.all.PLCRotationKey, s.all.OldPLCRotationKeys = rotation[0], rotation[1:]

	s.AdminPassword, s.JWTSecret = s.all.AdminPassword, []byte(s.all.JWTSecret)
	for _, text := range rotation {
		key, err := parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("PLC rotation key: %w", err)
		}
		s.PLCRotationKeys = append(s.PLCRotationKeys, key)
	}
	for _, text := range masters {
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("%s: a master key is not 32 bytes in hexadecimal", c.secretsPath())
		}
		s.MasterKeys = append(s.MasterKeys, key)
	}
	return s, c.writeSecrets(file, have)
}

// ErrKeysMissing: there are accounts, but not the keys that belong to them.
var ErrKeysMissing = errors.New("keys are missing")

// CheckKeys returns ErrKeysMissing unless the keys are there without which accounts can
// neither be written nor moved. Ask it where there are accounts, before Secrets would
// make new keys.
func (c *Config) CheckKeys() error {
	file, _, err := c.readSecrets()
	if err != nil {
		return err
	}
	if len(c.MasterKeys) == 0 && file.MasterKey == "" {
		return fmt.Errorf("%w: there is no master key in %s; restore the file from a backup", ErrKeysMissing, c.secretsPath())
	}
	if len(c.PLCRotationKeys) == 0 && file.PLCRotationKey == "" {
		return fmt.Errorf("%w: set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX as before, or restore %s from a backup", ErrKeysMissing, c.secretsPath())
	}
	return nil
}

// StoredPassword returns the administrator's password, of the environment or the file.
func (c *Config) StoredPassword() (string, error) {
	if c.AdminPassword != "" {
		return c.AdminPassword, nil
	}
	file, _, err := c.readSecrets()
	if err == nil && file.AdminPassword == "" {
		err = fmt.Errorf("no administrator's password: set PDS_ADMIN_PASSWORD, or use the data directory of the server (%s has none)", c.secretsPath())
	}
	return file.AdminPassword, err
}

// PasswordShown notes that the operator has been told the administrator's password.
func (c *Config) PasswordShown() error {
	return c.changeSecrets(func(f *secretsFile) { f.AdminPasswordUnseen = false })
}

// File is all secrets in the form of secrets.json, those of the environment too: for
// a backup that needs nothing else.
func (s *Secrets) File() ([]byte, error) {
	text, err := json.MarshalIndent(s.all, "", "\t")
	return append(text, '\n'), err
}

// AddMasterKey makes a new master key the one that seals. The others stay, for
// what is sealed with them. A key that the environment gives is left as it is: then the
// operator puts another in front of it.
func (c *Config) AddMasterKey() error {
	if len(c.MasterKeys) > 0 {
		return nil
	}
	return c.changeSecrets(func(f *secretsFile) { replace(&f.MasterKey, &f.OldMasterKeys) })
}

// AddPLCRotationKey makes a new PLC rotation key the one of new DIDs. The others stay, for
// DIDs that have them. Keys that the environment gives are left as they are: then the
// operator puts another in front of them.
func (c *Config) AddPLCRotationKey() error {
	if len(c.PLCRotationKeys) > 0 {
		return nil
	}
	return c.changeSecrets(func(f *secretsFile) { replace(&f.PLCRotationKey, &f.OldPLCRotationKeys) })
}

// replace puts a new key in the place of one, which becomes the first of the old ones.
func replace(key *string, old *[]string) {
	if *key != "" {
		*old = slices.Insert(*old, 0, *key)
	}
	*key = randomHex()
}

func (c *Config) changeSecrets(change func(*secretsFile)) error {
	file, have, err := c.readSecrets()
	if err != nil {
		return err
	}
	change(&file)
	return c.writeSecrets(file, have)
}

// DropMasterKeys removes from the file all master keys but the one that seals, once
// nothing is sealed with them any more.
func (c *Config) DropMasterKeys() error {
	return c.changeSecrets(func(f *secretsFile) {
		f.OldMasterKeys = nil
		if len(c.MasterKeys) > 0 {
			f.MasterKey = ""
		}
	})
}

// DropPLCRotationKeys removes from the file all PLC rotation keys but the one of new DIDs, once no
// DID has them any more.
func (c *Config) DropPLCRotationKeys() error {
	return c.changeSecrets(func(f *secretsFile) {
		f.OldPLCRotationKeys = nil
		if len(c.PLCRotationKeys) > 0 {
			f.PLCRotationKey = ""
		}
	})
}

// PLCRotating reports whether an exchange of PLC rotation keys was begun and not finished.
func (c *Config) PLCRotating() (bool, error) {
	file, _, err := c.readSecrets()
	return len(file.OldPLCRotationKeys) > 0, err
}

// Rotating reports whether a rotation of master keys was begun and not finished.
func (c *Config) Rotating() (bool, error) {
	file, _, err := c.readSecrets()
	return len(file.OldMasterKeys) > 0, err
}

func (c *Config) readSecrets() (file secretsFile, text []byte, err error) {
	text, err = durablefile.Read(c.secretsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil, nil
	} else if err != nil {
		return file, nil, err
	}
	if err := data.UnmarshalJSON(text, &file); err != nil {
		return file, nil, fmt.Errorf("%s: %w", c.secretsPath(), err)
	}
	return file, text, nil
}

// writeSecrets writes the file, with mode 0600, if it is not as it was.
func (c *Config) writeSecrets(file secretsFile, have []byte) error {
	now, err := json.MarshalIndent(file, "", "\t")
	if err != nil {
		return err
	}
	if now = append(now, '\n'); bytes.Equal(now, have) {
		return nil
	}
	if err := durablefile.MkdirAll(filepath.Dir(c.secretsPath())); err != nil {
		return err
	}
	return durablefile.Write(c.secretsPath(), now)
}

func parseKey(s string) (*crypto.PrivateKey, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return nil, err
	}
	return crypto.ParsePrivateKey(crypto.K256, raw)
}

func randomHex() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}
