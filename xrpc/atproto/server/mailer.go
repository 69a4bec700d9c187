package server

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

// Mailer sends messages to the owners of accounts. Send returns when the message was accepted, not
// when it has arrived. It must be safe for concurrent use.
type Mailer interface {
	Send(ctx context.Context, m Mail) error
}

// Outbox is a Mailer that stores messages until they are sent: Send returns when a message is
// durable. It can also store them in the atomic changes of accounts that cause them. Package
// mailqueue implements it.
type Outbox interface {
	Mailer
	// HasRoom returns an error if there is no room for this number of further messages; otherwise
	// it counts them as sent. With 0, it only checks that there is room for one.
	HasRoom(ctx context.Context, messages int) error
	// Announce and Write are as in [credential.Notices], with a message instead of a notice.
	Announce(ctx context.Context, did syntax.DID) (end func(), err error)
	Write(step *repo.Step, m Mail) error
	// Stats returns counts of the stored messages.
	Stats(ctx context.Context) (MailStats, error)
}

// MailKind is the purpose of a message.
type MailKind string

// Kinds of messages. All but FactorChanged, NewSignIn, NewApp and Plain have a token.
const (
	ConfirmEmail  MailKind = "confirm_email"
	UpdateEmail   MailKind = "update_email"
	ResetPassword MailKind = "reset_password"
	DeleteAccount MailKind = "delete_account"
	PLCOperation  MailKind = "plc_operation"
	// SignIn has a code that is a second factor.
	SignIn MailKind = "sign_in"
	// FactorChanged says that a second factor or passkey was added, removed or used.
	FactorChanged MailKind = "factor_changed"
	// NewSignIn says that somebody has signed in with a new browser.
	NewSignIn MailKind = "new_sign_in"
	// PasswordChanged, EmailChanged and AppPasswordMade say that the password or address was
	// changed, or an app password was made. EmailChanged is sent to the previous address.
	PasswordChanged MailKind = "password_changed"
	EmailChanged    MailKind = "email_changed"
	AppPasswordMade MailKind = "app_password_made"
	// NewApp says that an app got permissions that it did not have.
	NewApp MailKind = "new_app"
	// Plain is a message that the operator or a moderator wrote.
	Plain MailKind = "plain"
)

// Mail is a message to the owner of an account. Subject and Text are ready to be sent. A Mailer may
// also make its own from the other fields.
type Mail struct {
	// ID identifies the message, so that a message that is sent again after a failure can be
	// recognised. Empty: it is sent only once.
	ID   string
	Kind MailKind
	// To is a bare e-mail address, as the account's owner entered it.
	To     string
	DID    syntax.DID
	Handle syntax.Handle
	// Token is the code for the owner to enter. It is valid for 15 minutes.
	Token string
	// Subject and Text are plain text, in English except in a Plain message.
	Subject, Text string
}

// MailError is an error of a [Mailer].
type MailError struct{ Err error }

func (e *MailError) Error() string { return "the message could not be sent: " + e.Err.Error() }

func (e *MailError) Unwrap() error { return e.Err }

// MailStats has counts of mail since the service was made.
type MailStats struct {
	// On is set if there is a Mailer.
	On bool
	// Waiting is the number of messages, and of jobs that may send one, that wait or run in the
	// background.
	Waiting int
	// Sent and Failed count the attempts of this process. A failed one may be repeated.
	Sent, Failed int
	// LastSent and LastFailed are the times of the last success and failure; zero: never.
	LastSent, LastFailed time.Time
	// Dead is the number of messages that an [Outbox] has given up. Oldest is since when the oldest
	// message waits that could be sent; zero: none does.
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

// MailStats returns counts of mail.
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
