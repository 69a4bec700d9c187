package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// MaxRepo is the length in bytes of the largest repository that is read.
const MaxRepo = 256 << 20

// fetch reads the repository of an account from its PDS, verifies it, and puts what it has into the
// index.
func (n *Network) fetch(ctx context.Context, did syntax.DID) error {
	doc, err := n.Resolver.ResolveDID(ctx, did)
	if err != nil {
		return err
	}
	host, ok := doc.PDS()
	if !ok {
		return errors.New("the DID document names no PDS")
	}
	key, err := doc.SigningKey()
	if err != nil {
		return err
	}
	c, err := n.readRepo(ctx, host, did, key)
	if errors.Is(err, commit.ErrBadSignature) || errors.Is(err, crypto.ErrSignature) {
		// The key may have been changed; the next attempt sees the new one.
		n.Resolver.Purge(syntax.AtIdentifier(did))
	}
	if xerr := (*xrpc.Error)(nil); errors.As(err, &xerr) && gone[xerr.Name] {
		return n.Index.Gone(ctx, did) // an event of that was missed
	}
	if err != nil {
		return err
	}
	return n.Index.Replace(ctx, c)
}

// gone are the errors by which a PDS says that an account is not active.
var gone = map[string]bool{"RepoNotFound": true, "RepoDeactivated": true, "RepoTakendown": true, "RepoSuspended": true}

// readRepo reads and verifies a repository. Nothing of it is used before its end is seen.
func (n *Network) readRepo(ctx context.Context, host string, did syntax.DID, key *crypto.PublicKey) (c index.Commit, err error) {
	client := &xrpc.Client{Host: host, HTTP: n.Downloads, Retries: -1}
	resp, err := client.Get(ctx, api.SyncGetRepoNSID, url.Values{"did": {string(did)}})
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	r, err := commit.ReadRepo(http.MaxBytesReader(nil, resp.Body, MaxRepo), commit.RepoOptions{
		DID: did, Key: key, CAR: car.Limits{TotalBytes: MaxRepo}, Records: 4 * MaxRepo,
		CheckRecord: func(string, []byte) error { return nil }, // old records of other types may break later rules
	})
	if err != nil {
		return c, err
	}
	defer r.Close()
	c = index.Commit{DID: did, Rev: r.Commit().Rev, Data: r.Commit().Data.String(), Name: new(string)}
	for record, err := range r.Records() {
		if err != nil {
			return c, fmt.Errorf("the repository at %s: %w", host, err)
		}
		if strings.HasPrefix(record.Path, string(status.Collection)+"/") || record.Path == string(profileCollection)+"/"+string(profileKey) {
			n.op(&c, commit.Op{Action: commit.Create, Path: record.Path, CID: record.CID}, record.Data)
		}
		if most := index.MaxStatuses; len(c.Ops) > 2*most { // paths are in the order of time
			c.Ops = append([]index.Op(nil), c.Ops[len(c.Ops)-most:]...)
		}
	}
	if most := index.MaxStatuses; len(c.Ops) > most {
		c.Ops = c.Ops[len(c.Ops)-most:]
	}
	return c, nil
}
