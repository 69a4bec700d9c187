// Package server serves the accounts of a host over HTTP: how they are made, moved, changed and
// deleted (com.atproto.server), the changes of their identities (com.atproto.identity), and what
// the operator and the moderator do to them (com.atproto.admin).
//
// It stands beside package atproto, which serves the repositories, and package session, which
// serves the logins:
//
//	sessions := session.New(session.Config{Credentials: credentials, Key: key, ServiceDID: did, URL: url})
//	svc := server.New(server.Config{
//		Sessions: sessions,
//		Directory: &identity.PLCClient{}, RotationKeys: []crypto.Signer{rotation},
//		Mailer: mailer,
//		Policy: server.Policy{Domains: []string{".pds.example.com"}},
//	})
//	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
//	srv.Handle(sessions.Routes()...)
//	srv.Handle(svc.Routes()...)
//
// A Service is also what package atproto asks about accounts: it is an [atproto.Directory], and has
// an ImportKeys method.
//
// Behaviour follows the official server down to error names and messages, since clients branch on
// them.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Config configures a Service. Sessions, Directory and RotationKeys are required.
type Config struct {
	// Sessions are the sessions of the accounts. Accounts, address, resolver, clock and logger are
	// those of its configuration.
	Sessions *session.Sessions
	// Directory is the did:plc directory. &identity.PLCClient{} is the public one.
	Directory Directory
	// RotationKeys sign operations of accounts' did:plc. The first one is that of new DIDs. While
	// keys are exchanged, DIDs may have any of them.
	RotationKeys []crypto.Signer
	// RecoveryKey is a did:key that new DIDs have as a rotation key before the server's own. Empty:
	// none.
	RecoveryKey string
	// Mailer sends messages to the accounts' owners. Nil: methods that need one answer with status
	// 501.
	Mailer Mailer
	// Outbox, if not nil, keeps messages until the Mailer has taken them, so that what is sent
	// survives the process. Without it, they are sent at once, or besides the answer. If the
	// accounts' credentials have the service's Notices, messages are kept in the atomic changes
	// that cause them.
	Outbox Outbox
	// Policy says who may have an account. Its zero value lets everybody have one, but without
	// Domains there are no handles for new ones.
	Policy Policy
	// CheckClock, if not nil, refuses new accounts while the clock is not trusted, before a DID is
	// registered for nothing. It should be the same as [repo.Config.CheckClock].
	CheckClock func(ctx context.Context) error
	// ResetDelay is how long requestPasswordReset takes, whether there is such an account or not.
	// It should be long enough for the mail to be on its way in most cases, so that what a client
	// says of it is true. 0: 500 ms; negative: no time.
	ResetDelay time.Duration
	// Audit, if not nil, keeps what administrators and moderators do. What cannot be written there
	// is not done.
	Audit *audit.Log
}

// Directory is a did:plc directory, as [identity.PLCClient] is one. It must be safe for concurrent
// use. The errors are those of that client.
type Directory interface {
	// Data returns the present state of a DID.
	Data(ctx context.Context, did syntax.DID) (*identity.PLCData, error)
	// Last returns the last operation of a DID.
	Last(ctx context.Context, did syntax.DID) (*identity.PLCOperation, error)
	// Log returns the operations of a DID, the first one first.
	Log(ctx context.Context, did syntax.DID) ([]*identity.PLCOperation, error)
	// Submit adds an operation.
	Submit(ctx context.Context, did syntax.DID, op *identity.PLCOperation) error
}

// Resolver resolves what others say of identities. [identity.Resolver] is one. The Resolver of
// [session.Config] must be one too.
type Resolver interface {
	session.Resolver
	ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error)
}

// Service serves the accounts of a host. It is safe for concurrent use.
type Service struct {
	cfg         Config
	sessions    *session.Sessions
	accounts    *account.Store
	credentials *credential.Store
	host        *repo.Host
	plc         Directory
	resolver    Resolver
	rotation    crypto.Signer // of new DIDs; see also rotationKey
	url         string        // public
	hostname    string        // of the URL
	did         syntax.DID    // of this server
	now         func() time.Time
	log         *slog.Logger
	post        *postbox
	mailCount   mailCount
	resetAnswer time.Duration
	notices     bool // tokens and changes are written to the Outbox: see Notices
}

// New returns the service of a configuration. It panics if something that is required is missing.
func New(cfg Config) *Service {
	switch {
	case cfg.Sessions == nil:
		panic("server: Config.Sessions is missing: make it with session.New")
	case cfg.Directory == nil:
		panic("server: Config.Directory is missing: &identity.PLCClient{} is the public did:plc directory")
	case len(cfg.RotationKeys) == 0:
		panic("server: Config.RotationKeys is empty: give a key that stays the same, since only with it the DIDs of accounts can be changed")
	}
	if slices.Contains(cfg.RotationKeys, nil) {
		panic("server: Config.RotationKeys has a nil key")
	}
	if _, err := crypto.ParseDIDKey(cfg.RecoveryKey); err != nil && cfg.RecoveryKey != "" {
		panic(fmt.Sprintf("server: Config.RecoveryKey is not a did:key: %v", err))
	}
	if err := cfg.Policy.Validate(); err != nil {
		panic(err.Error())
	}
	common := cfg.Sessions.Config()
	resolver, ok := common.Resolver.(Resolver)
	if !ok {
		panic("server: the Resolver of the sessions has no ResolveHandle: use an identity.Resolver")
	}
	address, err := url.Parse(common.URL)
	if err != nil || address.Hostname() == "" {
		panic("server: the URL of the sessions is no address: " + common.URL)
	}
	accounts := common.Credentials.Accounts()
	s := &Service{
		cfg: cfg, sessions: cfg.Sessions, accounts: accounts, credentials: common.Credentials, host: accounts.Host(), plc: cfg.Directory, resolver: resolver,
		rotation: cfg.RotationKeys[0], url: common.URL, hostname: address.Hostname(), did: common.ServiceDID,
		now: common.Now, log: common.Logger, post: newPostbox(), resetAnswer: cfg.ResetDelay,
	}
	if s.resetAnswer == 0 {
		s.resetAnswer = resetAnswer
	}
	return s
}

// Close lets mail that is under way be sent until the context ends. Methods that send mail besides
// their answer are busy from then on.
func (s *Service) Close(ctx context.Context) { s.post.close(ctx) }
