package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
)

type createInviteCodeInput struct {
	UseCount   int    `json:"useCount"`
	ForAccount string `json:"forAccount"`
}

// adminOwner owns the codes that belong to no account.
const adminOwner = "admin"

// checkOwner checks that there is the account that codes are made for.
func (s *Service) checkOwner(ctx context.Context, owner string) error {
	if owner == adminOwner {
		return nil
	}
	_, err := s.accounts.ByDID(ctx, syntax.DID(owner))
	if errors.Is(err, account.ErrNotFound) {
		return xrpc.InvalidRequest("Account does not exist: %s", owner)
	}
	return err
}

type createInviteCodeOutput struct {
	Code string `json:"code"`
}

func (s *Service) createInviteCode(ctx context.Context, r *xrpc.Request, in createInviteCodeInput) (out createInviteCodeOutput, err error) {
	if in.UseCount < 1 {
		return out, xrpc.InvalidRequest("useCount must be at least 1")
	}
	if in.ForAccount == "" {
		in.ForAccount = adminOwner
	}
	if err := s.checkOwner(ctx, in.ForAccount); err != nil {
		return out, err
	}
	codes, err := s.accounts.CreateInvites(ctx, s.hostname, in.ForAccount, "admin", 1, in.UseCount)
	if err == nil {
		out.Code = codes[0]
	}
	return out, err
}

type createInviteCodesInput struct {
	CodeCount   *int     `json:"codeCount"`
	UseCount    int      `json:"useCount"`
	ForAccounts []string `json:"forAccounts"`
}

type accountCodes struct {
	Account string   `json:"account"`
	Codes   []string `json:"codes"`
}

type createInviteCodesOutput struct {
	Codes []accountCodes `json:"codes"`
}

// maxInvites is how many codes one call may make.
const maxInvites = 1000

func (s *Service) createInviteCodes(ctx context.Context, r *xrpc.Request, in createInviteCodesInput) (out createInviteCodesOutput, err error) {
	count := 1
	if in.CodeCount != nil {
		count = *in.CodeCount
	}
	if len(in.ForAccounts) == 0 {
		in.ForAccounts = []string{adminOwner}
	}
	if in.UseCount < 1 || count < 1 || count*len(in.ForAccounts) > maxInvites {
		return out, xrpc.InvalidRequest("useCount and codeCount must be at least 1, and at most %d codes in all", maxInvites)
	}
	for _, owner := range in.ForAccounts {
		if err := s.checkOwner(ctx, owner); err != nil {
			return out, err
		}
	}
	for _, owner := range in.ForAccounts {
		codes, err := s.accounts.CreateInvites(ctx, s.hostname, owner, "admin", count, in.UseCount)
		if err != nil {
			return out, err
		}
		out.Codes = append(out.Codes, accountCodes{owner, codes})
	}
	return out, nil
}

// inviteView is com.atproto.server.defs#inviteCode.
type inviteView struct {
	Code      string          `json:"code"`
	Available int             `json:"available"`
	Disabled  bool            `json:"disabled"`
	Account   string          `json:"forAccount"`
	CreatedBy string          `json:"createdBy"`
	CreatedAt syntax.Datetime `json:"createdAt"`
	Uses      []inviteUse     `json:"uses"`
}

type inviteUse struct {
	UsedBy syntax.DID      `json:"usedBy"`
	UsedAt syntax.Datetime `json:"usedAt"`
}

// maxInviteBytes bounds the invite codes of one answer. Each lists all its uses.
const maxInviteBytes = 1 << 20

// inviteSize is about how many bytes a code takes in an answer.
func inviteSize(inv account.Invite) int { return 256 + 96*len(inv.Uses) }

func viewInvite(inv account.Invite) inviteView {
	v := inviteView{
		Code: inv.Code, Available: inv.Available, Disabled: inv.Disabled, Account: inv.Account, CreatedBy: inv.CreatedBy,
		CreatedAt: syntax.NewDatetime(inv.Created), Uses: []inviteUse{},
	}
	for did, at := range inv.Uses {
		v.Uses = append(v.Uses, inviteUse{did, syntax.NewDatetime(time.UnixMilli(at))})
	}
	slices.SortFunc(v.Uses, func(a, b inviteUse) int {
		return cmp.Or(cmp.Compare(a.UsedAt, b.UsedAt), cmp.Compare(a.UsedBy, b.UsedBy))
	})
	return v
}

type inviteCodesOutput struct {
	Cursor string       `json:"cursor,omitempty"`
	Codes  []inviteView `json:"codes"`
}

