package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// viewAccount describes an account, with the invites that have to do with it. size is about how
// many bytes that takes beyond those of an account without invites.
func (s *Service) viewAccount(ctx context.Context, a account.Account) (v api.AdminAccountView, size int, err error) {
	v = api.AdminAccountView{
		DID: a.DID, Handle: a.Handle, Email: a.Email, IndexedAt: syntax.NewDatetime(a.Created),
		EmailConfirmedAt: datetime(a.EmailConfirmedAt), DeactivatedAt: datetime(a.DeactivatedAt),
		Invites: []api.ServerInviteCode{}, InvitesDisabled: new(a.InvitesDisabled),
	}
	own, err := s.accounts.InvitesOf(ctx, string(a.DID))
	if err != nil {
		return v, 0, err
	}
	for _, inv := range own {
		v.Invites = append(v.Invites, viewInvite(inv))
		size += inviteSize(inv)
	}
	if a.Invite == "" {
		return v, size, nil
	}
	inv, err := s.accounts.Invite(ctx, a.Invite)
	if errors.Is(err, account.ErrNoInvite) {
		return v, size, nil
	} else if err != nil {
		return v, 0, err
	}
	by := viewInvite(inv)
	v.InvitedBy = &by
	return v, size + inviteSize(inv), nil
}

// datetime is empty for the zero time.
func datetime(t time.Time) syntax.Datetime {
	if t.IsZero() {
		return ""
	}
	return syntax.NewDatetime(t)
}

func notFound(message string) error {
	return &xrpc.Error{Status: 400, Name: "NotFound", Message: message}
}

func (s *Service) getAccountInfo(ctx context.Context, r *xrpc.Request, p api.AdminGetAccountInfoParams) (out api.AdminGetAccountInfoOutput, err error) {
	a, err := s.accounts.ByDID(ctx, p.DID)
	if errors.Is(err, account.ErrNotFound) {
		return out, notFound("Account not found")
	} else if err != nil {
		return out, err
	}
	out, _, err = s.viewAccount(ctx, a)
	return out, err
}

// getAccountInfos describes each of the accounts once. An account takes as much as its invites
// have uses, so there is a bound on bytes beside that on accounts.
func (s *Service) getAccountInfos(ctx context.Context, r *xrpc.Request, p api.AdminGetAccountInfosParams) (out api.AdminGetAccountInfosOutput, err error) {
	size := 0
	seen := make(map[syntax.DID]bool)
	for _, did := range p.DIDs {
		if seen[did] {
			continue
		}
		seen[did] = true
		a, err := s.accounts.ByDID(ctx, did)
		if errors.Is(err, account.ErrNotFound) {
			continue
		} else if err != nil {
			return out, err
		}
		info, n, err := s.viewAccount(ctx, a)
		if err != nil {
			return api.AdminGetAccountInfosOutput{}, err
		}
		if size += n; size > maxInviteBytes && len(out.Infos) > 0 {
			return api.AdminGetAccountInfosOutput{}, xrpc.InvalidRequest("These accounts' invites are too many for one answer; ask for fewer accounts")
		}
		out.Infos = append(out.Infos, info)
	}
	return out, nil
}

// subject is what a moderator acts upon: an account, a record or a blob.
type subject struct {
	kind subjectKind
	did  syntax.DID // of an account or a blob
	uri  syntax.ATURI
	cid  syntax.CID
}

type subjectKind int

const (
	unknownSubject subjectKind = iota
	accountSubject
	recordSubject
	blobSubject
)

// subjectOf returns the variant that is set.
func subjectOf(x api.AdminUpdateSubjectStatusInput_Subject) subject {
	switch {
	case x.RepoRef != nil:
		return subject{kind: accountSubject, did: x.RepoRef.DID}
	case x.StrongRef != nil:
		return subject{kind: recordSubject, uri: x.StrongRef.URI, cid: x.StrongRef.CID}
	case x.RepoBlobRef != nil:
		return subject{kind: blobSubject, did: x.RepoBlobRef.DID, cid: x.RepoBlobRef.CID}
	}
	return subject{}
}

// view is the subject of an answer.
func (x subject) view() (out api.AdminGetSubjectStatusOutput_Subject) {
	switch x.kind {
	case accountSubject:
		out.RepoRef = &api.AdminRepoRef{DID: x.did}
	case recordSubject:
		out.StrongRef = &api.RepoStrongRef{URI: x.uri, CID: x.cid}
	case blobSubject:
		out.RepoBlobRef = &api.AdminRepoBlobRef{DID: x.did, CID: x.cid}
	}
	return out
}

