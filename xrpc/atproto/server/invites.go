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
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// adminOwner owns the codes that belong to no account.
const adminOwner = "admin"

// checkOwner checks that there is the account that codes are made for.
func (s *Service) checkOwner(ctx context.Context, owner syntax.DID) error {
	if owner == adminOwner {
		return nil
	}
	_, err := s.accounts.ByDID(ctx, owner)
	if errors.Is(err, account.ErrNotFound) {
		return xrpc.InvalidRequest("Account does not exist: %s", owner)
	}
	return err
}

func (s *Service) createInviteCode(ctx context.Context, r *xrpc.Request, in api.ServerCreateInviteCodeInput) (out api.ServerCreateInviteCodeOutput, err error) {
	if in.UseCount < 1 {
		return out, xrpc.InvalidRequest("useCount must be at least 1")
	}
	many := api.ServerCreateInviteCodesInput{CodeCount: 1, UseCount: in.UseCount}
	if in.ForAccount != "" {
		many.ForAccounts = []syntax.DID{in.ForAccount}
	}
	codes, err := s.administrator(r).CreateInvites(ctx, many)
	if err == nil {
		out.Code = codes.Codes[0].Codes[0]
	}
	return out, err
}

// maxInvites is how many codes one call may make.
const maxInvites = 1000

func (s *Service) createInviteCodes(ctx context.Context, r *xrpc.Request, in api.ServerCreateInviteCodesInput) (api.ServerCreateInviteCodesOutput, error) {
	return s.administrator(r).CreateInvites(ctx, in)
}

// makeInvites makes codes for accounts, or for nobody.
func (s *Service) makeInvites(ctx context.Context, in api.ServerCreateInviteCodesInput) (out api.ServerCreateInviteCodesOutput, err error) {
	if len(in.ForAccounts) == 0 {
		in.ForAccounts = []syntax.DID{adminOwner}
	}
	if in.UseCount < 1 || in.CodeCount < 1 || in.CodeCount > int64(maxInvites/len(in.ForAccounts)) {
		return out, xrpc.InvalidRequest("useCount and codeCount must be at least 1, and at most %d codes in all", maxInvites)
	}
	for _, owner := range in.ForAccounts {
		if err := s.checkOwner(ctx, owner); err != nil {
			return out, err
		}
	}
	for _, owner := range in.ForAccounts {
		codes, err := s.accounts.CreateInvites(ctx, s.hostname, string(owner), adminOwner, int(in.CodeCount), int(in.UseCount))
		if err != nil {
			return out, err
		}
		out.Codes = append(out.Codes, api.ServerCreateInviteCodesAccountCodes{Account: string(owner), Codes: codes})
	}
	return out, nil
}

// maxInviteBytes bounds the invite codes of one answer. Each lists all its uses.
const maxInviteBytes = 1 << 20

// inviteSize is about how many bytes a code takes in an answer.
func inviteSize(inv account.Invite) int { return 256 + 96*len(inv.Uses) }

func viewInvite(inv account.Invite) api.ServerInviteCode {
	v := api.ServerInviteCode{
		Code: inv.Code, Available: int64(inv.Available), Disabled: inv.Disabled, ForAccount: inv.Account, CreatedBy: inv.CreatedBy,
		CreatedAt: syntax.NewDatetime(inv.Created),
	}
	for did, at := range inv.Uses {
		v.Uses = append(v.Uses, api.ServerInviteCodeUse{UsedBy: did, UsedAt: syntax.NewDatetime(time.UnixMilli(at))})
	}
	slices.SortFunc(v.Uses, func(a, b api.ServerInviteCodeUse) int {
		return cmp.Or(cmp.Compare(a.UsedAt, b.UsedAt), cmp.Compare(a.UsedBy, b.UsedBy))
	})
	return v
}

