package account

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// maxOpenInvites is how many unused codes of its own an account may have.
const maxOpenInvites = 5

// Earning is the rule by which accounts earn invite codes to give away: one for each interval since
// their creation, but not for time before an epoch. The zero value gives none.
type Earning struct {
	Interval time.Duration
	Epoch    time.Time
}

// due is how many codes an account has earned and not got, given those that it has.
func (e Earning) due(created, now time.Time, have []Invite) int {
	if e.Interval <= 0 {
		return 0
	}
	// Intervals since the creation, less those that had passed by the epoch.
	earned := now.Sub(created) / e.Interval
	if created.Before(e.Epoch) {
		earned -= e.Epoch.Sub(created) / e.Interval
	}
	n, open := int(earned), 0
	for _, inv := range have {
		if inv.CreatedBy == createdByAdmin {
			continue // a gift
		}
		if !inv.Disabled && len(inv.Uses) < inv.Available {
			open++
		}
		if inv.Created.After(e.Epoch) {
			n--
		}
	}
	return max(0, min(n, maxOpenInvites-open))
}

// createdByAdmin is the creator of codes that are no account's own.
const createdByAdmin = "admin"

// AccountInvites lists the codes of an account, after making those that it has earned. If the
// account may not invite, new codes are disabled from the start. The caller is checked again after
// the codes are made.
func (s *Store) AccountInvites(ctx context.Context, hostname string, who Caller, e Earning) (list []Invite, err error) {
	a, err := s.Authenticate(ctx, who)
	if err != nil {
		return nil, err
	}
	list, err = s.InvitesOf(ctx, string(a.DID))
	if err != nil || e.due(a.Created, s.now().UTC(), list) == 0 {
		return list, err
	}
	var made []string
	err = s.store.KV.Write(ctx, func(tx storage.KVTx) (err error) {
		made = nil
		if list, err = invitesOf(ctx, tx, string(a.DID)); err != nil {
			return err
		}
		now := s.now().UTC()
		for range e.due(a.Created, now, list) {
			inv := Invite{
				Code: newInviteCode(hostname), Available: 1, Disabled: a.InvitesDisabled,
				Account: string(a.DID), CreatedBy: string(a.DID), Created: now,
			}
			if err := putInvite(ctx, tx, inv); err != nil {
				return err
			}
			list, made = append(list, inv), append(made, inv.Code)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	now, err := s.Authenticate(ctx, who)
	if err == nil && now.InvitesDisabled && !a.InvitesDisabled { // meanwhile
		if err := s.DisableInvites(ctx, made, nil, nil); err != nil {
			return nil, err
		}
		return s.AccountInvites(ctx, hostname, who, Earning{})
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// newInviteCode makes a code with the host's name in front.
func newInviteCode(hostname string) string {
	r := strings.ToLower(rand.Text())
	return strings.ReplaceAll(hostname, ".", "-") + "-" + r[:5] + "-" + r[5:10]
}
