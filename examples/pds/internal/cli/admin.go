package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	worker "github.com/pdskit/pdskit/examples/worker/command"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/migrate/cmdline"
)

// values are those of the flags.
type values struct {
	url           string
	passwordStdin bool
	yes, all      bool
	wait          time.Duration
	mailTo        string
	init          initFlags
	accounts      int
	uses, codes   int
	account       string
	asTar, fast   bool
	inS3          bool
	copyBlobs     bool
	asDir, anyKey bool
	status        bool
	noResync      bool
	rewind        bool
	acceptMissing bool
	blobsFrom     string
	number        int64
	keep          backup.Keep
	every         time.Duration
	toAge         recipients
	identity      string
	temp          string
	trial         bool
	migrate       cmdline.Command
	worker        worker.Command
	storage       storageMove
}

func adminFlags(c *call) {
	c.StringVar(&c.values.url, "url", "", "the server's `address` (default: this machine, as configured)")
}

func passwordFlags(c *call) {
	adminFlags(c)
	c.BoolVar(&c.values.passwordStdin, "password-stdin", false, "read the password from standard input")
}

func deleteFlags(c *call) {
	adminFlags(c)
	c.BoolVar(&c.values.yes, "yes", false, "delete without asking")
}

func inviteFlags(c *call) {
	adminFlags(c)
	c.IntVar(&c.values.uses, "uses", 1, "how often each code can be used")
	c.IntVar(&c.values.codes, "codes", 1, "how many codes to make")
	c.StringVar(&c.values.account, "for", "", "the account (`DID`) that the codes belong to (default: the administrator)")
}

// admin returns a client with the administrator's password.
func (c *call) admin() (*xrpc.Client, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	password, err := cfg.StoredPassword()
	if err != nil {
		return nil, err
	}
	host, err := c.server(cfg)
	if err != nil {
		return nil, err
	}
	key := cfg.Limits.BypassKey
	return &xrpc.Client{Host: host, HTTP: &http.Client{Timeout: time.Minute}, Authorize: func(r *http.Request) error {
		r.SetBasicAuth("admin", password)
		if key != "" {
			r.Header.Set("X-Ratelimit-Bypass", key)
		}
		return nil
	}}, nil
}

// server is the address of the server.
func (c *call) server(cfg *config.Config) (string, error) {
	host := strings.TrimSuffix(c.values.url, "/")
	if host == "" {
		host = fmt.Sprintf("http://localhost:%d", cfg.Port)
		if cfg.TLS.ACME {
			host = cfg.PublicURL(cfg.Port)
		}
	}
	if u, err := url.Parse(host); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%w: %q is not an address like https://pds.example.com", errUsage, host)
	} else if h := u.Hostname(); u.Scheme == "http" && h != "localhost" && h != "127.0.0.1" && h != "::1" {
		return "", fmt.Errorf("%w: the password would go to %s unencrypted", errUsage, host)
	}
	return host, nil
}

// explain says what to do about errors of the connection.
func explain(err error) error {
	var e *xrpc.Error
	var u *url.Error
	if errors.As(err, &u) {
		at, _, _ := strings.Cut(u.URL, "/xrpc/")
		return fmt.Errorf("%s does not answer: %w (is the server running? Use -url if it is elsewhere)", at, brief(u.Err))
	}
	if err != nil && !errors.As(err, &e) {
		if senseless(err) {
			return &briefly{"the answer makes no sense: is the address right, and is it that of a PDS? -url names another one", err}
		}
		return fmt.Errorf("%w (is the server running? Use -url if it is elsewhere)", err)
	}
	return err
}

// brief is the cause of an error of the network, without addresses that are told already.
func brief(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var call *os.SyscallError
	switch {
	case errors.As(err, &dns):
		return &briefly{"there is no name " + dns.Name, err}
	case errors.As(err, &call):
		return &briefly{call.Err.Error(), err}
	case errors.As(err, &op) && op.Err != nil:
		return &briefly{op.Err.Error(), err}
	}
	return err
}

// briefly is an error with another text.
type briefly struct {
	text string
	error
}

func (e *briefly) Error() string { return e.text }
func (e *briefly) Unwrap() error { return e.error }

