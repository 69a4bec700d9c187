package credential

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

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// AppPassword is a password for one application.
type AppPassword struct {
	Name       string    `json:"name"`
	Created    time.Time `json:"createdAt"`
	Privileged bool      `json:"privileged"` // gives access to direct messages
	// Hash is the SHA-256 hash of account and password. A fast hash is enough for 80 random bits.
	Hash string `json:"hash"`
	// Credentials is the value of the account's counter under which the app password is valid.
	Credentials int64 `json:"credentials,omitempty"`
}

const appPasswordPrefix = "apppassword/"

// MaxAppPasswords is how many app passwords an account may have. A login with an app password
// compares it with all of them.
const MaxAppPasswords = 200

var appPasswordForm = regexp.MustCompile(`^[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}$`)

func hashAppPassword(did syntax.DID, password string) string {
	sum := sha256.Sum256([]byte(string(did) + " " + password))
	return hex.EncodeToString(sum[:])
}

// CreateAppPassword makes an app password and returns it. Only its hash is stored, so it cannot be
// shown again. Errors are [ErrDuplicateName] and [ErrTooManyAppPasswords].
func (s *Store) CreateAppPassword(ctx context.Context, who account.Caller, name string, privileged bool) (password string, p AppPassword, err error) {
	text := strings.ToLower(rand.Text())
	password = strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:16]}, "-")
	end, err := s.announce(ctx, who.DID)
	if err != nil {
		return "", p, err
	}
	defer end()
	a, err := s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		key := appPasswordPrefix + name
		switch _, err := step.Get(ctx, key); {
		case err == nil:
			return ErrDuplicateName
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
		if n, err := storedjson.Count(ctx, step, appPasswordPrefix); err != nil {
			return err
		} else if n >= MaxAppPasswords {
			return ErrTooManyAppPasswords
		}
		p = AppPassword{
			Name: name, Created: s.now().UTC().Truncate(time.Millisecond), Privileged: privileged,
			Hash: hashAppPassword(a.DID, password), Credentials: a.Credentials,
		}
		doc, err := json.Marshal(p)
		if err != nil {
			return err
		}
		step.Expect(key, nil)
		step.Set(key, doc, time.Time{})
		return s.note(ctx, step, Notice{Change: &Change{Event: AppPasswordMade, Account: *a, AppPassword: name}})
	})
	if err == nil {
		s.changed(ctx, Change{Event: AppPasswordMade, Account: a, AppPassword: name})
	}
	return password, p, err
}

// AppPasswords lists an account's app passwords by name, or returns account.ErrNotFound.
func (s *Store) AppPasswords(ctx context.Context, did syntax.DID) (list []AppPassword, err error) {
	err = s.accounts.View(ctx, account.Trusted(did), func(_ account.Account, r storage.KVReader) error {
		list = nil
		for p, err := range storedjson.Documents[AppPassword](ctx, r, appPasswordPrefix) {
			if err != nil {
				return err
			}
			list = append(list, p.Value)
		}
		return nil
	})
	return list, err
}

// RevokeAppPassword deletes an app password and ends the sessions that began with it. An unknown
// name is not an error.
func (s *Store) RevokeAppPassword(ctx context.Context, who account.Caller, name string) error {
	_, err := s.accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(appPasswordPrefix + name)
		return endSessions(ctx, step, name)
	})
	return err
}

// appPassword finds the app password of an account that a password is. One that was made under
// other credentials is none.
func (s *Store) appPassword(ctx context.Context, a account.Account, password string) (*AppPassword, error) {
	if !appPasswordForm.MatchString(password) {
		return nil, nil
	}
	list, err := s.AppPasswords(ctx, a.DID)
	if errors.Is(err, account.ErrNotFound) {
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
func sameApp(ctx context.Context, r storage.KVReader, a account.Account, name, hash string) (check storage.KVCheck, err error) {
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
