package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

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
	// invitesAtPrefix and invitesUsedPrefix begin the keys that list all codes by the time at which
	// they were made and by how often they were used: invitesat/MILLISECONDS/CODE,
	// invitesused/USES/CODE.
	invitesAtPrefix   = "invitesat/"
	invitesUsedPrefix = "invitesused/"
	// invitesIndexed is the key that is there once all codes have such keys, and with which value.
	// Earlier versions made none, or only those of the first kind ("1").
	invitesIndexed    = "invitesindexed"
	invitesIndexedNow = "2"
)

// inviteKeys are the keys by which a code is listed.
func inviteKeys(inv Invite) []string {
	return []string{
		invitesOfPrefix + inv.Account + "/" + inv.Code,
		InvitesByTime.key(InvitesByTime.Rank(inv), inv.Code),
		InvitesByUse.key(InvitesByUse.Rank(inv), inv.Code),
	}
}

// InviteOrder is an order of invite codes.
type InviteOrder int

// InvitesByTime sorts newest first, and InvitesByUse most used first.
const (
	InvitesByTime InviteOrder = iota
	InvitesByUse
)

// Rank returns the number by which a code is sorted: its time in milliseconds, or its number of
// uses.
func (o InviteOrder) Rank(inv Invite) int64 {
	if o == InvitesByUse {
		return int64(len(inv.Uses))
	}
	return inv.Created.UnixMilli()
}

func (o InviteOrder) prefix() string {
	if o == InvitesByUse {
		return invitesUsedPrefix
	}
	return invitesAtPrefix
}

// maxRank is the greatest rank that a key has room for.
const maxRank = 999_999_999_999_999

func (o InviteOrder) key(rank int64, code string) string {
	return fmt.Sprintf("%s%015d/%s", o.prefix(), min(max(rank, 0), maxRank), code)
}

// InvitesAfter yields the codes of one snapshot that follow a position in an order. The position is
// a rank and a code: codes of equal rank are sorted in descending order too. An empty code means
// the first position. It reads no more than is taken.
func (s *Store) InvitesAfter(ctx context.Context, o InviteOrder, rank int64, code string) iter.Seq2[Invite, error] {
	return func(yield func(Invite, error) bool) {
		rng := storage.Prefix(o.prefix())
		rng.Reverse, rng.KeysOnly = true, true
		if code != "" {
			rng.To = o.key(rank, code)
		}
		stopped := false
		err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
			for pair, err := range r.Keys(ctx, rng) {
				if err != nil {
					return err
				}
				_, code, _ := strings.Cut(strings.TrimPrefix(pair.Key, o.prefix()), "/")
				inv, err := getInvite(ctx, r, code)
				if err != nil {
					return err
				}
				if stopped = !yield(inv, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Invite{}, err)
		}
	}
}

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

// indexInvites makes the keys that codes of earlier versions lack. It reads and writes a bounded
// number of codes at a time, and may be interrupted.
func (s *Store) indexInvites(ctx context.Context) error {
	var done bool
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, invitesIndexed)
		done = err == nil && string(v) == invitesIndexedNow
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	rng := storage.Prefix(invitePrefix)
	for err == nil && !done {
		last := ""
		err = s.store.KV.Write(ctx, func(tx storage.KVTx) error {
			n := 0
			var page []Invite
			for pair, err := range tx.Keys(ctx, rng) {
				if err != nil {
					return err
				}
				var inv Invite
				if err := json.Unmarshal(pair.Value, &inv); err != nil {
					return err
				}
				inv.Code = strings.TrimPrefix(pair.Key, invitePrefix)
				page, last = append(page, inv), pair.Key
				if n++; n == migratePage {
					break
				}
			}
			for _, inv := range page {
				for _, key := range inviteKeys(inv) {
					if err := tx.Set(ctx, key, []byte("1"), time.Time{}); err != nil {
						return err
					}
				}
			}
			if done = n < migratePage; done {
				return tx.Set(ctx, invitesIndexed, []byte(invitesIndexedNow), time.Time{})
			}
			return nil
		})
		rng.From = last + "\x00"
	}
	return err
}

// CreateInvites makes n codes, each good for the given number of uses. Codes begin with the host's
// name. They belong to an account, or to whatever the text says, such as "admin".
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

// CheckInvite returns ErrInvite if a code cannot be used. The codes of an account cannot be used while
// it is taken down, so that its owner neither brings others in nor comes back by one.
func (s *Store) CheckInvite(ctx context.Context, code string) error {
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		_, err := usable(ctx, r, code)
		return err
	})
	if err != nil {
		return err
	}
	if down, err := s.inviterDown(ctx, code); err != nil || !down {
		return err
	}
	return ErrInvite
}

// inviterDown reports whether a code, if there is such a code, is that of an account that is taken
// down.
func (s *Store) inviterDown(ctx context.Context, code string) (bool, error) {
	inv, err := s.Invite(ctx, code)
	if err == nil && strings.HasPrefix(inv.Account, "did:") {
		var owner Account
		if owner, err = s.ByDID(ctx, syntax.DID(inv.Account)); err == nil {
			return owner.Status() == TakenDown, nil
		}
	}
	if errors.Is(err, ErrNoInvite) || errors.Is(err, ErrNotFound) {
		err = nil
	}
	return false, err
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

// putInvite writes a code, with the keys by which it is listed.
func putInvite(ctx context.Context, tx storage.KVTx, inv Invite) error {
	doc, err := json.Marshal(inv)
	if err != nil {
		return err
	}
	old, err := getInvite(ctx, tx, inv.Code)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	keys := inviteKeys(inv)
	if err == nil {
		for _, key := range inviteKeys(old) {
			if slices.Contains(keys, key) {
				continue
			}
			if err := tx.Delete(ctx, key); err != nil {
				return err
			}
		}
	}
	for _, key := range keys {
		if err := tx.Set(ctx, key, []byte("1"), time.Time{}); err != nil {
			return err
		}
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

// DisableInvites disables single codes, and all codes of some accounts. If a code does not exist,
// or if an account has no codes and is not listed in needNot, the error is [ErrNoInvite] with the
// name, and nothing is disabled.
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
