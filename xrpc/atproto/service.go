// Package atproto serves the repository, synchronisation and identity methods of
// the com.atproto namespace over a repo.Host: the surface by which clients
// write records and the network reads repositories. A custom PDS mounts it and
// adds its own accounts:
//
//	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
//	svc := &atproto.Service{Host: host, Accounts: accounts, Auth: auth, Schemas: lexicon.Builtin()}
//	svc.Mount(srv)
//	http.ListenAndServe(addr, srv)
//
// Behaviour follows the official server down to error names and messages, since
// clients branch on them. It differs where that server fails with status 500 on
// a request that is merely wrong: a create of a record that exists, an update or
// delete (in applyWrites) of one that does not, are InvalidRequest here.
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

// ErrNoAccount is what a Directory returns for an identifier that it does not know.
var ErrNoAccount = errors.New("atproto: no such account")

// Account is what the methods need to know of an account.
type Account struct {
	DID     syntax.DID
	Handle  syntax.Handle
	Created time.Time
	Status  Status
	// Moderated says that some of its records or blobs are taken down: only then
	// is Service.Takedowns asked.
	Moderated bool
}

// Status is the hosting status of an account, in the words of #account events.
type Status string

// The statuses. The zero value is an active account.
const (
	Active      Status = ""
	TakenDown   Status = "takendown"
	Suspended   Status = "suspended"
	Deactivated Status = "deactivated"
)

// Directory is the host's directory of accounts. It must be safe for concurrent use. It may also be
// SnapshotAccounts, Documents and Handles.
type Directory interface {
	// Account returns an account by DID or handle, whatever its status, or ErrNoAccount.
	Account(ctx context.Context, id syntax.AtIdentifier) (Account, error)
	// ListAccounts returns up to limit accounts in the order of creation time and
	// DID, after the given position. With an empty afterDID it starts from the first account.
	// The zero time is a creation time like any other: it does not mean the start.
	ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]Account, error)
}

// SnapshotAccounts is a Directory whose accounts lie in their repositories' key-value pairs. A
// method then reads account and records in one snapshot, where it otherwise needs two.
type SnapshotAccounts interface {
	// AccountIn returns the account of a snapshot's repository, or ErrNoAccount. It must not
	// read anything but the snapshot.
	AccountIn(ctx context.Context, r storage.Reader) (Account, error)
}

// Documents is a Directory that has the DID documents of its accounts. Without it, they are
// resolved over the network.
type Documents interface {
	// Document returns the DID document of an account as JSON, and the handle that it claims.
	Document(ctx context.Context, did syntax.DID) (doc []byte, handle syntax.Handle, err error)
}

// Handles is a Directory that resolves the handles of others. Without it, they are resolved over
// the network.
type Handles interface {
	// ResolveHandle returns the DID of a handle that is not of this host, or
	// ErrNoAccount.
	ResolveHandle(ctx context.Context, handle syntax.Handle) (syntax.DID, error)
}

// Takedowns knows which records and blobs of moderated accounts are taken down. They
// are hidden from getRecord, listRecords and getBlob, and stay in the repository.
type Takedowns interface {
	// HiddenRecords returns which of the paths are those of records that are taken down.
	HiddenRecords(ctx context.Context, did syntax.DID, paths []string) (map[string]bool, error)
	// HiddenBlob reports whether a blob is taken down.
	HiddenBlob(ctx context.Context, did syntax.DID, blob cid.Cid) (bool, error)
}

// Auth authenticates requests. A principal of package auth acts as an account if its role is
// auth.User, and sees everything if it is auth.Administrator.
type Auth struct {
	// User demands an account's credentials. It is required.
	User xrpc.Authenticator
	// Optional accepts a request without credentials, and refuses one with bad credentials. Nil:
	// all requests for what is public are anonymous.
	Optional xrpc.Authenticator
	// Upload is for uploadBlob, which services call too, with the service token of a
	// user. Nil: User.
	Upload xrpc.Authenticator
	// Guard returns what decides in the transaction of every change that a principal makes whether
	// it still may: since the request was authenticated, its session may have ended. Errors of the
	// guard should be an *xrpc.Error. What it returns should include a check of all that it read,
	// and of the account's status; for the snapshot of Principal.Basis, that is Basis. Nil: the
	// change is refused with ConcurrentWrites if a value of Principal.Basis is another one by then.
	Guard func(p auth.Principal) repo.Guard
}

