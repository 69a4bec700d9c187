package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// progressEvery is the time between reports of progress.
const progressEvery = time.Second

// download is a body that is being read: it counts.
type download struct {
	io.Reader
	n        int64
	reported time.Time
	report   func(n int64) // nil: nobody
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	d.n += int64(n)
	if d.report != nil && time.Since(d.reported) > progressEvery {
		d.reported = time.Now()
		d.report(d.n)
	}
	return n, err
}

// fetch gets a query's answer and gives it to fn.
func fetch(ctx context.Context, c *xrpc.Client, nsid string, params any, report func(int64), fn func(*http.Response, io.Reader) error) error {
	resp, err := c.Get(ctx, nsid, params)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return fn(resp, &download{Reader: resp.Body, report: report, reported: time.Now()})
}

func (m *mover) carPath() string { return m.State + ".car" }

// export downloads the repository and verifies it. A file that is there is used if it is
// the repository as it stands.
func (m *mover) export(ctx context.Context) error {
	rev, err := m.oldRev(ctx)
	if err != nil {
		return err
	}
	if r, err := m.verifyFile(ctx, m.carPath()); err == nil && r.Rev == rev {
		m.st.Repo = r
		return durablefile.SyncDir(filepath.Dir(m.carPath())) // a process may have died before it did this
	}
	part := m.carPath() + ".part"
	defer os.Remove(part)
	err = m.old.do(ctx, func(c *xrpc.Client) error {
		f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		progress := func(n int64) { m.report(Event{Step: Export, Status: "progress", Done: n, Unit: "bytes"}) }
		err = fetch(ctx, c, "com.atproto.sync.getRepo", didParam{m.st.DID}, progress, func(_ *http.Response, body io.Reader) error {
			_, err := copyAtMost(f, body, m.MaxRepo)
			return err
		})
		if err != nil {
			return err
		}
		return f.Sync()
	})
	if errors.Is(err, errTooLarge) {
		return &Error{Err: fmt.Errorf("the repository has more than %d bytes: %w", m.MaxRepo, err), Next: "If that may be so, raise the limit.", Field: "MaxRepo"}
	} else if err != nil {
		return err
	}
	if m.st.Repo, err = m.verifyFile(ctx, part); err != nil {
		return &Error{Err: fmt.Errorf("what the old server exports is not the account's whole repository: %w", err),
			Next: "Run the move again; if this comes again, ask the operator of the old server."}
	}
	m.report(Event{Step: Export, Status: "progress", Done: m.st.Repo.Bytes, Total: m.st.Repo.Bytes, Unit: "bytes",
		Message: fmt.Sprintf("%d records", m.st.Repo.Records)})
	return durablefile.Rename(part, m.carPath())
}

// verifyFile checks that a file is the account's repository: each block, the tree and each
// record. The signature is for the new server to judge, since the old one may rightly hand out
// what an even older one signed.
func (m *mover) verifyFile(ctx context.Context, path string) (r exported, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	rd, err := commit.ReadRepo(f, commit.RepoOptions{
		DID: m.st.DID, Temp: car.TempDir(filepath.Dir(path)), CAR: car.Limits{TotalBytes: m.MaxRepo},
		// Records from before the data model go along.
		CheckRecord: func(_ string, record []byte) error {
			refs, _, err := data.RecordRefs(record)
			r.Blobs += int64(len(refs))
			return errors.Join(err, ctx.Err())
		},
	})
	if err != nil {
		return r, err
	}
	defer rd.Close()
	for _, err := range rd.Records() {
		if err != nil {
			return r, err
		}
		r.Records++
	}
	info, err := f.Stat()
	if err != nil {
		return r, err
	}
	r.Counted = true
	r.Rev, r.Root, r.Bytes = rd.Commit().Rev, rd.Commit().Data.String(), info.Size()
	return r, nil
}

// accountStatus is the part of checkAccountStatus that is looked at.
type accountStatus struct {
	Activated      bool   `json:"activated"`
	ValidDID       bool   `json:"validDid"`
	RepoCommit     string `json:"repoCommit"`
	IndexedRecords int    `json:"indexedRecords"`
	ExpectedBlobs  int64  `json:"expectedBlobs"`
	ImportedBlobs  int64  `json:"importedBlobs"`
}

