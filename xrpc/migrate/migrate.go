package migrate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// The steps of a move.
const (
	Account     = "account"     // the account exists at the new server, deactivated
	Export      = "export"      // its repository is in a local file and verified
	Import      = "import"      // the new server has the repository
	Blobs       = "blobs"       // and all blobs that it refers to
	Preferences = "preferences" // and the private preferences
	Check       = "check"       // the new server says that it has all
	Sign        = "sign"        // the operation that changes the did:plc is signed
	Identity    = "identity"    // the DID document names the new server
	Activate    = "activate"    // the account is active at the new server
	Deactivate  = "deactivate"  // and not at the old one
)

// Steps are the steps in their order.
var steps = []string{Account, Export, Import, Blobs, Preferences, Check, Sign, Identity, Activate, Deactivate}

// Steps returns the names of the steps in order.
func Steps() []string { return slices.Clone(steps) }

// Options configures a migration. Account, NewHost and State are required.
type Options struct {
	// Account is the account's handle or DID.
	Account string
	// OldHost is the URL of the account's present server. Empty: that of its DID document.
	OldHost string
	// NewHost is the URL of the new server.
	NewHost string
	// Handle is the account's new handle. Empty: the same or, if that is under a domain of the old
	// server, the same name under a domain of the new server.
	Handle string
	// Email is the new address. Empty: the same as on the old server.
	Email string
	// InviteCode is for servers that require one.
	InviteCode string
	// OldPassword and NewPassword are the account's passwords on both servers; app passwords do not
	// work. Empty: Ask.
	OldPassword, NewPassword string
	// Token is the token that the old server has mailed for signing a PLC operation. Empty: one is
	// requested, and asked for with Ask.
	Token string
	// RotationKey, if not nil, is a rotation key of the did:plc. Then no token is needed, since the
	// old server need not sign.
	RotationKey *crypto.PrivateKey
	// AddRotationKeys are did:keys to add before the other rotation keys of the did:plc.
	AddRotationKeys []string
	// State is the path of the state file. The exported repository is stored beside it, with ".car"
	// appended, and is kept.
	State string
	// PLC is the did:plc directory. Empty: the public one.
	PLC string
	// Concurrency is how many blobs are copied concurrently. 0: 4.
	Concurrency int
	// Patience is how long a server may be unavailable or busy before Run gives up for now. 0: 2
	// minutes; negative: not at all.
	Patience time.Duration
	// Poll is the interval at which a did:web document is checked. 0: 5 seconds.
	Poll time.Duration
	// AllowMissingBlobs continues without blobs that the old server lacks or the new one refuses.
	AllowMissingBlobs bool
	// MaxRepo and MaxBlob bound the bytes of the exported repository and of one blob. 0: 4 GiB and
	// 1 GiB.
	MaxRepo, MaxBlob int64
	// HTTP makes all requests. Nil: a client that uses the proxy of the environment. In both cases
	// each transfer must reach some 8 KiB a second.
	HTTP *http.Client
	// Ask asks the user. Nil: a question is an error. If there is no answer, Ask returns ErrInput.
	Ask func(ctx context.Context, q Question) (string, error)
	// Report, if not nil, is called with the progress. Calls do not overlap.
	Report func(Event)

	// hook, of tests, is called at points between which a crash may come.
	hook func(point string) error
	// pace, of tests, is how fast servers must be. Nil: defaultPace.
	pace *pace
}

// Question is a question to the user.
type Question struct {
	Name   string // "old-password", "new-password", "auth-factor-token", "token", "email"
	Text   string
	Secret bool
}

// Event reports progress.
type Event struct {
	Step    string `json:"step,omitempty"`
	Status  string `json:"status"` // "started", "progress", "done", "skipped", "warning", "waiting", "finished"
	Message string `json:"message,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"` // 0: not known
	Unit    string `json:"unit,omitempty"`  // "bytes", "blobs"
	// Document is the required content of a did:web document.
	Document *identity.Document `json:"document,omitempty"`
}

// Error is the reason why a migration stopped, and what to do.
type Error struct {
	Step string // empty: before the first
	Err  error
	Next string // what to do; empty: nothing is known that helps
	// Field is the field of Options that Next refers to, for user interfaces with other names;
	// empty: none.
	Field string
}