// Service is the set of methods. Host, Accounts and Auth.User are required.
type Service struct {
	Host     *repo.Host
	Accounts Directory
	Auth     Auth
	// Takedowns is asked about moderated accounts. Nil: nothing is taken down.
	Takedowns Takedowns
	// BlobURL, if not nil, returns an address from which anybody can fetch a blob for a short time,
	// and getBlob redirects there: see the URL method of bucket.Store for what such answers lack.
	// It is asked only when the caller may see the blob. An empty address: getBlob sends the bytes.
	BlobURL func(ctx context.Context, did syntax.DID, blob cid.Cid) (string, error)
	// CountWrites, if not nil, is asked before applyWrites writes anything: the place for rate
	// limits by write. The other methods write one record each, so Server.Limit can count them.
	CountWrites func(r *xrpc.Request, creates, updates, deletes int) error
	// Schemas validates records; nil means that no schema is known.
	Schemas *lexicon.Catalog
	// Unknown, if not nil, validates records whose schemas the catalog does not have, with an
	// error that is lexicon.ErrUnknownSchema if it has none either. The method of that
	// name of a resolve.Resolver looks schemas up in the network.
	Unknown func(ctx context.Context, collection syntax.NSID, rkey syntax.RecordKey, record any) error
	// Sniff recognises a blob's type by its first 3072 bytes, and says whether that is a guess, as
	// it is for text. It returns "application/octet-stream" if it knows none. What it finds counts
	// for more than what an upload declares, unless it is a guess or the container of what is
	// declared. Nil: what net/http recognises. Package blobtype knows more, such as HEIC and AVIF.
	Sniff func(head []byte) (mime string, guess bool)
	// Elsewhere, if not nil, answers getRecord for a repository that is not of this host,
	// as by asking a service that knows all. Nil: InvalidRequest.
	Elsewhere func(w http.ResponseWriter, r *xrpc.Request) error
	// Outbox serves subscribeRepos; nil leaves the method out.
	Outbox *stream.Outbox
	// ImportKeys returns the keys of which one must have signed the commit of a CAR file that
	// importRepo takes: those that the account's DID document has, or had. If it is nil, importRepo
	// is left out; if it returns none, the import is refused; unless UnverifiedImports is set.
	ImportKeys func(ctx context.Context, did syntax.DID) ([]*crypto.PublicKey, error)
	// UnverifiedImports accepts CAR files with any signature where ImportKeys is nil or returns no
	// keys. The account may write what it likes to its own repository by other methods too.
	UnverifiedImports bool
	// ImportLimits bounds what such a file stands for. The bound of its length is ImportLimit.
	ImportLimits repo.ImportLimits
	// BlobLimit is the size in bytes of the largest blob. 0 means 100 MiB.
	BlobLimit int64
	// ImportLimit is the size in bytes of the largest CAR file that importRepo takes. 0
	// means 1 GiB; negative leaves the method out.
	ImportLimit int64
	// Resolver serves resolveDid, resolveIdentity and refreshIdentity, the last one for users only.
	// Nil leaves the methods out. It also resolves accounts of other hosts, and what Accounts does
	// not know of its own: see Documents and Handles. If it is nil, a new identity.Resolver does
	// that.
	Resolver *identity.Resolver

	network *identity.Resolver // since Mount: Resolver, or one of its own
}

// maxWriteBody is the limit in bytes of the bodies of write methods.
const maxWriteBody = 1_000_000

// Mount registers the methods. It panics if the Service is not valid: see [Service.Validate].
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
