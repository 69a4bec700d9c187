package operator

import (
	"context"
	"embed"
	"net"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/recent"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Config says what the pages show, and who may sign in. Site, KV, Passwords and Admin are required.
// Other parts that are nil have no page.
type Config struct {
	Site *site.Site
	// KV stores the sessions. All nodes share it.
	KV        storage.KV
	Passwords Passwords
	// Admin returns the operations on accounts for an administrator who has signed in.
	Admin func(who audit.Actor) Admin

	// Overview returns the state of the server. Nil: the page shows only the host's name.
	Overview func(ctx context.Context) Overview
	// Events is the event log. Subscribers are its subscribers.
	Events      Events
	Subscribers Subscribers
	// Relays are the relays that are asked to read the server.
	Relays Relays
	// Backups returns the recent backups, latest first. BackupHelp is the command that makes one,
	// for the page to show.
	Backups    func(ctx context.Context) ([]Backup, error)
	BackupHelp string
	// Mail returns counts of mail.
	Mail func() server.MailStats
	// Errors returns the recent errors, latest first.
	Errors func() []recent.Entry
	// Audit is the trail of administrators' actions.
	Audit *audit.Log
	// Doctor checks the server for problems, with remedies.
	Doctor Doctor
}

// Doctor checks the server; *doctor.Doctor implements it.
type Doctor interface {
	// Last returns the last report. Its time is zero if there was none.
	Last() doctor.Report
	// Now runs the checks, which may take some seconds.
	Now(ctx context.Context) (doctor.Report, error)
}

// Passwords checks the administrator's password. *session.Sessions implements it. It must be safe
// for concurrent use.
type Passwords interface {
	// CheckAdmin reports whether the password is right, and counts the guess. The page shows its
	// error.
	CheckAdmin(r *xrpc.Request, user, password string) (right bool, err error)
	// AdminMark returns a value that changes with the password. Sessions with another value have
	// ended.
	AdminMark() []byte
}

// Admin has an administrator's operations on accounts. *server.Administration implements it and
// documents each method. It must be safe for concurrent use.
type Admin interface {
	Search(ctx context.Context, q account.Search) (list []account.Account, next string, err error)
	Standing(ctx context.Context, did syntax.DID) (server.Standing, error)
	Takedowns(ctx context.Context, did syntax.DID, cursor string, limit int) (list []account.TakenDownPart, next string, err error)
	SubjectStatus(ctx context.Context, p api.AdminGetSubjectStatusParams) (api.AdminGetSubjectStatusOutput, error)
	UpdateSubjectStatus(ctx context.Context, in api.AdminUpdateSubjectStatusInput) (api.AdminUpdateSubjectStatusOutput, error)
	DeleteAccount(ctx context.Context, did syntax.DID) error
	UpdateEmail(ctx context.Context, id syntax.AtIdentifier, email string) error
	UpdateHandle(ctx context.Context, did syntax.DID, handle syntax.Handle) error
	SendPasswordReset(ctx context.Context, did syntax.DID) error
	ResetFactors(ctx context.Context, did syntax.DID) error
	EndSessions(ctx context.Context, did syntax.DID) error
	SetInvites(ctx context.Context, did syntax.DID, disabled bool) error
	Invites(ctx context.Context, p api.AdminGetInviteCodesParams) (api.AdminGetInviteCodesOutput, error)
	CreateInvites(ctx context.Context, in api.ServerCreateInviteCodesInput) (api.ServerCreateInviteCodesOutput, error)
	DisableInvites(ctx context.Context, in api.AdminDisableInviteCodesInput) error
	SendTestMail(ctx context.Context, to string) error
}

var _ Admin = (*server.Administration)(nil)

// Events is an event log; storage.Events implements it.
type Events interface {
	Bounds(ctx context.Context) (oldest, newest int64, err error)
}

// Subscribers are the subscribers of the event stream; *stream.Outbox implements it.
type Subscribers interface {
	Subscriptions() []stream.Subscription
	End(id int64) bool
}

// Relays are the relays that are asked to read the server; *crawl.Notifier implements it.
type Relays interface {
	Status() []crawl.RelayStatus
	Ask(ctx context.Context, relay string) (crawl.Request, error)
	Look(ctx context.Context, relay string) (crawl.Check, error)
}

// Overview is the state of a server. Zero fields are not shown.
type Overview struct {
	Version, Host string
	DID           syntax.DID
	// Problem is why the server does not work, as _health shows it; empty: it works.
	Problem string
	// Clock is the result of checking the clock; nil: none yet.
	Clock *Clock
	// Accounts is the number of accounts; negative: unknown. Statuses has the number of accounts of
	// each status when all accounts were last examined; nil: not yet.
	Accounts  int
	Statuses  account.Statuses
	CountedAt time.Time
	// Sizes are the sizes of files or databases.
	Sizes []Size
	// Memory is the memory of the process in bytes, and Started when it began.
	Memory  uint64
	Started time.Time
	// Node is the name of this server among the Nodes that share its store; empty: it is a single
	// server.
	Node  string
	Nodes []Node
}

// Node is one of the servers that share a store.
type Node struct {
	ID, Version string
	Started     time.Time
	Seen        time.Time // when it was last heard of
	Draining    bool      // it is about to end
	Leads       []string  // what it does for all
	Subscribers int       // of the event stream
}

// Clock is the result of checking a server's clock.
type Clock struct {
	// Problem is why it is not trusted; empty: it is.
	Problem string
	Time    time.Time // of the check
	// Offset is by how much it is ahead of other clocks (the median). Of is the number of those.
	Offset time.Duration
	Of     int
}

// Size is the size of a file or database.
type Size struct {
	Name  string // shown as it is
	Bytes int64
}

//go:embed templates/*.html messages/*.txt
var files embed.FS

// set are the templates and messages of the pages.
var set = site.NewSet(files)

// Pages are the administrator's pages. Make them with New. They are safe for concurrent use.
// Several processes may have them over the same store.
type Pages struct {
	cfg  Config
	site *site.Site
	now  func() time.Time
}

// New returns the pages of a configuration. It panics if something required is missing.
func New(cfg Config) *Pages {
	switch {
	case cfg.Site == nil:
		panic("operator: Config.Site is missing: give the site.Site of the host")
	case cfg.KV == nil:
		panic("operator: Config.KV is missing: sessions are kept there")
	case cfg.Passwords == nil:
		panic("operator: Config.Passwords is missing: give the session.Sessions of the host, which count guesses")
	case cfg.Admin == nil:
		panic("operator: Config.Admin is missing: server.Service has an Administration")
	}
	return &Pages{cfg: cfg, site: cfg.Site, now: cfg.Site.Now}
}

// Root begins the paths of all pages.
const Root = "/admin"

// The addresses.
const (
	pathSignIn   = Root + "/sign-in"
	pathSignOut  = Root + "/sign-out"
	pathAccounts = Root + "/accounts"
	pathAccount  = Root + "/account"
	pathTaken    = Root + "/taken-down"
	pathSubject  = Root + "/subject"
	pathInvites  = Root + "/invites"
	pathNew      = Root + "/invites/new"
	pathStream   = Root + "/stream"
	pathRelays   = Root + "/relays"
	pathBackups  = Root + "/backups"
	pathMail     = Root + "/mail"
	pathErrors   = Root + "/errors"
	pathTrail    = Root + "/trail"
	pathChecks   = Root + "/checks"
	pathAct      = Root + "/act/"
)

// Mount adds all paths to a mux: /admin and those below it.
func (p *Pages) Mount(mux *http.ServeMux) {
	handle := func(path string, get, post func(*call) error) { mux.HandleFunc(path, p.serve(get, post)) }
	mux.HandleFunc(pathSignIn, p.site.Serve(set, site.Handler{Get: p.showSignIn, Post: p.signIn}))
	handle(pathSignOut, p.showSignOut, p.signOut)
	handle(Root, p.showOverview, nil)
	handle(Root+"/{$}", p.showOverview, nil)
	handle(pathAccounts, p.showAccounts, nil)
	handle(pathAccount, p.showAccount, nil)
	handle(pathTaken, p.showTaken, nil)
	handle(pathSubject, p.showSubject, nil)
	handle(pathInvites, p.showInvites, nil)
	handle(pathNew, p.showNewInvites, p.newInvites)
	handle(pathAct+"{act}", p.showAct, p.act)
	if p.cfg.Subscribers != nil {
		handle(pathStream, p.showStream, nil)
	}
	if p.cfg.Relays != nil {
		handle(pathRelays, p.showRelays, nil)
	}
	if p.cfg.Backups != nil {
		handle(pathBackups, p.showBackups, nil)
	}
	if p.cfg.Mail != nil {
		handle(pathMail, p.showMail, nil)
	}
	if p.cfg.Errors != nil {
		handle(pathErrors, p.showErrors, nil)
	}
	if p.cfg.Audit != nil {
		handle(pathTrail, p.showTrail, nil)
	}
	if p.cfg.Doctor != nil {
		handle(pathChecks, p.showChecks, p.checkNow)
	}
}

// call is a request of somebody who has signed in.
type call struct {
	*site.Call
	who   audit.Actor
	admin Admin
	token string // of the session
}

// serve serves an address to who has signed in.
func (p *Pages) serve(get, post func(*call) error) http.HandlerFunc {
	in := func(fn func(*call) error) func(*site.Call) error {
		if fn == nil {
			return nil
		}
		return func(c *site.Call) error {
			token, err := p.session(c)
			switch {
			case err != nil:
				return err
			case token == "" && c.R.Method == http.MethodPost:
				return site.ErrSignedOut
			case token == "":
				return c.Redirect(pathSignIn)
			case c.R.Method == http.MethodPost && c.Flow != flowOf(token):
				return site.ErrForm // shown in another session
			}
			c.Flow = flowOf(token)
			who := audit.Actor{By: "administrator", Through: "pages", Address: address(c.R)}
			return fn(&call{Call: c, who: who, admin: p.cfg.Admin(who), token: token})
		}
	}
	return p.site.Serve(set, site.Handler{Get: in(get), Post: in(post)})
}

// address is that of who sends a request, without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// written does something that is no method, and writes it to the trail.
func (p *Pages) written(c *call, action, subject string, do func() error) error {
	if p.cfg.Audit == nil {
		return do()
	}
	end, err := p.cfg.Audit.Begin(c.Context(), audit.Entry{Actor: c.who, Action: action, Subject: subject})
	if err != nil {
		return err
	}
	err = do()
	end(err)
	return err
}