type getAccountInviteCodesParams struct {
	IncludeUsed     bool `json:"includeUsed"`
	CreateAvailable bool `json:"createAvailable"`
}

// getAccountInviteCodes lists the caller's codes, with those that it has earned.
func (s *Service) getAccountInviteCodes(ctx context.Context, r *xrpc.Request, p getAccountInviteCodesParams) (out inviteCodesOutput, err error) {
	var earning account.Earning
	if p.CreateAvailable && s.cfg.Policy.InviteRequired {
		earning = account.Earning{Interval: s.cfg.Policy.InviteInterval, Epoch: s.cfg.Policy.InviteEpoch}
	}
	list, err := s.accounts.AccountInvites(ctx, s.hostname, s.sessions.By(r), earning)
	out.Codes = []inviteView{}
	for _, inv := range list {
		if !inv.Disabled && (p.IncludeUsed || len(inv.Uses) < inv.Available) {
			out.Codes = append(out.Codes, viewInvite(inv))
		}
	}
	return out, err
}

type getInviteCodesParams struct {
	Sort   string `json:"sort"`
	Limit  int    `json:"limit"`
	Cursor string `json:"cursor"`
}

// getInviteCodes lists all codes, the newest or the most used first. The cursor is what a code is
// sorted by, and the code. A page of codes with many uses has fewer than the limit.
func (s *Service) getInviteCodes(ctx context.Context, r *xrpc.Request, p getInviteCodesParams) (out inviteCodesOutput, err error) {
	rank := func(inv account.Invite) int64 { return inv.Created.UnixMilli() }
	if p.Sort == "usage" {
		rank = func(inv account.Invite) int64 { return int64(len(inv.Uses)) }
	} else if p.Sort != "recent" && p.Sort != "" {
		return out, xrpc.InvalidRequest("unknown sort method: %s", p.Sort)
	}
	less := func(a, b account.Invite) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(b.Code, a.Code))
	}
	list, err := s.accounts.Invites(ctx)
	if err != nil {
		return out, err
	}
	slices.SortFunc(list, less)
	if p.Cursor != "" {
		at, code, ok := strings.Cut(p.Cursor, "::")
		n, err := strconv.ParseInt(at, 10, 64)
		if !ok || err != nil {
			return out, xrpc.InvalidRequest("Malformed cursor")
		}
		list = slices.DeleteFunc(list, func(inv account.Invite) bool {
			return cmp.Or(cmp.Compare(n, rank(inv)), cmp.Compare(code, inv.Code)) <= 0
		})
	}
	out.Codes = []inviteView{}
	size := 0
	for _, inv := range list[:min(len(list), cmp.Or(p.Limit, 100))] {
		if size += inviteSize(inv); size > maxInviteBytes && len(out.Codes) > 0 {
			break
		}
		out.Codes = append(out.Codes, viewInvite(inv))
		out.Cursor = strconv.FormatInt(rank(inv), 10) + "::" + inv.Code
	}
	return out, nil
}

type disableInviteCodesInput struct {
	Codes    []string `json:"codes"`
	Accounts []string `json:"accounts"`
}

func (s *Service) disableInviteCodes(ctx context.Context, r *xrpc.Request, in disableInviteCodesInput) (out xrpc.None, err error) {
	if slices.Contains(in.Accounts, adminOwner) {
		return out, xrpc.InvalidRequest("cannot disable admin invite codes")
	}
	var known []string // accounts that are here, with codes or without
	for _, did := range in.Accounts {
		if _, err := s.accounts.ByDID(ctx, syntax.DID(did)); err == nil {
			known = append(known, did)
		} else if !errors.Is(err, account.ErrNotFound) {
			return out, err
		}
	}
	err = s.accounts.DisableInvites(ctx, in.Codes, in.Accounts, known)
	if errors.Is(err, account.ErrNoInvite) {
		err = notFound("No such invite code or account" + strings.TrimPrefix(err.Error(), account.ErrNoInvite.Error()))
	}
	return out, err
}

type accountInvitesInput struct {
	Account syntax.DID `json:"account"`
}

// setInvites makes enableAccountInvites or disableAccountInvites.
func (s *Service) setInvites(disabled bool) xrpc.Handler {
	return procedure(func(ctx context.Context, r *xrpc.Request, in accountInvitesInput) (out xrpc.None, err error) {
		_, err = s.accounts.Update(ctx, account.Trusted(in.Account), func(a *account.Account, _ *repo.Step) error {
			a.InvitesDisabled = disabled
			return nil
		})
		if errors.Is(err, account.ErrNotFound) {
			err = xrpc.InvalidRequest("Account does not exist: %s", in.Account)
		}
		return out, err
	})
}