// record splits the URI of a record.
func (x subject) record() (did syntax.DID, path string, err error) {
	uri, err := syntax.ParseATURI(string(x.uri))
	if err != nil {
		return "", "", xrpc.InvalidRequest("Invalid uri: %v", err)
	}
	authority, path, _ := strings.Cut(strings.TrimPrefix(string(uri), "at://"), "/")
	did, err = syntax.ParseDID(authority)
	if err != nil || strings.Count(path, "/") != 1 {
		return "", "", xrpc.InvalidRequest("The uri must be that of a record, with a DID")
	}
	return did, path, nil
}

// blob parses the CID of a blob, in any spelling.
func (x subject) blob() (cid.Cid, error) {
	const most = 256 // characters; some encodings take quadratic time
	if len(x.cid) > most {
		return cid.Undef, xrpc.InvalidRequest("Invalid blob: %d characters", len(x.cid))
	}
	c, err := cid.Decode(string(x.cid))
	if err != nil {
		return cid.Undef, xrpc.InvalidRequest("Invalid blob: %v", err)
	}
	return c, nil
}

// getSubjectStatus says whether something is taken down.
func (s *Service) getSubjectStatus(ctx context.Context, r *xrpc.Request, p api.AdminGetSubjectStatusParams) (out api.AdminGetSubjectStatusOutput, err error) {
	var t account.Takedown
	var subj subject
	switch {
	case p.Blob != "":
		if p.DID == "" {
			return out, xrpc.InvalidRequest("Must provide a did to request blob state")
		}
		subj = subject{kind: blobSubject, did: p.DID, cid: p.Blob}
		t, err = s.takedownOf(ctx, &subj)
	case p.URI != "":
		subj = subject{kind: recordSubject, uri: p.URI}
		if t, err = s.takedownOf(ctx, &subj); err == nil && subj.cid == "" {
			err = account.ErrNotFound // taken down, and deleted since
		}
	case p.DID != "":
		subj = subject{kind: accountSubject, did: p.DID}
		var a account.Account
		if a, err = s.accounts.ByDID(ctx, p.DID); err == nil {
			t = account.Takedown{Applied: a.TakedownRef != "", Ref: a.TakedownRef}
			out.Deactivated = &api.AdminStatusAttr{Applied: !a.DeactivatedAt.IsZero()}
		}
	default:
		return out, xrpc.InvalidRequest("No provided subject")
	}
	if errors.Is(err, account.ErrNotFound) {
		return out, notFound("Subject not found")
	} else if err != nil {
		return out, err
	}
	out.Takedown = &api.AdminStatusAttr{Applied: t.Applied, Ref: t.Ref}
	out.Subject = subj.view()
	return out, nil
}

// takedownOf returns whether a record or a blob is taken down. It fills in the subject's CID in the
// usual spelling. One that is neither here nor taken down is ErrNotFound.
func (s *Service) takedownOf(ctx context.Context, subj *subject) (t account.Takedown, err error) {
	if subj.kind == recordSubject {
		did, path, err := subj.record()
		if err != nil {
			return t, err
		}
		if t, err = s.accounts.RecordTakedown(ctx, did, path); err != nil {
			return t, err
		}
		collection, rkey, err := syntax.ParsePath(path)
		if err != nil {
			return t, xrpc.InvalidRequest("Invalid uri: %v", err)
		}
		subj.cid = ""
		rec, err := s.host.Record(ctx, did, collection, rkey)
		switch {
		case err == nil:
			subj.cid = syntax.CID(rec.CID.String())
		case !errors.Is(err, repo.ErrRecordNotFound) && !errors.Is(err, repo.ErrRepoNotFound):
			return t, err
		case !t.Applied:
			return t, account.ErrNotFound
		}
		return t, nil
	}
	blob, err := subj.blob()
	if err != nil {
		return t, err
	}
	subj.cid = syntax.CID(blob.String())
	if t, err = s.accounts.BlobTakedown(ctx, subj.did, blob); err != nil || t.Applied {
		return t, err
	}
	if _, _, err = s.host.Store().Blobs.Stat(ctx, subj.did, blob); !errors.Is(err, storage.ErrNotFound) {
		return t, err
	}
	err = s.host.View(ctx, subj.did, func(r storage.Reader) error { // imported, and not uploaded yet
		if expected, err := r.HasBlobRef(ctx, blob); err != nil || expected {
			return err
		}
		return account.ErrNotFound
	})
	return t, err
}