// subject finds the DID of an account here.
func subject(ctx context.Context, cl *xrpc.Client, id string) (did syntax.DID, err error) {
	if _, err := syntax.ParseAtIdentifier(strings.TrimPrefix(id, "@")); err != nil {
		return "", fmt.Errorf("%w: %q is neither a handle, as alice.example.com, nor a DID, as did:plc:…", errUsage, id)
	}
	if did = syntax.DID(id); !strings.HasPrefix(id, "did:") {
		if did, err = resolve(ctx, cl, syntax.Handle(strings.ToLower(strings.TrimPrefix(id, "@")))); err != nil {
			return "", err
		}
	}
	// A handle may be one of elsewhere, and a DID anybody's.
	err = cl.Query(ctx, api.AdminGetAccountInfoNSID, api.AdminGetAccountInfoParams{DID: did}, nil)
	if errors.Is(err, &xrpc.Error{Name: "NotFound"}) {
		return "", fmt.Errorf("%w: %s", errNoAccount, id)
	}
	return did, explain(err)
}

// resolve finds the DID of a handle. That of an account that is not active does not resolve, so it
// is looked for among all.
func resolve(ctx context.Context, cl *xrpc.Client, handle syntax.Handle) (syntax.DID, error) {
	out, err := api.IdentityResolveHandle(ctx, cl, api.IdentityResolveHandleParams{Handle: handle})
	if err == nil || !errors.Is(err, &xrpc.Error{Status: http.StatusBadRequest}) {
		return out.DID, explain(err)
	}
	for list, listErr := range accountPages(ctx, cl) {
		if listErr != nil {
			return "", explain(listErr)
		}
		for _, a := range list {
			if a.Handle == handle {
				return a.DID, nil
			}
		}
	}
	return "", fmt.Errorf("%w: %s", errNoAccount, handle)
}

// errNoAccount: the server has no such account.
var errNoAccount = fmt.Errorf("%w here", account.ErrNotFound)

// target returns the client and the DID of the account that the first argument names.
func (c *call) target(ctx context.Context) (*xrpc.Client, syntax.DID, error) {
	cl, err := c.admin()
	if err != nil {
		return nil, "", err
	}
	did, err := subject(ctx, cl, c.args[0])
	return cl, did, err
}

// password returns a generated password, or that of standard input.
func (c *call) password() (password string, generated bool, err error) {
	if !c.values.passwordStdin {
		return strings.ToLower(rand.Text()), true, nil
	}
	line, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", false, err
	}
	if password = strings.TrimRight(line, "\r\n"); password == "" {
		return "", false, fmt.Errorf("%w: no password on standard input", errUsage)
	}
	return password, false, nil
}

// accountView is what is shown of an account.
type accountView struct {
	DID              syntax.DID      `json:"did"`
	Handle           syntax.Handle   `json:"handle"`
	Email            string          `json:"email,omitempty"`
	IndexedAt        syntax.Datetime `json:"indexedAt"`
	EmailConfirmedAt syntax.Datetime `json:"emailConfirmedAt,omitempty"`
	DeactivatedAt    syntax.Datetime `json:"deactivatedAt,omitempty"`
	Status           string          `json:"status"`
	Rev              syntax.TID      `json:"rev,omitempty"`
}

// repoStatus is the status of an account: "active" if there is none.
func repoStatus(active bool, status string) string {
	if active || status == "" {
		return "active"
	}
	return status
}

// infosAtOnce is how many accounts are asked for in one call.
const infosAtOnce = 100

func accountList(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	list := []accountView{}
	shown := c.progress("accounts")
	for page, err := range accountPages(ctx, cl) {
		if err != nil {
			return explain(err)
		}
		list = append(list, page...)
		shown.at(len(list))
	}
	shown.done()
	if c.json {
		return c.writeJSON(list)
	}
	var rows [][]string
	for _, a := range list {
		rows = append(rows, []string{string(a.Handle), string(a.DID), a.Email, a.Status, string(a.IndexedAt)})
	}
	return c.table("HANDLE DID EMAIL STATUS CREATED", rows)
}

// accountPages yields all accounts, a page at a time.
func accountPages(ctx context.Context, cl *xrpc.Client) iter.Seq2[[]accountView, error] {
	return func(yield func([]accountView, error) bool) {
		for params := (api.SyncListReposParams{Limit: infosAtOnce}); ; {
			page, err := api.SyncListRepos(ctx, cl, params)
			if err != nil {
				yield(nil, err)
				return
			}
			infos, err := accountInfos(ctx, cl, page.Repos)
			if !yield(infos, err) || err != nil {
				return
			}
			if params.Cursor = page.Cursor; page.Cursor == "" || len(page.Repos) == 0 {
				return
			}
		}
	}
}