func (e *Error) Error() string {
	msg := e.Err.Error()
	if e.Step != "" {
		msg = e.Step + ": " + msg
	}
	if e.Next != "" {
		msg += "\n" + e.Next
	}
	return msg
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Errors that callers branch on.
var (
	// ErrInput: an answer of the user is missing.
	ErrInput = errors.New("an answer is needed")
	// ErrAppPassword: the password is an app password, which cannot move the account.
	ErrAppPassword = errors.New("that is an app password")
	// ErrMissingBlobs: some blobs could not be copied.
	ErrMissingBlobs = errors.New("blobs are missing")
	// ErrDiffers: the new server does not have what was sent to it, or the old one has signed
	// something else than requested.
	ErrDiffers = errors.New("the server's answer is not what was sent")
	// ErrState: the state file is of another move.
	ErrState = errors.New("the state file is of another move")
)

// mover is a move under way.
type mover struct {
	Options
	st       *state
	http     *http.Client
	plc      *identity.PLCClient
	resolver *identity.Resolver
	old, new *session
	oldInfo  serverInfo
	newInfo  serverInfo
}

// maxRounds bounds how often the repository is copied anew because the old one changes.
const maxRounds = 10

// Run moves an account, or continues an interrupted migration. Its errors are *Error, except those
// of the context and of the file system.
func Run(ctx context.Context, opt Options) error {
	m, err := newMover(opt)
	if err != nil {
		return err
	}
	if err := m.connect(ctx); err != nil {
		return err
	}
	if err := m.step(ctx, Account, m.createAccount); err != nil {
		return err
	}
	if err := m.copyAll(ctx); err != nil {
		return err
	}
	if m.st.DID.Method() == "plc" {
		if err := m.step(ctx, Sign, m.sign); err != nil {
			return err
		}
		if err := m.step(ctx, Identity, m.submit); err != nil {
			return err
		}
	} else if err := m.step(ctx, Identity, m.awaitDocument); err != nil {
		return err
	}
	// What was written while the token was looked for.
	if err := m.copyAll(ctx); err != nil {
		return err
	}
	if err := m.step(ctx, Activate, m.activate); err != nil {
		return err
	}
	if err := m.step(ctx, Deactivate, m.deactivate); err != nil {
		return err
	}
	m.report(Event{Status: "finished", Message: fmt.Sprintf("%s is at %s now, as %s. The exported repository is in %s; keep it until you have looked around.",
		m.st.DID, m.st.NewHost, m.st.Handle, m.carPath())})
	return nil
}

// copyAll copies repository, blobs and preferences until the old server has nothing newer,
// unless the account is active at the new server: then it is too late.
func (m *mover) copyAll(ctx context.Context) error {
	if m.st.done(Export) && !m.st.done(Import) {
		if r, err := m.verifyFile(ctx, m.carPath()); err != nil || r != m.st.Repo {
			if err := m.st.forget(Export); err != nil {
				return err
			}
		}
	}
	for range maxRounds {
		if m.st.done(Activate) {
			return nil
		}
		if st, err := m.status(ctx); err != nil {
			return m.fail(Check, err, "")
		} else if st.Activated {
			return nil
		}
		for _, s := range []struct {
			name string
			fn   func(context.Context) error
		}{{Export, m.export}, {Import, m.importRepo}, {Blobs, m.blobs}, {Preferences, m.preferences}, {Check, m.check}} {
			if err := m.step(ctx, s.name, s.fn); err != nil {
				return err
			}
		}
		rev, err := m.oldRev(ctx)
		if err != nil && m.st.done(Identity) && ctx.Err() == nil {
			m.report(Event{Step: Check, Status: "warning", Message: "Whether something was written at the old server meanwhile cannot be seen: " + err.Error()})
			return nil
		} else if err != nil {
			return m.fail(Check, err, "")
		}
		if rev == m.st.Repo.Rev {
			return nil
		}
		m.report(Event{Step: Check, Status: "warning", Message: "The account was written to at the old server; its repository is copied once more."})
		if err := m.st.forget(Export, Import, Blobs, Preferences, Check); err != nil {
			return err
		}
	}
	return m.fail(Check, errors.New("the account is written to all the time"), "Stop the apps that write to it, then run the move again.")
}

// step takes a step unless it was finished before.
func (m *mover) step(ctx context.Context, name string, fn func(context.Context) error) error {
	if m.st.done(name) {
		return nil
	}
	m.report(Event{Step: name, Status: "started"})
	if err := m.at("before " + name); err != nil {
		return err
	}
	if err := fn(ctx); err != nil {
		return m.fail(name, err, "")
	}
	if err := m.at("acted " + name); err != nil {
		return err
	}
	if err := m.st.finish(name); err != nil {
		return err
	}
	m.report(Event{Step: name, Status: "done"})
	return m.at("saved " + name)
}

// fail makes an *Error of an error that is none. Without advice, it is to try again.
func (m *mover) fail(step string, err error, next string) error {
	var known *Error
	if errors.As(err, &known) {
		if known.Step == "" {
			known.Step = step
		}
		return err
	}
	if next == "" {
		next = advice(err)
	}
	return &Error{Step: step, Err: err, Next: next}
}

func (m *mover) report(e Event) {
	if m.Report != nil {
		m.Report(e)
	}
}

func (m *mover) at(point string) error {
	if m.hook == nil {
		return nil
	}
	return m.hook(point)
}

// ask asks the user. field is the one of Options that would have the answer.
func (m *mover) ask(ctx context.Context, q Question, field string) (answer string, err error) {
	if m.Ask == nil {
		err = fmt.Errorf("%w: %s", ErrInput, q.Text)
	} else {
		answer, err = m.Ask(ctx, q)
	}
	if errors.Is(err, ErrInput) && !errors.As(err, new(*Error)) {
		err = &Error{Err: err, Next: "Give it, then run the move again.", Field: field}
	}
	return answer, err
}

// oldRev is the revision of the repository at the old server.
func (m *mover) oldRev(ctx context.Context) (syntax.TID, error) {
	var out struct {
		Rev syntax.TID `json:"rev"`
	}
	err := m.old.query(ctx, "com.atproto.sync.getLatestCommit", didParam{m.st.DID}, &out)
	return out.Rev, err
}

type didParam struct {
	DID syntax.DID `json:"did"`
}
