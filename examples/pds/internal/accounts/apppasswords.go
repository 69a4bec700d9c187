package accounts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// AppPassword is a password for one application.
type AppPassword struct {
	Name       string    `json:"name"`
	Created    time.Time `json:"createdAt"`
	Privileged bool      `json:"privileged"` // gives access to direct messages
	// Hash is the SHA-256 of account and password. That is enough for 80 random bits.
	Hash string `json:"hash"`
}

// ErrDuplicateName: there is an app password of the name.
var ErrDuplicateName = errors.New("accounts: duplicate app password name")

const appPasswordPrefix = "apppassword/"

var appPasswordForm = regexp.MustCompile(`^[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}$`)

func hashAppPassword(did syntax.DID, password string) string {
	sum := sha256.Sum256([]byte(string(did) + " " + password))
	return hex.EncodeToString(sum[:])
}

// CreateAppPassword makes an app password and returns it in the clear, the only
// time that it can be seen.
func (s *Store) CreateAppPassword(ctx context.Context, did syntax.DID, name string, privileged bool) (password string, p AppPassword, err error) {
	r := strings.ToLower(rand.Text())
	password = strings.Join([]string{r[:4], r[4:8], r[8:12], r[12:16]}, "-")
	p = AppPassword{Name: name, Created: s.now().UTC().Truncate(time.Millisecond), Privileged: privileged, Hash: hashAppPassword(did, password)}
	doc, err := json.Marshal(p)
	if err != nil {
		return "", p, err
	}
	return password, p, s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		switch _, err := r.Get(ctx, appPasswordPrefix+name); {
		case err == nil:
			return ErrDuplicateName
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		c.Checks = append(c.Checks, storage.KVCheck{Key: appPasswordPrefix + name})
		c.KV = append(c.KV, storage.KVWrite{Key: appPasswordPrefix + name, Value: doc})
		return nil
	})
}

// AppPasswords lists an account's app passwords by name.
func (s *Store) AppPasswords(ctx context.Context, did syntax.DID) (list []AppPassword, err error) {
	err = s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		for p, err := range documents[AppPassword](ctx, r, appPasswordPrefix) {
			if err != nil {
				return err
			}
			list = append(list, p.value)
		}
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return list, err
}

// RevokeAppPassword deletes an app password with the sessions that began with it. One
// that is not known is no error.
func (s *Store) RevokeAppPassword(ctx context.Context, did syntax.DID, name string) error {
	return s.update(ctx, did, func(r storage.Reader, c *storage.Change) error {
		c.KV = append(c.KV, storage.KVWrite{Key: appPasswordPrefix + name})
		return endSessions(ctx, r, name, c)
	})
}

// appPassword finds the app password of an account that a password is.
func (s *Store) appPassword(ctx context.Context, did syntax.DID, password string) (*AppPassword, error) {
	if !appPasswordForm.MatchString(password) {
		return nil, nil
	}
	list, err := s.AppPasswords(ctx, did)
	if err != nil {
		return nil, err
	}
	hash := hashAppPassword(did, password)
	for _, p := range list {
		if subtle.ConstantTimeCompare([]byte(p.Hash), []byte(hash)) == 1 {
			return &p, nil
		}
	}
	return nil, nil
}