func (s *Service) updateSubjectStatus(ctx context.Context, r *xrpc.Request, in api.AdminUpdateSubjectStatusInput) (api.AdminUpdateSubjectStatusOutput, error) {
	return s.administrator(r).UpdateSubjectStatus(ctx, in)
}

// setSubjectStatus takes something down, or back up. There must be such a thing.
func (s *Service) setSubjectStatus(ctx context.Context, in api.AdminUpdateSubjectStatusInput) (out api.AdminUpdateSubjectStatusOutput, err error) {
	subj := subjectOf(in.Subject)
	if in.Takedown != nil && in.Takedown.Applied && in.Deactivated != nil && !in.Deactivated.Applied {
		return out, xrpc.InvalidRequest("Cannot activate and takedown an account at the same time")
	}
	switch subj.kind {
	case accountSubject:
		err = s.updateAccountStatus(ctx, subj.did, in)
	case recordSubject, blobSubject:
		if in.Deactivated != nil {
			return out, xrpc.InvalidRequest("Only an account can be deactivated")
		}
		if _, err = s.takedownOf(ctx, &subj); err == nil && in.Takedown != nil {
			err = s.takedownPart(ctx, subj, s.withRef(in.Takedown))
		}
	default:
		return out, xrpc.InvalidRequest("Invalid subject (%s)", in.Subject.Other.Type())
	}
	if errors.Is(err, account.ErrNotFound) {
		return out, notFound("Subject not found")
	}
	return api.AdminUpdateSubjectStatusOutput{Subject: api.AdminUpdateSubjectStatusOutput_Subject(in.Subject), Takedown: in.Takedown}, err
}

// updateAccountStatus changes what moderators say of an account. If they say nothing, the network
// is told again how things are.
func (s *Service) updateAccountStatus(ctx context.Context, did syntax.DID, in api.AdminUpdateSubjectStatusInput) error {
	if in.Takedown == nil && in.Deactivated == nil {
		return s.accounts.AnnounceStatus(ctx, account.Trusted(did))
	}
	if in.Takedown != nil {
		if err := s.accounts.TakeDown(ctx, did, s.withRef(in.Takedown)); err != nil {
			return err
		}
	}
	switch {
	case in.Deactivated == nil:
		return nil
	case in.Deactivated.Applied:
		return s.accounts.Deactivate(ctx, account.Trusted(did), time.Time{})
	}
	return s.accounts.Activate(ctx, account.Trusted(did))
}

// withRef is a takedown with a reference, also if the moderator has given none.
func (s *Service) withRef(in *api.AdminStatusAttr) account.Takedown {
	t := account.Takedown{Applied: in.Applied, Ref: in.Ref}
	if t.Applied && t.Ref == "" {
		t.Ref = s.now().UTC().Format(time.RFC3339)
	}
	return t
}

// takedownPart takes a record or a blob down, or back up.
func (s *Service) takedownPart(ctx context.Context, subj subject, t account.Takedown) error {
	if subj.kind == recordSubject {
		did, path, err := subj.record()
		if err != nil {
			return err
		}
		return s.accounts.SetRecordTakedown(ctx, did, path, t)
	}
	blob, err := subj.blob()
	if err != nil {
		return err
	}
	return s.accounts.SetBlobTakedown(ctx, subj.did, blob, t)
}

func (s *Service) sendEmail(ctx context.Context, r *xrpc.Request, in api.AdminSendEmailInput) (out api.AdminSendEmailOutput, err error) {
	err = s.administrator(r).SendEmail(ctx, in)
	out.Sent = err == nil
	return out, err
}

func (s *Service) adminDeleteAccount(ctx context.Context, r *xrpc.Request, in api.AdminDeleteAccountInput) (out xrpc.None, err error) {
	return out, s.administrator(r).DeleteAccount(ctx, in.DID)
}

func (s *Service) updateAccountEmail(ctx context.Context, r *xrpc.Request, in api.AdminUpdateAccountEmailInput) (out xrpc.None, err error) {
	return out, s.administrator(r).UpdateEmail(ctx, in.Account, in.Email)
}

func (s *Service) updateAccountHandle(ctx context.Context, r *xrpc.Request, in api.AdminUpdateAccountHandleInput) (out xrpc.None, err error) {
	return out, s.administrator(r).UpdateHandle(ctx, in.DID, in.Handle)
}

func (s *Service) updateAccountPassword(ctx context.Context, r *xrpc.Request, in api.AdminUpdateAccountPasswordInput) (out xrpc.None, err error) {
	return out, s.administrator(r).UpdatePassword(ctx, in.DID, in.Password)
}
