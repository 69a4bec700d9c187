package atproto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// carType is the media type of CAR files.
const carType = "application/vnd.ipld.car"

// available is an account whose repository may be read by the caller: an active
// one, or any that is the caller's own or an administrator's business.
func (s *Service) available(ctx context.Context, r *xrpc.Request, id syntax.AtIdentifier) (Account, error) {
	acct, err := s.Accounts.Account(ctx, id)
	if err != nil {
		if errors.Is(err, ErrNoAccount) {
			err = &xrpc.Error{Status: 400, Name: "RepoNotFound", Message: fmt.Sprintf("Could not find repo for DID: %s", id)}
		}
		return acct, err
	}
	if p := r.Principal; p.Role == auth.Administrator || p.IsUser(acct.DID) {
		return acct, nil
	}
	switch acct.Status {
	case Active:
		return acct, nil
	case Deactivated:
		return acct, &xrpc.Error{Status: 400, Name: "RepoDeactivated", Message: fmt.Sprintf("Repo has been deactivated: %s", id)}
	case Suspended:
		return acct, &xrpc.Error{Status: 400, Name: "RepoSuspended", Message: fmt.Sprintf("Repo has been suspended: %s", id)}
	default:
		return acct, &xrpc.Error{Status: 400, Name: "RepoTakendown", Message: fmt.Sprintf("Repo has been takendown: %s", id)}
	}
}

type getRepoParams struct {
	DID   syntax.DID `json:"did"`
	Since syntax.TID `json:"since"`
}

func (s *Service) getRepo(w http.ResponseWriter, r *xrpc.Request, p getRepoParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", carType)
	err = s.Host.Export(r.Context(), acct.DID, p.Since, w)
	if errors.Is(err, repo.ErrRepoNotFound) {
		return xrpc.InvalidRequest("Could not find repo for DID: %s", p.DID)
	}
	return err
}

type recordParams struct {
	DID        syntax.DID       `json:"did"`
	Collection syntax.NSID      `json:"collection"`
	RKey       syntax.RecordKey `json:"rkey"`
}

func (s *Service) getRecordProof(w http.ResponseWriter, r *xrpc.Request, p recordParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	root, blocks, err := s.Host.Proof(r.Context(), acct.DID, p.Collection, p.RKey)
	if errors.Is(err, repo.ErrRepoNotFound) {
		return xrpc.InvalidRequest("Could not find repo for DID: %s", p.DID)
	} else if err != nil {
		return err
	}
	return writeCAR(w, blocks, root)
}

type getBlocksParams struct {
	DID  syntax.DID `json:"did"`
	CIDs []string   `json:"cids"`
}

// maxBlocks is how many blocks one call of getBlocks may ask for.
const maxBlocks = 1000

// getBlocks answers with each block once, as it is read.
func (s *Service) getBlocks(w http.ResponseWriter, r *xrpc.Request, p getBlocksParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	if len(p.CIDs) > maxBlocks {
		return xrpc.InvalidRequest("Too many cids. Max: %d", maxBlocks)
	}
	wanted := make([]cid.Cid, len(p.CIDs))
	for i, c := range p.CIDs {
		if wanted[i], err = parseCID(c); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", carType)
	missing, err := s.Host.ExportBlocks(r.Context(), acct.DID, wanted, w)
	if errors.Is(err, repo.ErrRepoNotFound) { // deleted meanwhile
		return xrpc.InvalidRequest("Could not find repo for DID: %s", p.DID)
	} else if err != nil {
		return err
	}
	if len(missing) > 0 {
		names := make([]string, len(missing))
		for i, c := range missing {
			names[i] = c.String()
		}
		return xrpc.InvalidRequest("Could not find cids: %s", strings.Join(names, ","))
	}
	return nil
}

// writeCAR answers with a CAR file of a few blocks.
func writeCAR(w http.ResponseWriter, blocks []car.Block, roots ...cid.Cid) error {
	w.Header().Set("Content-Type", carType)
	out, err := car.NewWriter(w, roots...)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}

type blobParams struct {
	DID syntax.DID `json:"did"`
	CID string     `json:"cid"`
}

func (s *Service) getBlob(w http.ResponseWriter, r *xrpc.Request, p blobParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	c, err := parseCID(p.CID)
	if err != nil {
		return err
	}
	if acct.Moderated && s.Takedowns != nil && r.Principal.Role != auth.Administrator {
		if hidden, err := s.Takedowns.HiddenBlob(r.Context(), acct.DID, c); err != nil {
			return err
		} else if hidden {
			return xrpc.InvalidRequest("Blob not found")
		}
	}
	blob, info, err := s.Host.OpenBlob(r.Context(), acct.DID, c)
	if errors.Is(err, repo.ErrBlobNotFound) {
		return xrpc.InvalidRequest("Blob not found")
	} else if err != nil {
		return err
	}
	defer blob.Close()
	// Nothing that a user uploaded may run, or be rendered, in the host's origin.
	h := w.Header()
	h.Set("Content-Type", info.MIME)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, info.CID))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("ETag", `"`+info.CID.String()+`"`)
	http.ServeContent(w, r.Request, "", time.Time{}, readSeeker{blob})
	return nil
}

