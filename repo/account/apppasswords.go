package account

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
	// Credentials is the value of the account's counter that it is good under.
	Credentials int64 `json:"credentials,omitempty"`
}

// ErrDuplicateName: there is an app password of the name.
var ErrDuplicateName = errors.New("account: duplicate app password name")

const appPasswordPrefix = "apppassword/"

var appPasswordForm = regexp.MustCompile(`^[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}$`)

func hashAppPassword(did syntax.DID, password string) string {
	sum := sha256.Sum256([]byte(string(did) + " " + password))
	return hex.EncodeToString(sum[:])
}

// CreateAppPassword makes an app password and returns it in the clear, the only
// time that it can be seen.
func (s *Store) CreateAppPassword(ctx context.Context, who Caller, name string, privileged bool) (password string, p AppPassword, err error) {
	text := strings.ToLower(rand.Text())
	password = strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:16]}, "-")
	err = s.change(ctx, who, func(a *Account, r storage.Reader, c *storage.Change) error {
		switch _, err := r.Get(ctx, appPasswordPrefix+name); {
		case err == nil:
			return ErrDuplicateName
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		p = AppPassword{
			Name: name, Created: s.now().UTC().Truncate(time.Millisecond), Privileged: privileged,
			Hash: hashAppPassword(a.DID, password), Credentials: a.Credentials,
		}
		doc, err := json.Marshal(p)
		c.Checks = append(c.Checks, storage.KVCheck{Key: appPasswordPrefix + name})
		c.KV = append(c.KV, storage.KVWrite{Key: appPasswordPrefix + name, Value: doc})
		return err
	})
	return password, p, err
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
func (s *Store) RevokeAppPassword(ctx context.Context, who Caller, name string) error {
	return s.change(ctx, who, func(_ *Account, r storage.Reader, c *storage.Change) error {
		c.KV = append(c.KV, storage.KVWrite{Key: appPasswordPrefix + name})
		return endSessions(ctx, r, name, c)
	})
}

// appPassword finds the app password of an account that a password is. One that was made under
// other credentials is none.
func (s *Store) appPassword(ctx context.Context, a Account, password string) (*AppPassword, error) {
	if !appPasswordForm.MatchString(password) {
		return nil, nil
	}
	list, err := s.AppPasswords(ctx, a.DID)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	hash := hashAppPassword(a.DID, password)
	for _, p := range list {
		if subtle.ConstantTimeCompare([]byte(p.Hash), []byte(hash)) == 1 && p.Credentials == a.Credentials {
			return &p, nil
		}
	}
	return nil, nil
}

// sameApp returns the check that an app password of an account is still there: the one of the
// name and the hash (empty: of the name). The error is storage.ErrNotFound if it is not.
func sameApp(ctx context.Context, r storage.Reader, a Account, name, hash string) (check storage.KVCheck, err error) {
	doc, err := r.Get(ctx, appPasswordPrefix+name)
	if err != nil {
		return check, err
	}
	var p AppPassword
	if err := json.Unmarshal(doc, &p); err != nil {
		return check, err
	}
	if hash != "" && p.Hash != hash || p.Credentials != a.Credentials {
		return check, storage.ErrNotFound
	}
	return storage.KVCheck{Key: appPasswordPrefix + name, Value: doc}, nil
}