func accountInfos(ctx context.Context, cl *xrpc.Client, repos []api.SyncListReposRepo) (list []accountView, err error) {
	if len(repos) == 0 {
		return nil, nil
	}
	var params api.AdminGetAccountInfosParams
	of := make(map[syntax.DID]api.SyncListReposRepo)
	for _, r := range repos {
		params.DIDs = append(params.DIDs, r.DID)
		of[r.DID] = r
	}
	out, err := api.AdminGetAccountInfos(ctx, cl, params)
	if err != nil {
		return nil, err
	}
	for _, a := range out.Infos {
		r := of[a.DID]
		list = append(list, accountView{
			DID: a.DID, Handle: a.Handle, Email: a.Email, IndexedAt: a.IndexedAt, EmailConfirmedAt: a.EmailConfirmedAt, DeactivatedAt: a.DeactivatedAt,
			Status: repoStatus(r.Active != nil && *r.Active, r.Status), Rev: r.Rev,
		})
	}
	return list, nil
}

func accountInfo(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	status, err := api.SyncGetRepoStatus(ctx, cl, api.SyncGetRepoStatusParams{DID: did})
	if err != nil {
		return explain(err)
	}
	infos, err := accountInfos(ctx, cl, []api.SyncListReposRepo{{DID: status.DID, Rev: status.Rev, Active: &status.Active, Status: status.Status}})
	if err != nil {
		return explain(err)
	}
	if len(infos) == 0 {
		return fmt.Errorf("there is no account %s", c.args[0])
	}
	a := infos[0]
	if c.json {
		return c.writeJSON(a)
	}
	for _, row := range [][2]string{
		{"handle", string(a.Handle)}, {"DID", string(a.DID)}, {"e-mail", a.Email}, {"confirmed", string(a.EmailConfirmedAt)},
		{"created", string(a.IndexedAt)}, {"status", a.Status}, {"deactivated", string(a.DeactivatedAt)}, {"revision", string(a.Rev)},
	} {
		if row[1] != "" {
			fmt.Fprintf(c.Stdout, "%-12s%s\n", row[0], row[1])
		}
	}
	return nil
}

func accountCreate(ctx context.Context, c *call) error {
	if !strings.Contains(c.args[0], "@") {
		return fmt.Errorf("%w: the e-mail address comes first: pds account create EMAIL HANDLE", errUsage)
	}
	cl, err := c.admin()
	if err != nil {
		return err
	}
	password, generated, err := c.password()
	if err != nil {
		return err
	}
	out, err := createAccount(ctx, cl, c.args[0], c.args[1], password)
	if err != nil {
		return err
	}
	result := map[string]string{"did": string(out.DID), "handle": string(out.Handle)}
	text := "Made the account %s (%s)."
	if generated {
		result["password"] = password
		text += " Its password, shown only now: " + password
	}
	return c.result(result, text, out.Handle, out.DID)
}

// createAccount makes an account, with an invite code if the server asks for one. Without a password, one
// is generated.
func createAccount(ctx context.Context, cl *xrpc.Client, email, handle, password string) (a firstAccount, err error) {
	if password == "" {
		password = strings.ToLower(rand.Text())
		a.Password = password
	}
	in := api.ServerCreateAccountInput{Email: email, Handle: syntax.Handle(handle), Password: password}
	server, err := api.ServerDescribeServer(ctx, cl)
	if err != nil {
		return a, explain(err)
	}
	if server.InviteCodeRequired != nil && *server.InviteCodeRequired {
		invite, err := api.ServerCreateInviteCode(ctx, cl, api.ServerCreateInviteCodeInput{UseCount: 1})
		if err != nil {
			return a, explain(err)
		}
		in.InviteCode = invite.Code
	}
	// Not as the administrator: the account is nobody's yet.
	anyone := &xrpc.Client{Host: cl.Host, HTTP: cl.HTTP}
	out, err := api.ServerCreateAccount(ctx, anyone, in)
	a.DID, a.Handle = out.DID, out.Handle
	return a, explain(err)
}

func accountTakedown(ctx context.Context, c *call) error   { return c.takedown(ctx, true) }
func accountUntakedown(ctx context.Context, c *call) error { return c.takedown(ctx, false) }