// status is how the account stands at the new server.
func (m *mover) status(ctx context.Context) (st accountStatus, err error) {
	err = m.new.query(ctx, "com.atproto.server.checkAccountStatus", nil, &st)
	return st, err
}

// importRepo uploads the repository. An upload whose answer was lost, as happens when a
// proxy gives up waiting, may have worked.
func (m *mover) importRepo(ctx context.Context) error {
	first := true
	err := m.new.do(ctx, func(c *xrpc.Client) error {
		if !first {
			if has, err := m.hasRepo(ctx); err == nil && has {
				return nil
			}
		}
		first = false
		f, err := os.Open(m.carPath())
		if err != nil {
			if forgetErr := m.st.forget(Export); forgetErr != nil {
				return forgetErr
			}
			return err
		}
		defer f.Close()
		return c.Upload(ctx, "com.atproto.repo.importRepo", "application/vnd.ipld.car", io.NewSectionReader(f, 0, m.st.Repo.Bytes), nil)
	})
	if isStatus(err, http.StatusRequestEntityTooLarge) {
		return &Error{Err: err, Next: fmt.Sprintf("The repository has %d bytes, more than the new server takes: ask its operator to raise the limit.", m.st.Repo.Bytes)}
	}
	return err
}

// hasRepo reports whether the new server has the exported repository: by the root of its
// tree, or, if the server does not show that, by the number of records.
func (m *mover) hasRepo(ctx context.Context) (bool, error) {
	st, err := m.status(ctx)
	if err != nil {
		return false, err
	}
	head, err := decodeCID(st.RepoCommit)
	if err != nil {
		return false, fmt.Errorf("%w: repoCommit %q", ErrDiffers, st.RepoCommit)
	}
	root := ""
	err = m.new.do(ctx, func(c *xrpc.Client) error {
		params := url.Values{"did": {string(m.st.DID)}, "cids": {head.String()}}
		return fetch(ctx, c, "com.atproto.sync.getBlocks", params, nil, func(_ *http.Response, body io.Reader) error {
			rd, err := car.NewReader(body, car.Limits{TotalBytes: 1 << 20})
			if err != nil {
				return err
			}
			for b, err := range rd.Blocks() {
				if err != nil {
					return err
				}
				if b.CID == head {
					signed, err := commit.Parse(b.Data)
					if err != nil {
						return err
					}
					root = signed.Data.String()
				}
			}
			return nil
		})
	})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil || root == "" {
		return st.IndexedRecords == m.st.Repo.Records, nil
	}
	return root == m.st.Repo.Root && st.IndexedRecords == m.st.Repo.Records, nil
}

// check asks the new server whether it has everything.
func (m *mover) check(ctx context.Context) error {
	if has, err := m.hasRepo(ctx); err != nil {
		return err
	} else if !has {
		return errors.Join(&Error{Err: fmt.Errorf("%w: the new server has another repository", ErrDiffers),
			Next: "Run the same command again: the repository is copied once more."}, m.st.forget(Export, Import, Blobs))
	}
	st, err := m.status(ctx)
	if err != nil {
		return err
	}
	if lacks := st.ExpectedBlobs - st.ImportedBlobs; lacks > int64(len(m.st.LostBlobs)) {
		return errors.Join(&Error{Err: fmt.Errorf("%w: the new server lacks %d", ErrMissingBlobs, lacks), Next: "Run the move again."}, m.st.forget(Blobs))
	}
	return nil
}

// preferences copies the private preferences.
func (m *mover) preferences(ctx context.Context) error {
	var prefs struct {
		Preferences []json.RawMessage `json:"preferences"`
	}
	err := m.old.query(ctx, api.ActorGetPreferencesNSID, nil, &prefs)
	if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusNotImplemented) {
		m.report(Event{Step: Preferences, Status: "skipped", Message: "The old server keeps no preferences."})
		return nil
	} else if err != nil {
		return err
	}
	keep := []json.RawMessage{}
	for _, p := range prefs.Preferences {
		var typed struct {
			Type string `json:"$type"`
		}
		// That one is computed by the server.
		if data.UnmarshalPlainJSON(p, &typed) == nil && typed.Type != "app.bsky.actor.defs#declaredAgePref" {
			keep = append(keep, p)
		}
	}
	return m.new.procedure(ctx, api.ActorPutPreferencesNSID, map[string]any{"preferences": keep}, nil)
}
