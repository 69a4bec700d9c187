package server

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

// Mailer sends messages to the owners of accounts. Send returns once the message was accepted, not
// once it has arrived. It must be safe for concurrent use.
type Mailer interface {
	Send(ctx context.Context, m Mail) error
}

// Outbox is a Mailer that keeps messages until they are sent: Send returns once a message is
// durable. It can also keep them in the atomic changes of accounts that cause them. Package
// mailqueue has one.
type Outbox interface {
	Mailer
	// HasRoom returns an error if there is no room for so many messages more, else it counts them as
	// sent. With 0, it says whether there is room for one.
	HasRoom(ctx context.Context, messages int) error
	// Announce and Write are those of [credential.Notices], with a message in the place of a
	// notice.
	Announce(ctx context.Context, did syntax.DID) (end func(), err error)
	Write(step *repo.Step, m Mail) error
	// Stats is how the messages fare that are kept.
	Stats(ctx context.Context) (MailStats, error)
}

// MailKind is what a message is for.
type MailKind string

// The kinds of messages. All but FactorChanged, NewSignIn, NewApp and Plain have a
// token.
const (
	ConfirmEmail  MailKind = "confirm_email"
	UpdateEmail   MailKind = "update_email"
	ResetPassword MailKind = "reset_password"
	DeleteAccount MailKind = "delete_account"
	PLCOperation  MailKind = "plc_operation"
	// SignIn has the code that is a second factor.
	SignIn MailKind = "sign_in"
	// FactorChanged tells of a second factor or passkey that was added, removed or used.
	FactorChanged MailKind = "factor_changed"
	// NewSignIn tells of a sign-in with a browser that is new to the account.
	NewSignIn MailKind = "new_sign_in"
	// PasswordChanged, EmailChanged and AppPasswordMade tell of a password or an address that was
	// changed, and an app password that was made. EmailChanged goes to the address before.
	PasswordChanged MailKind = "password_changed"
	EmailChanged    MailKind = "email_changed"
	AppPasswordMade MailKind = "app_password_made"
	// NewApp tells of an app that was given permissions it did not have.
	NewApp MailKind = "new_app"
	// Plain is a message that the operator or a moderator wrote.
	Plain MailKind = "plain"
)

// Mail is a message to the owner of an account. Subject and Text are ready to be sent. A Mailer may
// also make its own from the other fields.
type Mail struct {
	// ID names the message, so that one that is sent twice after a failure can be recognised.
	// Empty: it is sent only once.
	ID   string
	Kind MailKind
	// To is a bare e-mail address, as the account's owner gave it.
	To     string
	DID    syntax.DID
	Handle syntax.Handle
	// Token is what the owner is to enter. It is good for 15 minutes.
	Token string
	// Subject and Text are plain text: in English, but for that of a Plain message.
	Subject, Text string
}

// MailError: a [Mailer] has failed.
type MailError struct{ Err error }

func (e *MailError) Error() string { return "the message could not be sent: " + e.Err.Error() }

func (e *MailError) Unwrap() error { return e.Err }

// MailStats is how mail fares, since the service was made.
type MailStats struct {
	// On reports whether there is a Mailer.
	On bool
	// Waiting is how many messages, and jobs that may send one, wait or are under way in the
	// background.
	Waiting int
	// Sent and Failed count what this process has tried. One that failed may be tried again.
	Sent, Failed int
	// LastSent and LastFailed are when that was last; zero: never.
	LastSent, LastFailed time.Time
	// Dead is how many messages an [Outbox] has given up, and Oldest since when the first one waits
	// that could be sent; zero: none does.
	Dead   int
	Oldest time.Time
}

// mailCount counts messages.
type mailCount struct {
	mu sync.Mutex
	MailStats
}

// mailed counts a message.
func (s *Service) mailed(err error) {
	c := &s.mailCount
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.Failed, c.LastFailed = c.Failed+1, s.now()
	} else {
		c.Sent, c.LastSent = c.Sent+1, s.now()
	}
}

// statsTimeout bounds how long it takes to count what an Outbox keeps.
const statsTimeout = 5 * time.Second

// MailStats returns how mail fares.
func (s *Service) MailStats() (st MailStats) {
	s.mailCount.mu.Lock()
	st = s.mailCount.MailStats
	s.mailCount.mu.Unlock()
	if s.cfg.Outbox != nil {
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		defer cancel()
		kept, err := s.cfg.Outbox.Stats(ctx)
		if err != nil {
			s.log.Error("count mail", "err", err)
		}
		st.Waiting, st.Dead, st.Oldest = kept.Waiting, kept.Dead, kept.Oldest
		st.Sent, st.Failed = st.Sent+kept.Sent, st.Failed+kept.Failed
		if kept.LastSent.After(st.LastSent) {
			st.LastSent = kept.LastSent
		}
		if kept.LastFailed.After(st.LastFailed) {
			st.LastFailed = kept.LastFailed
		}
	}
	st.On = s.cfg.Mailer != nil
	s.post.mu.Lock()
	st.Waiting += s.post.jobs
	s.post.mu.Unlock()
	return st
}