func (c *call) takedown(ctx context.Context, applied bool) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	in, text := api.AdminUpdateSubjectStatusInput{Takedown: &api.AdminStatusAttr{Applied: applied}}, "The account %s is up again."
	in.Subject.RepoRef = &api.AdminRepoRef{DID: did}
	if applied {
		in.Takedown.Ref, text = fmt.Sprint(time.Now().Unix()), "The account %s is taken down."
	}
	if _, err := api.AdminUpdateSubjectStatus(ctx, cl, in); err != nil {
		return explain(err)
	}
	return c.result(map[string]any{"did": did, "takedown": applied}, text, did)
}

func accountResetPassword(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	password, generated, err := c.password()
	if err != nil {
		return err
	}
	if err := api.AdminUpdateAccountPassword(ctx, cl, api.AdminUpdateAccountPasswordInput{DID: did, Password: password}); err != nil {
		return explain(err)
	}
	result, text := map[string]string{"did": string(did)}, "The account %s has another password."
	if generated {
		result["password"], text = password, "The account %s has another password, shown only now: "+password
	}
	return c.result(result, text, did)
}

func accountUpdateEmail(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	if err := api.AdminUpdateAccountEmail(ctx, cl, api.AdminUpdateAccountEmailInput{Account: syntax.AtIdentifier(did), Email: c.args[1]}); err != nil {
		return explain(err)
	}
	return c.result(map[string]string{"did": string(did), "email": c.args[1]}, "The account %s has the e-mail address %s.", did, c.args[1])
}

func accountUpdateHandle(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	if err := api.AdminUpdateAccountHandle(ctx, cl, api.AdminUpdateAccountHandleInput{DID: did, Handle: syntax.Handle(c.args[1])}); err != nil {
		cfg, _ := c.config() // that was read before
		return explainHandle(explain(err), did, c.args[1], cfg.HandleDomains)
	}
	return c.result(map[string]string{"did": string(did), "handle": c.args[1]}, "The account %s has the handle %s.", did, c.args[1])
}

func accountDelete(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	if !c.values.yes {
		fmt.Fprintf(c.Stderr, "Delete %s with all its records and blobs? This cannot be undone. Type its DID: ", did)
		line, _ := bufio.NewReader(c.In).ReadString('\n')
		if strings.TrimSpace(line) != string(did) {
			return errors.New("nothing was deleted")
		}
	}
	if err := api.AdminDeleteAccount(ctx, cl, api.AdminDeleteAccountInput{DID: did}); err != nil {
		return explain(err)
	}
	return c.result(map[string]string{"did": string(did)}, "The account %s is deleted.", did)
}

func inviteCreate(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	if c.values.uses < 1 || c.values.codes < 1 {
		return fmt.Errorf("%w: -uses and -codes must be at least 1", errUsage)
	}
	in := api.ServerCreateInviteCodesInput{CodeCount: int64(c.values.codes), UseCount: int64(c.values.uses)}
	if c.values.account != "" {
		in.ForAccounts = []syntax.DID{syntax.DID(c.values.account)}
	}
	out, err := api.ServerCreateInviteCodes(ctx, cl, in)
	if err != nil {
		return explain(err)
	}
	codes := []string{}
	for _, o := range out.Codes {
		codes = append(codes, o.Codes...)
	}
	return c.result(codes, "%s", strings.Join(codes, "\n"))
}

func inviteList(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	list := []api.ServerInviteCode{}
	for params := (api.AdminGetInviteCodesParams{Limit: 500}); ; {
		page, err := api.AdminGetInviteCodes(ctx, cl, params)
		if err != nil {
			return explain(err)
		}
		list = append(list, page.Codes...)
		if params.Cursor = page.Cursor; page.Cursor == "" || len(page.Codes) == 0 {
			break
		}
	}
	if c.json {
		return c.writeJSON(list)
	}
	var rows [][]string
	for _, inv := range list {
		state := "open"
		switch {
		case inv.Disabled:
			state = "disabled"
		case int64(len(inv.Uses)) >= inv.Available:
			state = "used up"
		}
		rows = append(rows, []string{inv.Code, fmt.Sprintf("%d/%d", len(inv.Uses), inv.Available), state, inv.ForAccount, string(inv.CreatedAt)})
	}
	return c.table("CODE USED STATE FOR CREATED", rows)
}

func inviteDisable(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	if err := api.AdminDisableInviteCodes(ctx, cl, api.AdminDisableInviteCodesInput{Codes: c.args}); err != nil {
		return explain(err)
	}
	return c.result(map[string]any{"disabled": c.args}, "Disabled %s.", strings.Join(c.args, ", "))
}