// readSeeker hides all other methods of a blob from http.ServeContent.
type readSeeker struct{ io.ReadSeeker }

type listBlobsParams struct {
	DID    syntax.DID `json:"did"`
	Since  syntax.TID `json:"since"`
	Limit  int        `json:"limit"`
	Cursor string     `json:"cursor"`
}

type listBlobsOutput struct {
	Cursor string   `json:"cursor,omitempty"`
	CIDs   []string `json:"cids"`
}

func (s *Service) listBlobs(ctx context.Context, r *xrpc.Request, p listBlobsParams) (out listBlobsOutput, err error) {
	acct, err := s.available(ctx, r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return out, err
	}
	after, err := parseCID(p.Cursor)
	if err != nil {
		return out, xrpc.InvalidRequest("Malformed cursor")
	}
	if p.Limit, err = pageLimit(p.Limit, 500, 1000); err != nil {
		return out, err
	}
	refs, next, err := s.Host.Blobs(ctx, acct.DID, after, p.Since, p.Limit)
	if err != nil {
		return out, err
	}
	out.CIDs = make([]string, len(refs))
	for i, c := range refs {
		out.CIDs[i] = c.String()
		out.Cursor = out.CIDs[i]
	}
	if next.Defined() {
		out.Cursor = next.String()
	}
	return out, nil
}

type didParam struct {
	DID syntax.DID `json:"did"`
}

type latestCommitOutput struct {
	CID string     `json:"cid"`
	Rev syntax.TID `json:"rev"`
}

func (s *Service) getLatestCommit(ctx context.Context, r *xrpc.Request, p didParam) (out latestCommitOutput, err error) {
	acct, err := s.available(ctx, r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return out, err
	}
	head, err := s.Host.Head(ctx, acct.DID)
	if errors.Is(err, repo.ErrRepoNotFound) {
		return out, &xrpc.Error{Status: 400, Name: "RepoNotFound", Message: fmt.Sprintf("Could not find root for DID: %s", p.DID)}
	}
	return latestCommitOutput{head.Commit.String(), head.Rev}, err
}

type getHeadOutput struct {
	Root string `json:"root"`
}

// getHead is the deprecated form of getLatestCommit.
func (s *Service) getHead(ctx context.Context, r *xrpc.Request, p didParam) (out getHeadOutput, err error) {
	latest, err := s.getLatestCommit(ctx, r, p)
	if errors.Is(err, &xrpc.Error{Name: "RepoNotFound"}) {
		err = &xrpc.Error{Status: 400, Name: "HeadNotFound", Message: fmt.Sprintf("Could not find root for DID: %s", p.DID)}
	}
	return getHeadOutput{latest.CID}, err
}

// getCheckout is the deprecated form of getRepo.
func (s *Service) getCheckout(w http.ResponseWriter, r *xrpc.Request, p didParam) error {
	return s.getRepo(w, r, getRepoParams{DID: p.DID})
}

type repoStatus struct {
	DID    syntax.DID `json:"did"`
	Head   string     `json:"head,omitempty"`
	Rev    syntax.TID `json:"rev,omitempty"`
	Active bool       `json:"active"`
	Status Status     `json:"status,omitempty"`
}

func (s *Service) getRepoStatus(ctx context.Context, r *xrpc.Request, p didParam) (out repoStatus, err error) {
	acct, err := s.Accounts.Account(ctx, syntax.AtIdentifier(p.DID))
	if errors.Is(err, ErrNoAccount) {
		return out, &xrpc.Error{Status: 400, Name: "RepoNotFound", Message: fmt.Sprintf("Could not find repo for DID: %s", p.DID)}
	} else if err != nil {
		return out, err
	}
	out = repoStatus{DID: acct.DID, Active: acct.Status == Active, Status: acct.Status}
	if out.Active {
		head, err := s.Host.Head(ctx, acct.DID)
		if err != nil {
			return out, err
		}
		out.Rev = head.Rev
	}
	return out, nil
}

