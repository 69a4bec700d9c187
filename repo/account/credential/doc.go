// Package credential checks the credentials of accounts: passwords, app passwords, sessions, second
// factors, and tokens sent by mail. It builds on package account, which manages the accounts
// themselves. It does not depend on HTTP and signs no tokens for requests. A server signs a token
// with the session's name and the value of the account's counter, and has each request checked with
// a [Token].
//
//	credentials := credential.New(credential.Config{Accounts: accounts})
//	proof, err := credentials.CheckPassword(ctx, a, password, true)
//	a, session, err := credentials.StartSession(ctx, proof, false)
//	…
//	who := credentials.Caller(credential.Token{DID: a.DID, Session: session.Name(), Credentials: session.Credentials})
//	a, err = accounts.Authenticate(ctx, who)
//
// All credentials become void when the account's counter is raised: see package account. The result
// of a password check is a [Proof]. It too is valid only as long as the counter does not change. So
// a login with the old password, while the password is being reset, gets no session.
//
// # Second factors
//
// An account may demand a second factor besides its password: codes of an authenticator app, codes
// sent by mail, and recovery codes for owners who have lost those. Then [Store.StartSession]
// refuses a proof of the password alone. [Store.CheckFactor] completes the proof:
//
//	proof, err := credentials.CheckPassword(ctx, a, password, true)
//	a, session, err := credentials.StartSession(ctx, proof, false) // ErrFactorRequired
//	proof, err = credentials.CheckFactor(ctx, proof, code)
//	a, session, err = credentials.StartSession(ctx, proof, false)
//
// Each code can be used once, even by concurrent logins. If a factor is removed during a login, the
// login fails. App passwords need no second factor, but cannot change factors. A passkey replaces
// password and second factor together. This package stores passkeys, but does not verify their
// signatures.
//
// Adding or removing a factor does not raise the account's counter, so it ends no session. Factors
// stay when the counter is raised. So whoever can read the owner's mail, and so can reset the
// password, still needs the second factor.
//
// # Cost of hashing
//
// Passwords are hashed with argon2id. A hash takes some 25 ms of a processor and 19 MiB, and
// strangers can cause it, so the number of concurrent hashes is bounded: see Config.Enter. On
// GOOS=js, a hash takes 7 MiB and more passes.
package credential

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/repo/account"
)

// Errors that callers branch on with errors.Is, besides those of package account.
var (
	// ErrWrongPassword: the account does not exist, or the password is wrong.
	ErrWrongPassword = errors.New("credential: invalid identifier or password")
	// ErrDuplicateName: an app password with this name exists.
	ErrDuplicateName = errors.New("credential: duplicate app password name")
	// ErrTooManyAppPasswords: the account has MaxAppPasswords of them.
	ErrTooManyAppPasswords = errors.New("credential: too many app passwords")
	// ErrMailToken: a token sent by mail belongs to another account, or was already used.
	ErrMailToken = errors.New("credential: token is invalid")
	// ErrMailTokenExpired: a token sent by mail is too old.
	ErrMailTokenExpired = errors.New("credential: token is expired")
	// ErrMailTokenRequired: the operation needs a token sent by mail.
	ErrMailTokenRequired = errors.New("credential: a token is required")
	// ErrOtherEmail: the account has another e-mail address.
	ErrOtherEmail = errors.New("credential: the account has another e-mail address")
	// ErrNoEmail: the account has no e-mail address.
	ErrNoEmail = errors.New("credential: the account has no e-mail address")
)

// Config configures a Store. Accounts is required.
type Config struct {
	// Accounts are the accounts whose credentials the Store keeps.
	Accounts *account.Store
	// Enter is called before a password is hashed; leave is called afterwards. Enter waits for a
	// free place, or returns an error. If it is nil, half the processors hash at a time, at most
	// four, and other calls wait until their contexts end. A public host should set it, so that one
	// client cannot make all others wait: see xrpc/limit.Gate.
	Enter func(ctx context.Context) (leave func(), err error)
	// FactorChanged, if not nil, is called after a factor of an account has changed, and after
	// other events in [FactorEvent] of which the owner should be notified. It runs in the goroutine
	// of the change. If the process dies at that moment, it is not called.
	FactorChanged func(context.Context, FactorChange)
	// Changed is the same for a changed password or address, and for a new app password.
	Changed func(context.Context, Change)
	// Notices, if not nil, sends these notifications and the tokens sent by mail, and writes them
	// in the same atomic changes that cause them. It replaces FactorChanged and Changed. The
	// callers of NewMailToken, NewResetToken and NewFactorCode then need not send the tokens.
	Notices Notices
	// From, if not nil, describes the origin of a request in words that the account's owner may
	// recognise, such as a network address: see [OpenSession].
	From func(context.Context) string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Store manages the credentials of accounts. It is safe for concurrent use.
type Store struct {
	accounts *account.Store
	enter    func(context.Context) (func(), error)
	now      func() time.Time
	onFactor func(context.Context, FactorChange)
	onChange func(context.Context, Change)
	from     func(context.Context) string
	notices  Notices // nil: none
	// terms has those of sessions by the JSON that they are stored as: to parse that takes longer
	// than to read it.
	terms *memo.Texts[term]
}

// How much is remembered, at some 400 bytes a session.
const (
	maxTerms     = 5000
	maxTermBytes = 4 << 10 // of the JSON
)

// New returns the credentials of accounts. It registers with the accounts, so that credentials
// become void when a counter is raised. It panics if Accounts is missing. Call it before the
// accounts are used.
func New(cfg Config) *Store {
	if cfg.Accounts == nil {
		panic("credential: Config.Accounts is missing: make an account.Store first")
	}
	s := &Store{accounts: cfg.Accounts, enter: cfg.Enter, now: cfg.Now, onFactor: cfg.FactorChanged, onChange: cfg.Changed, from: cfg.From, notices: cfg.Notices, terms: memo.NewTexts[term](maxTerms, maxTermBytes)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.enter == nil {
		s.enter = places(max(1, min(4, runtime.NumCPU()/2)))
	}
	cfg.Accounts.OnRaise(raised)
	return s
}

// places is an Enter for n holders.
func places(n int) func(context.Context) (func(), error) {
	held := make(chan struct{}, n)
	return func(ctx context.Context) (func(), error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		select {
		case held <- struct{}{}:
			return func() { <-held }, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Accounts returns the accounts that the Store was made with.
func (s *Store) Accounts() *account.Store { return s.accounts }
