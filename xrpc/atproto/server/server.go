// Package server serves the accounts of a host over HTTP: it creates, moves, changes and deletes
// them (com.atproto.server), changes their identities (com.atproto.identity), and has the methods
// of operators and moderators (com.atproto.admin).
//
// Package atproto serves the repositories, and package session the logins:
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
// A Service is also the [atproto.Directory] of package atproto, and has its ImportKeys.
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
	// Sessions are the sessions of the accounts. The service uses the accounts, URL, resolver,
	// clock and logger of their configuration.
	Sessions *session.Sessions
	// Directory is the did:plc directory. &identity.PLCClient{} is the public one.
	Directory Directory
	// RotationKeys sign operations of accounts' did:plc. New DIDs get the first one. While keys are
	// being replaced, DIDs may have any of them.
	RotationKeys []crypto.Signer
	// RecoveryKey is a did:key that new DIDs get as a rotation key above the server's own. Empty:
	// none.
	RecoveryKey string
	// Mailer sends messages to the accounts' owners. Nil: methods that need it respond with status
	// 501.
	Mailer Mailer
	// Outbox, if not nil, stores messages until the Mailer has accepted them, so that mail survives
	// a crash. Without it, mail is sent at once, or in the background. If the accounts' credentials
	// use the service's Notices, messages are stored in the atomic changes that cause them.
	Outbox Outbox
	// Policy says who may have an account. Its zero value lets everybody have one, but without
	// Domains new accounts need handles of their own.
	Policy Policy
	// CheckClock, if not nil, refuses new accounts while the clock is not trusted, before a DID is
	// registered in vain. It should be that of [repo.Config].
	CheckClock func(ctx context.Context) error
	// ResetDelay is how long requestPasswordReset takes, whether the account exists or not, so that
	// the time does not reveal it. The mail should usually have been sent by then. 0: 500 ms;
	// negative: no delay.
	ResetDelay time.Duration
	// Audit, if not nil, records the operations of administrators and moderators. If that fails,
	// the operation is not done.
	Audit *audit.Log
}

// Directory is a did:plc directory; [identity.PLCClient] implements it. It must be safe for
// concurrent use. Errors must be those of that client.
type Directory interface {
	// Data returns the present state of a DID.
	Data(ctx context.Context, did syntax.DID) (*identity.PLCData, error)
	// Last returns the last operation of a DID.
	Last(ctx context.Context, did syntax.DID) (*identity.PLCOperation, error)
	// Log returns the operations of a DID, oldest first.
	Log(ctx context.Context, did syntax.DID) ([]*identity.PLCOperation, error)
	// Submit adds an operation.
	Submit(ctx context.Context, did syntax.DID, op *identity.PLCOperation) error
}

// Resolver resolves identities; [identity.Resolver] implements it. The Resolver of [session.Config]
// must implement it too.
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

// New returns the service of a configuration. It panics if something required is missing.
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

// Close waits until mail in progress is sent, or the context ends. Methods that send mail in the
// background respond that they are busy from then on.
func (s *Service) Close(ctx context.Context) { s.post.close(ctx) }
