// Package atproto serves the repository, synchronisation and identity methods of the com.atproto
// namespace over a repo.Host. Clients write records with them, and the network reads repositories.
// A custom PDS mounts it and adds its own accounts:
//
//	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
//	svc := &atproto.Service{Host: host, Accounts: accounts, Auth: auth, Schemas: lexicon.Builtin()}
//	svc.Mount(srv)
//	http.ListenAndServe(addr, srv)
//
// Behaviour follows the official server down to error names and messages, since clients branch on
// them. There is one difference: requests that are merely wrong are InvalidRequest here if that
// server fails with status 500. Examples are creating a record that exists, and updating or
// deleting (in applyWrites) one that does not.
package atproto

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// ErrNoAccount: a Directory does not know the account.
var ErrNoAccount = errors.New("atproto: no such account")

// Account is the part of an account that the methods need.
type Account struct {
	DID     syntax.DID
	Handle  syntax.Handle
	Created time.Time
	Status  Status
	// Moderated is set if some of its records or blobs are taken down. Service.Takedowns is called
	// only for such accounts.
	Moderated bool
}

// Status is the hosting status of an account, in the words of #account events. The zero value means
// active.
type Status string

// The statuses. The zero value is an active account.
const (
	Active      Status = ""
	TakenDown   Status = "takendown"
	Suspended   Status = "suspended"
	Deactivated Status = "deactivated"
)

// Directory is the host's directory of accounts. It must be safe for concurrent use. It may also
// implement SnapshotAccounts, Documents and Handles.
type Directory interface {
	// Account returns an account of any status by DID or handle, or ErrNoAccount.
	Account(ctx context.Context, id syntax.AtIdentifier) (Account, error)
	// ListAccounts returns up to limit accounts that follow the given position, in the order of
	// creation time and DID. An empty afterDID means the first position. The zero time is a
	// creation time like any other: it does not mean the first position.
	ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]Account, error)
}

// SnapshotAccounts is an optional interface of a Directory whose accounts are stored in their
// repositories' key-value pairs. Methods then read account and records in one snapshot instead of
// two.
type SnapshotAccounts interface {
	// AccountIn returns the account of a snapshot, or ErrNoAccount. It must not read anything but
	// the snapshot.
	AccountIn(ctx context.Context, r storage.Reader) (Account, error)
}

// Documents is an optional interface of a Directory that has the DID documents of its accounts.
// Otherwise they are resolved over the network.
type Documents interface {
	// Document returns the DID document of an account as JSON, and the handle that it claims.
	Document(ctx context.Context, did syntax.DID) (doc []byte, handle syntax.Handle, err error)
}

// Handles is an optional interface of a Directory that resolves the handles of other accounts.
// Otherwise they are resolved over the network.
type Handles interface {
	// ResolveHandle returns the DID of a handle that does not belong to this host, or ErrNoAccount.
	ResolveHandle(ctx context.Context, handle syntax.Handle) (syntax.DID, error)
}

// Takedowns says which records and blobs of moderated accounts are taken down. getRecord,
// listRecords and getBlob hide them. They stay in the repository.
type Takedowns interface {
	// HiddenRecords returns the set of those paths whose records are taken down.
	HiddenRecords(ctx context.Context, did syntax.DID, paths []string) (map[string]bool, error)
	// HiddenBlob reports whether a blob is taken down.
	HiddenBlob(ctx context.Context, did syntax.DID, blob cid.Cid) (bool, error)
}

// Auth authenticates requests. A principal acts as an account if its role is auth.User. It sees
// everything if its role is auth.Administrator.
type Auth struct {
	// User demands an account's credentials. It is required.
	User xrpc.Authenticator
	// Optional accepts a request without credentials, and refuses one with invalid credentials.
	// Nil: all requests for public data are anonymous.
	Optional xrpc.Authenticator
	// Upload is for uploadBlob, which services call too, with a service token of a user. Nil: User.
	Upload xrpc.Authenticator
	// Guard returns a guard that checks a principal in the transaction of every change, since its
	// session may have ended after the request was authenticated. Errors of the guard should be
	// *xrpc.Error. Its checks should include everything that it read, and the account's status. For
	// the snapshot of Principal.Basis, they are Basis. Nil: if a value of Principal.Basis has
	// changed, the change is refused with ConcurrentWrites.
	Guard func(p auth.Principal) repo.Guard
}

