// Package credential knows what somebody shows to be let in to an account: its password, the
// passwords of its apps, sessions, and tokens that were sent by mail. It is the place for whatever
// else proves who somebody is. Package account, on which it is built, knows who there is. It knows
// no HTTP and makes no tokens of its own for requests: whoever does signs a session's name and the
// value of the account's counter, and has a [Token] looked at for each request.
//
//	credentials := credential.New(credential.Config{Accounts: accounts})
//	proof, err := credentials.CheckPassword(ctx, a, password, true)
//	a, session, err := credentials.StartSession(ctx, proof, false)
//	…
//	who := credentials.Caller(credential.Token{DID: a.DID, Session: session.Name(), Credentials: session.Credentials})
//	a, err = accounts.Authenticate(ctx, who)
//
// All of it is void as soon as the account's counter is raised: see package account. What a check
// of a password has shown is a [Proof], which is only good as long as the counter stays: a login
// that has shown the old password while it is reset gets nothing.
//
// # Second factors
//
// An account may ask for a second factor besides its password: codes of an authenticator app, codes
// sent by mail, and recovery codes for whoever has lost those. [Store.StartSession] begins no
// session by the password alone then; [Store.CheckFactor] completes the proof:
//
//	proof, err := credentials.CheckPassword(ctx, a, password, true)
//	a, session, err := credentials.StartSession(ctx, proof, false) // ErrFactorRequired
//	proof, err = credentials.CheckFactor(ctx, proof, code)
//	a, session, err = credentials.StartSession(ctx, proof, false)
//
// A code is good for once, whoever else shows it at the same moment, and a factor that is removed
// lets nobody in who is just being let in by it. App passwords need no second factor, and are good
// for nothing that changes one. A passkey stands for password and factor together; this package
// keeps passkeys, but does not verify their signatures.
//
// To add or remove a factor does not raise the account's counter: it ends no session. Factors
// outlast what raises it, so a new password does not open an account to whoever reads its mail.
//
// Passwords are hashed with argon2id. Hashing takes a processor and 19 MiB for some 25 ms, and it
// is what strangers ask for, so it is bounded: see Config.Enter. Built for GOOS=js, hashing takes 7
// MiB and more passes.
package credential

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/repo/account"
)

// Errors that callers branch on, with errors.Is, beside those of package account.
var (
	// ErrWrongPassword: there is no such account, or its password is another one.
	ErrWrongPassword = errors.New("credential: invalid identifier or password")
	// ErrDuplicateName: there is an app password of the name.
	ErrDuplicateName = errors.New("credential: duplicate app password name")
	// ErrTooManyAppPasswords: the account has MaxAppPasswords of them.
	ErrTooManyAppPasswords = errors.New("credential: too many app passwords")
	// ErrMailToken: a token that was sent by mail is not the account's, or was used.
	ErrMailToken = errors.New("credential: token is invalid")
	// ErrMailTokenExpired: such a token is too old.
	ErrMailTokenExpired = errors.New("credential: token is expired")
	// ErrMailTokenRequired: what is to be done needs such a token.
	ErrMailTokenRequired = errors.New("credential: a token is required")
	// ErrOtherEmail: the account has another e-mail address.
	ErrOtherEmail = errors.New("credential: the account has another e-mail address")
	// ErrNoEmail: the account has no e-mail address.
	ErrNoEmail = errors.New("credential: the account has no e-mail address")
)

// Config configures a Store. Accounts is required.
type Config struct {
	// Accounts are those whose credentials they are.
	Accounts *account.Store
	// Enter is called before a password is hashed, and leave when that is done. It waits for a
	// place, or returns an error if there is none. Nil means that half the processors, but no more
	// than four, hash at a time, and that the others wait until their contexts end. A host that
	// serves strangers sets it, so that one client does not make all others wait: see
	// xrpc/limit.Gate.
	Enter func(ctx context.Context) (leave func(), err error)
	// FactorChanged, if not nil, is called after a factor of an account was added or removed, and
	// after what else its owner should hear of, in the goroutine that did it. A process that dies
	// at that moment does not call it.
	FactorChanged func(context.Context, FactorChange)
	// Changed is the same for a password or an address that was changed, and an app password that
	// was made.
	Changed func(context.Context, Change)
	// Notices, if not nil, brings these and the tokens that are sent by mail to the owners, in the
	// atomic changes that cause them: in the place of FactorChanged and Changed, and of whoever
	// gets a token from NewMailToken, NewResetToken or NewFactorCode.
	Notices Notices
	// From, if not nil, says where the request of a context comes from, in words by which an
	// account's owner may recognise it, such as a network address: see OpenSession.
	From func(context.Context) string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Store keeps the credentials of accounts. It is safe for concurrent use.
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

// New returns the credentials of accounts, and sees to it that they are void when an account's
// counter is raised. It panics if Accounts is missing. Call it before the accounts are used.
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