type listReposParams struct {
	Limit  int    `json:"limit"`
	Cursor string `json:"cursor"`
}

type listReposOutput struct {
	Cursor string       `json:"cursor,omitempty"`
	Repos  []repoStatus `json:"repos"`
}

func (s *Service) listRepos(ctx context.Context, r *xrpc.Request, p listReposParams) (out listReposOutput, err error) {
	after, afterDID, err := parseRepoCursor(p.Cursor)
	if err != nil {
		return out, err
	}
	if p.Limit, err = pageLimit(p.Limit, 500, 1000); err != nil {
		return out, err
	}
	accounts, err := s.accountsAfter(ctx, after, afterDID, p.Limit)
	if err != nil {
		return out, err
	}
	out.Repos = make([]repoStatus, 0, len(accounts))
	for _, acct := range accounts {
		out.Cursor = repoCursor(acct)
		head, err := s.Host.Head(ctx, acct.DID)
		if errors.Is(err, repo.ErrRepoNotFound) {
			continue // deleted meanwhile
		} else if err != nil {
			return out, err
		}
		out.Repos = append(out.Repos, repoStatus{
			DID: acct.DID, Head: head.Commit.String(), Rev: head.Rev, Active: acct.Status == Active, Status: acct.Status,
		})
	}
	return out, nil
}

// maxSkip bounds how many accounts are read because Accounts returns those before a position again.
const maxSkip = 1 << 16

// accountsAfter returns a page of accounts. Whatever Accounts makes of a position, the page has
// only accounts after it, so that each account is listed once and a list comes to its end. One that
// starts again from the first account, as it may where it takes a zero time for the start, is read
// past the position.
func (s *Service) accountsAfter(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]Account, error) {
	for n := limit; ; n *= 2 {
		list, err := s.Accounts.ListAccounts(ctx, after, afterDID, n)
		if err != nil || afterDID == "" {
			return list, err
		}
		ended := len(list) < n
		list = slices.DeleteFunc(list, func(a Account) bool {
			// A directory may tell times apart by the millisecond only.
			did := strings.Compare(string(a.DID), string(afterDID))
			return cmp.Or(a.Created.Compare(after), did) <= 0 && cmp.Or(cmp.Compare(a.Created.UnixMilli(), after.UnixMilli()), did) <= 0
		})
		switch {
		case len(list) > 0 || ended:
			return list[:min(len(list), limit)], nil
		case n > maxSkip:
			return nil, fmt.Errorf("atproto: ListAccounts does not get past the account %s, created %s", afterDID, after)
		}
	}
}

// repoCursor is the position of an account in the list of repositories: "<milliseconds>::<did>",
// with a fraction where the time has one.
func repoCursor(a Account) string {
	ms := a.Created.UnixMilli()
	fraction := ""
	if ns := a.Created.Sub(time.UnixMilli(ms)).Nanoseconds(); ns != 0 {
		fraction = fmt.Sprintf(".%06d", ns)
	}
	return fmt.Sprintf("%d%s::%s", ms, fraction, a.DID)
}

// pageLimit is the length of a page that a caller asked for (0: it did not).
func pageLimit(asked, fallback, most int) (int, error) {
	switch {
	case asked == 0:
		return fallback, nil
	case asked < 1 || asked > most:
		return 0, xrpc.InvalidRequest("limit must be from 1 to %d", most)
	}
	return asked, nil
}

// parseRepoCursor reads what repoCursor writes.
func parseRepoCursor(cursor string) (after time.Time, did syntax.DID, err error) {
	if cursor == "" {
		return after, "", nil
	}
	number, id, ok := strings.Cut(cursor, "::")
	ms, fraction, has := strings.Cut(number, ".")
	n, numErr := strconv.ParseInt(ms, 10, 64)
	did, didErr := syntax.ParseDID(id)
	var ns uint64
	if has && numErr == nil {
		ns, numErr = strconv.ParseUint(fraction, 10, 32)
		ok = ok && len(fraction) == 6
	}
	if !ok || numErr != nil || didErr != nil {
		return after, "", xrpc.InvalidRequest("Malformed cursor")
	}
	return time.UnixMilli(n).Add(time.Duration(ns)).UTC(), did, nil
}