// Service is the set of methods. Host, Accounts and Auth.User are required.
type Service struct {
	Host     *repo.Host
	Accounts Directory
	Auth     Auth
	// Takedowns is called for moderated accounts. Nil: nothing is taken down.
	Takedowns Takedowns
	// BlobURL, if not nil, returns a URL from which anybody can fetch a blob for a short time, and
	// getBlob redirects to it. See the method URL of bucket.Store for the limitations. It is called
	// only if the caller may see the blob. If the URL is empty, getBlob sends the bytes.
	BlobURL func(ctx context.Context, did syntax.DID, blob cid.Cid) (string, error)
	// CountWrites, if not nil, is called before applyWrites writes anything, for rate limits by
	// write. The other methods write one record each, so Server.Limit can count them.
	CountWrites func(r *xrpc.Request, creates, updates, deletes int) error
	// Schemas validates records. Nil: no schema is known.
	Schemas *lexicon.Catalog
	// Unknown, if not nil, validates records whose schemas the catalog does not have. If it has no
	// schema either, its error must match lexicon.ErrUnknownSchema. The method with this name of a
	// resolve.Resolver fetches schemas from the network.
	Unknown func(ctx context.Context, collection syntax.NSID, rkey syntax.RecordKey, record any) error
	// Sniff recognises a blob's type from its first 3072 bytes. guess is set if the type is
	// uncertain, as for text. It returns "application/octet-stream" if it knows no type. Its type
	// replaces the declared one, unless it is a guess, or the container format of the declared
	// type. Nil: what net/http recognises. Package blobtype knows more types, such as HEIC and
	// AVIF.
	Sniff func(head []byte) (mime string, guess bool)
	// Elsewhere, if not nil, serves getRecord for repositories of other hosts, for example from an
	// AppView. Nil: InvalidRequest.
	Elsewhere func(w http.ResponseWriter, r *xrpc.Request) error
	// Outbox serves subscribeRepos. Nil: the method is left out.
	Outbox *stream.Outbox
	// ImportKeys returns the keys of which one must have signed the commit of an imported CAR file:
	// those that the account's DID document has or had. Nil: importRepo is left out. If it returns
	// no keys, the import is refused. UnverifiedImports changes both.
	ImportKeys func(ctx context.Context, did syntax.DID) ([]*crypto.PublicKey, error)
	// UnverifiedImports accepts CAR files with any signature if ImportKeys is nil or returns no
	// keys. The account may write any records to its own repository anyway.
	UnverifiedImports bool
	// ImportLimits bounds the content of such a file. ImportLimit bounds its length.
	ImportLimits repo.ImportLimits
	// BlobLimit is the size in bytes of the largest blob. 0 means 100 MiB.
	BlobLimit int64
	// ImportLimit is the maximum size of a CAR file for importRepo, in bytes. 0 means 1 GiB;
	// negative leaves the method out.
	ImportLimit int64
	// Resolver serves resolveDid, resolveIdentity and refreshIdentity (the last one only for
	// users). Nil leaves the methods out. It also resolves accounts of other hosts, and whatever
	// Accounts does not know about its own: see Documents and Handles. If it is nil, a new
	// identity.Resolver does that.
	Resolver *identity.Resolver

	network *identity.Resolver // since Mount: Resolver, or one of its own
}

// maxWriteBody is the limit in bytes of the bodies of write methods.
const maxWriteBody = 1_000_000

// Mount registers the methods. It panics if [Service.Validate] returns an error.
func (s *Service) Mount(srv *xrpc.Server) {
	if err := s.Validate(); err != nil {
		panic(err)
	}
	if s.network = s.Resolver; s.network == nil {
		s.network = new(identity.Resolver)
	}
	srv.Handle(s.routes()...)
}

