// Package mail sends plain text messages to one recipient each.
//
//	sender, err := mail.New(mail.Config{URL: "smtps://user:password@smtp.example.com", From: "The Host <pds@example.com>"})
//	err = sender.Send(ctx, mail.Message{To: address, Subject: "Your code", Text: "…"})
//
// A Sender is one of four things: a [Hook]; an SMTP server (or the machine's own sendmail); a log,
// for development, in which the developer reads the token; or a file of JSON lines, for tests. All
// of them refuse input that could add a header or a second recipient, so callers may pass on user
// input. There is no queue: the caller retries. Package mailqueue does.
package mail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"time"
)

// Message is a plain text message to one recipient.
type Message struct {
	// ID identifies a message that may be sent twice; its Message-ID is derived from it. At most
	// 128 ASCII letters, digits and "-_.". Empty: a new one each time.
	ID      string `json:"id,omitempty"`
	To      string `json:"to"` // an e-mail address without a name
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Sender sends messages. Send returns when the message was accepted, not when it has arrived. It is
// safe for concurrent use.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Prober is an optional interface of a Sender. It checks without a message whether one would be
// accepted: whether the mail server answers, and accepts the user's password and the sender's
// address. The senders of New for an SMTP server and for sendmail implement it.
type Prober interface {
	Probe(ctx context.Context) error
}

// ErrAddress: a recipient is not a bare e-mail address.
var ErrAddress = errors.New("mail: not an e-mail address")

// Config says how messages are sent. The zero value drops them.
type Config struct {
	// URL is the URL of the server: smtp://user:password@host:port (default port 587; TLS by
	// STARTTLS if the server offers it, and always before a password is sent to another machine),
	// smtps://… (default port 465, TLS from the start), or smtp:///?sendmail=true for the program
	// sendmail. Empty: messages are written to Log.
	URL string
	// From is the sender's address, with or without a name. It is required with a URL.
	From string
	// Log receives the messages if there is no URL. Nil: they are dropped.
	Log *slog.Logger
	// File, if not empty, is a file to which messages are appended as JSON lines, in addition to
	// the above.
	File string
}

// New returns the sender of a configuration. The error says what is wrong with URL or From, and
// contains no password.
func New(cfg Config) (Sender, error) {
	switch {
	case cfg.File != "":
		return &file{path: cfg.File}, nil
	case cfg.URL != "":
		return newSMTP(cfg.URL, cfg.From)
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return logger{log}, nil
}

// Permanent reports whether an error of Send is permanent: the recipient is not an address, or the
// mail server has refused the message permanently. Errors that an operator can repair, such as a
// wrong password, are not permanent.
func Permanent(err error) bool {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		switch reply.Code {
		case 550, 551, 552, 553, 556: // RFC 5321, 4.2.3, and RFC 7504
			return true
		}
		return false
	}
	return errors.Is(err, ErrAddress)
}

// maxID is how long the ID of a message may be.
const maxID = 128

// check refuses a message whose recipient is not exactly one bare address, and an ID that is none.
func check(m Message) error {
	if len(m.ID) > maxID || strings.ContainsFunc(m.ID, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}) {
		return fmt.Errorf("mail: not the ID of a message: %.130q", m.ID)
	}
	addr, err := mail.ParseAddress(m.To)
	if err != nil || addr.Address != m.To || strings.ContainsAny(m.To, "\r\n\x00<> ") || len(m.To) > 254 {
		return fmt.Errorf("%w: %.260q", ErrAddress, m.To)
	}
	return nil
}

// logger writes messages to a log.
type logger struct{ log *slog.Logger }

func (l logger) Send(ctx context.Context, m Message) error {
	if err := check(m); err != nil {
		return err
	}
	l.log.InfoContext(ctx, "mail is not configured: this message was not sent", "to", m.To, "subject", m.Subject, "text", m.Text)
	return nil
}

// file appends messages to a file.
type file struct {
	path string
	mu   sync.Mutex
}

// line is the form of a message in the file.
type line struct {
	Time time.Time `json:"time"`
	Message
}

func (f *file) Send(_ context.Context, m Message) error {
	if err := check(m); err != nil {
		return err
	}
	text, err := json.Marshal(line{time.Now().UTC(), m})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	_, err = out.Write(append(text, '\n'))
	return errors.Join(err, out.Close())
}