// getAccountInviteCodes lists the caller's codes, with those that it has earned.
func (s *Service) getAccountInviteCodes(ctx context.Context, r *xrpc.Request, p api.ServerGetAccountInviteCodesParams) (out api.ServerGetAccountInviteCodesOutput, err error) {
	var earning account.Earning
	if orTrue(p.CreateAvailable) && s.cfg.Policy.InviteRequired {
		earning = account.Earning{Interval: s.cfg.Policy.InviteInterval, Epoch: s.cfg.Policy.InviteEpoch}
	}
	list, err := s.accounts.AccountInvites(ctx, s.hostname, s.sessions.By(r), earning)
	for _, inv := range list {
		if !inv.Disabled && (orTrue(p.IncludeUsed) || len(inv.Uses) < inv.Available) {
			out.Codes = append(out.Codes, viewInvite(inv))
		}
	}
	return out, err
}

// getInviteCodes lists all codes, the newest or the most used first. The cursor is what a code is
// sorted by, and the code. A page of codes with many uses has fewer than the limit.
func (s *Service) getInviteCodes(ctx context.Context, r *xrpc.Request, p api.AdminGetInviteCodesParams) (out api.AdminGetInviteCodesOutput, err error) {
	order := account.InvitesByTime
	if p.Sort == "usage" {
		order = account.InvitesByUse
	} else if p.Sort != "recent" && p.Sort != "" {
		return out, xrpc.InvalidRequest("unknown sort method: %s", p.Sort)
	}
	at, code, ok := strings.Cut(p.Cursor, "::")
	rank, err := strconv.ParseInt(at, 10, 64)
	if p.Cursor != "" && (!ok || err != nil || code == "") {
		return out, xrpc.InvalidRequest("Malformed cursor")
	}
	size, most := 0, int(cmp.Or(p.Limit, 100))
	for inv, err := range s.accounts.InvitesAfter(ctx, order, rank, code) {
		if err != nil {
			return api.AdminGetInviteCodesOutput{}, err
		}
		if size += inviteSize(inv); size > maxInviteBytes && len(out.Codes) > 0 {
			break
		}
		out.Codes = append(out.Codes, viewInvite(inv))
		out.Cursor = strconv.FormatInt(order.Rank(inv), 10) + "::" + inv.Code
		if len(out.Codes) == most {
			break
		}
	}
	return out, nil
}

func (s *Service) disableInviteCodes(ctx context.Context, r *xrpc.Request, in api.AdminDisableInviteCodesInput) (out xrpc.None, err error) {
	return out, s.administrator(r).DisableInvites(ctx, in)
}

// voidInvites disables codes, and all codes of accounts.
func (s *Service) voidInvites(ctx context.Context, in api.AdminDisableInviteCodesInput) error {
	if slices.Contains(in.Accounts, adminOwner) {
		return xrpc.InvalidRequest("cannot disable admin invite codes")
	}
	var known []string // accounts that are here, with codes or without
	for _, did := range in.Accounts {
		if _, err := s.accounts.ByDID(ctx, syntax.DID(did)); err == nil {
			known = append(known, did)
		} else if !errors.Is(err, account.ErrNotFound) {
			return err
		}
	}
	err := s.accounts.DisableInvites(ctx, in.Codes, in.Accounts, known)
	if errors.Is(err, account.ErrNoInvite) {
		err = notFound("No such invite code or account" + strings.TrimPrefix(err.Error(), account.ErrNoInvite.Error()))
	}
	return err
}

func (s *Service) disableAccountInvites(ctx context.Context, r *xrpc.Request, in api.AdminDisableAccountInvitesInput) (out xrpc.None, err error) {
	return out, s.administrator(r).SetInvites(ctx, in.Account, true)
}

func (s *Service) enableAccountInvites(ctx context.Context, r *xrpc.Request, in api.AdminEnableAccountInvitesInput) (out xrpc.None, err error) {
	return out, s.administrator(r).SetInvites(ctx, in.Account, false)
}

// setInvites takes from an account the right to invite, or gives it back.
func (s *Service) setInvites(ctx context.Context, did syntax.DID, disabled bool) error {
	_, err := s.accounts.Update(ctx, account.Trusted(did), func(a *account.Account, _ *repo.Step) error {
		a.InvitesDisabled = disabled
		return nil
	})
	if errors.Is(err, account.ErrNotFound) {
		err = xrpc.InvalidRequest("Account does not exist: %s", did)
	}
	return err
}

// orTrue is the value of a parameter that is true where it is absent.
func orTrue(p *bool) bool { return p == nil || *p }