func (s *Service) routes() []xrpc.Route {
	user, optional, upload := checked(s.Auth.User, true), checked(s.Auth.Optional, false), checked(s.Auth.Upload, true)
	if upload == nil {
		upload = user
	}
	create, update, remove := auth.Write(auth.Create, auth.FromInput), auth.Write(auth.Update, auth.FromInput), auth.Write(auth.Delete, auth.FromInput)
	write := func(nsid string, h xrpc.Handler, needs ...auth.Permission) xrpc.Route {
		return xrpc.Route{NSID: nsid, Handler: h, Auth: user, Needs: needs, MaxBody: maxWriteBody}
	}
	public := func(nsid string, h xrpc.Handler) xrpc.Route { return xrpc.Route{NSID: nsid, Handler: h} }
	// Methods whose answer depends on whether the account itself, or an administrator, asks.
	sync := func(nsid string, h xrpc.Handler) xrpc.Route {
		return xrpc.Route{NSID: nsid, Handler: h, Auth: optional}
	}
	list := []xrpc.Route{
		write(api.RepoCreateRecordNSID, xrpc.Procedure(s.createRecord), create),
		write(api.RepoPutRecordNSID, xrpc.Procedure(s.putRecord), create, update),
		write(api.RepoDeleteRecordNSID, xrpc.Procedure(s.deleteRecord), remove),
		write(api.RepoApplyWritesNSID, xrpc.Procedure(s.applyWrites), create, update, remove),
		{
			NSID: api.RepoUploadBlobNSID, Handler: xrpc.RawProcedure(s.uploadBlob), MaxBody: s.blobLimit(),
			Auth: upload, Needs: []auth.Permission{auth.Upload(auth.FromInput)},
		},
		{NSID: api.RepoListMissingBlobsNSID, Handler: xrpc.Query(s.listMissingBlobs), Auth: user},

		public(api.RepoGetRecordNSID, xrpc.RawQuery(s.getRecord)),
		public(api.RepoListRecordsNSID, xrpc.RawQuery(s.listRecords)),
		public(api.RepoDescribeRepoNSID, xrpc.Query(s.describeRepo)),
		public(api.IdentityResolveHandleNSID, xrpc.Query(s.resolveHandle)),
		public(api.SyncGetRepoStatusNSID, xrpc.Query(s.getRepoStatus)),
		public(api.SyncListReposNSID, xrpc.Query(s.listRepos)),

		sync(api.SyncGetRepoNSID, xrpc.RawQuery(s.getRepo)),
		sync(api.SyncGetRecordNSID, xrpc.RawQuery(s.getRecordProof)),
		sync(api.SyncGetBlocksNSID, xrpc.RawQuery(s.getBlocks)),
		sync(api.SyncGetBlobNSID, xrpc.RawQuery(s.getBlob)),
		sync(api.SyncGetLatestCommitNSID, xrpc.Query(s.getLatestCommit)),
		sync(api.SyncListBlobsNSID, xrpc.Query(s.listBlobs)),
		// Deprecated, and still called.
		sync(api.SyncGetHeadNSID, xrpc.Query(s.getHead)),
		sync(api.SyncGetCheckoutNSID, xrpc.RawQuery(s.getCheckout)),
	}
	if s.ImportLimit >= 0 && (s.ImportKeys != nil || s.UnverifiedImports) {
		limit := s.ImportLimit
		if limit == 0 {
			limit = 1 << 30
		}
		list = append(list, xrpc.Route{
			NSID: api.RepoImportRepoNSID, Handler: xrpc.RawProcedure(s.importRepo), MaxBody: limit,
			Auth: user, Needs: []auth.Permission{auth.ManageRepo},
		})
	}
	if s.Outbox != nil {
		list = append(list, public(api.SyncSubscribeReposNSID, xrpc.Subscription(s.Outbox)))
	}
	if s.Resolver != nil {
		list = append(list,
			public(api.IdentityResolveDIDNSID, xrpc.Query(s.resolveDid)),
			public(api.IdentityResolveIdentityNSID, xrpc.Query(s.resolveIdentity)),
			xrpc.Route{NSID: api.IdentityRefreshIdentityNSID, Handler: xrpc.Procedure(s.refreshIdentity), Auth: user},
		)
	}
	return list
}

func (s *Service) blobLimit() int64 {
	if s.BlobLimit == 0 {
		return 100 << 20
	}
	return s.BlobLimit
}
