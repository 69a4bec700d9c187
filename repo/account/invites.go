package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Invite is an invite code as it is stored.
type Invite struct {
	Code      string               `json:"code"`
	Available int                  `json:"available"` // uses in all
	Disabled  bool                 `json:"disabled,omitempty"`
	Account   string               `json:"forAccount"`
	CreatedBy string               `json:"createdBy"`
	Created   time.Time            `json:"createdAt"`
	Uses      map[syntax.DID]int64 `json:"uses,omitempty"` // time of each use in milliseconds
}

const (
	invitePrefix = "invite/"
	// invitesOfPrefix begins the keys that say whose codes there are, so that nobody has to look at
	// all of them to find an account's: invitesof/ACCOUNT/CODE.
	invitesOfPrefix = "invitesof/"
	// invitesIndexed is the key that is there once all codes have such keys. Earlier versions made
	// none.
	invitesIndexed = "invitesindexed"
)

func inviteOf(inv Invite) string { return invitesOfPrefix + inv.Account + "/" + inv.Code }

// invitesOf lists the codes of an account.
func invitesOf(ctx context.Context, r storage.KVReader, account string) (list []Invite, err error) {
	prefix := invitesOfPrefix + account + "/"
	for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
		if err != nil {
			return nil, err
		}
		inv, err := getInvite(ctx, r, strings.TrimPrefix(pair.Key, prefix))
		if err != nil {
			return nil, err
		}
		list = append(list, inv)
	}
	return list, nil
}

// indexInvites makes the keys that codes of earlier versions lack.
func (s *Store) indexInvites(ctx context.Context) error {
	var keys []string
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		if _, err := r.Get(ctx, invitesIndexed); !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		keys = []string{invitesIndexed} // the last one
		for inv, err := range storedjson.Documents[Invite](ctx, r, invitePrefix) {
			if err != nil {
				return err
			}
			keys = append(keys, inviteOf(inv.Value))
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	slices.Reverse(keys)
	for some := range slices.Chunk(keys, 500) {
		err := s.store.KV.Write(ctx, func(tx storage.KVTx) error {
			for _, key := range some {
				if err := tx.Set(ctx, key, []byte("1"), time.Time{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CreateInvites makes n codes of the given number of uses, with the host's name
// in front. They belong to an account, or to whatever else the text names, such as "admin".
func (s *Store) CreateInvites(ctx context.Context, hostname, account, by string, n, uses int) ([]string, error) {
	codes := make([]string, n)
	err := s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		for i := range codes {
			codes[i] = newInviteCode(hostname)
			inv := Invite{Code: codes[i], Available: uses, Account: account, CreatedBy: by, Created: s.now().UTC()}
			if err := putInvite(ctx, tx, inv); err != nil {
				return err
			}
		}
		return nil
	})
	return codes, err
}

// CheckInvite reports whether a code may be used, with ErrInvite if not.
func (s *Store) CheckInvite(ctx context.Context, code string) error {
	return s.store.KV.Read(ctx, func(r storage.KVReader) error {
		_, err := usable(ctx, r, code)
		return err
	})
}

// useInvite counts a use of a code.
func useInvite(ctx context.Context, tx storage.KVTx, code string, did syntax.DID, now time.Time) error {
	inv, err := usable(ctx, tx, code)
	if err != nil {
		return err
	}
	if inv.Uses == nil {
		inv.Uses = make(map[syntax.DID]int64)
	}
	inv.Uses[did] = now.UnixMilli()
	return putInvite(ctx, tx, inv)
}

// keepInvite is useInvite for an account that may have used the code already.
func keepInvite(ctx context.Context, tx storage.KVTx, code string, did syntax.DID, now time.Time) error {
	if inv, err := getInvite(ctx, tx, code); err == nil && inv.Uses[did] != 0 {
		return nil
	} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return useInvite(ctx, tx, code, did, now)
}

// returnInvite takes a use of a code back.
func returnInvite(ctx context.Context, tx storage.KVTx, code string, did syntax.DID) error {
	inv, err := getInvite(ctx, tx, code)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	delete(inv.Uses, did)
	return putInvite(ctx, tx, inv)
}

func usable(ctx context.Context, r storage.KVReader, code string) (Invite, error) {
	inv, err := getInvite(ctx, r, code)
	if errors.Is(err, storage.ErrNotFound) || err == nil && (inv.Disabled || len(inv.Uses) >= inv.Available) {
		return inv, ErrInvite
	}
	return inv, err
}

func getInvite(ctx context.Context, r storage.KVReader, code string) (inv Invite, err error) {
	doc, err := r.Get(ctx, invitePrefix+code)
	if err == nil {
		err = json.Unmarshal(doc, &inv)
	}
	return inv, err
}

func putInvite(ctx context.Context, tx storage.KVTx, inv Invite) error {
	doc, err := json.Marshal(inv)
	if err != nil {
		return err
	}
	if err := tx.Set(ctx, inviteOf(inv), []byte("1"), time.Time{}); err != nil {
		return err
	}
	return tx.Set(ctx, invitePrefix+inv.Code, doc, time.Time{})
}

// Invite returns an invite code, or ErrNoInvite.
func (s *Store) Invite(ctx context.Context, code string) (inv Invite, err error) {
	err = s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
		inv, err = getInvite(ctx, r, code)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNoInvite
	}
	return inv, err
}

// InvitesOf lists the codes that belong to an account, in the order of the codes. It reads no
// others.
func (s *Store) InvitesOf(ctx context.Context, account string) (list []Invite, err error) {
	err = s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
		list, err = invitesOf(ctx, r, account)
		return err
	})
	return list, err
}

// Invites lists all invite codes.
func (s *Store) Invites(ctx context.Context) (list []Invite, err error) {
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		list = nil
		for inv, err := range storedjson.Documents[Invite](ctx, r, invitePrefix) {
			if err != nil {
				return err
			}
			list = append(list, inv.Value)
		}
		return nil
	})
	return list, err
}

// DisableInvites disables codes, and all codes of accounts. If one of the codes is not there, or
// one of the accounts has none and is not among those that need not, the error is ErrNoInvite, with
// its name, and nothing is disabled.
func (s *Store) DisableInvites(ctx context.Context, codes, accounts, needNot []string) error {
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		var disable []Invite
		for _, code := range codes {
			inv, err := getInvite(ctx, tx, code)
			if errors.Is(err, storage.ErrNotFound) {
				return fmt.Errorf("%w: %s", ErrNoInvite, code)
			} else if err != nil {
				return err
			}
			disable = append(disable, inv)
		}
		for _, account := range accounts {
			list, err := invitesOf(ctx, tx, account)
			if err != nil {
				return err
			}
			if len(list) == 0 && !slices.Contains(needNot, account) {
				return fmt.Errorf("%w: %s", ErrNoInvite, account)
			}
			disable = append(disable, list...)
		}
		for _, inv := range disable {
			if inv.Disabled {
				continue
			}
			inv.Disabled = true
			if err := putInvite(ctx, tx, inv); err != nil {
				return err
			}
		}
		return nil
	})
}
