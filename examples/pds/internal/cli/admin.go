package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/migrate"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/xrpc"
)

// values are those of the flags.
type values struct {
	url           string
	passwordStdin bool
	yes           bool
	uses, codes   int
	account       string
	asTar, fast   bool
	status        bool
	noResync      bool
	rewind        bool
	acceptMissing bool
	blobsFrom     string
	keep          backup.Keep
	migrate       migrate.Command
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
	c.IntVar(&c.values.uses, "uses", 1, "how often a code can be used")
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
	if err != nil && !errors.As(err, &e) {
		return fmt.Errorf("%w (is the server running? Use -url if it is elsewhere)", err)
	}
	return err
}

// subject finds the DID of an account here.
func subject(ctx context.Context, cl *xrpc.Client, id string) (did string, err error) {
	if did = id; !strings.HasPrefix(id, "did:") {
		if did, err = resolve(ctx, cl, strings.ToLower(strings.TrimPrefix(id, "@"))); err != nil {
			return "", err
		}
	}
	// A handle may be one of elsewhere, and a DID anybody's.
	err = cl.Query(ctx, "com.atproto.admin.getAccountInfo", url.Values{"did": {did}}, nil)
	if errors.Is(err, &xrpc.Error{Name: "NotFound"}) {
		return "", fmt.Errorf("there is no account %s here", id)
	}
	return did, explain(err)
}

// resolve finds the DID of a handle. That of an account that is not active does not resolve, so it
// is looked for among all.
func resolve(ctx context.Context, cl *xrpc.Client, handle string) (string, error) {
	var out struct {
		DID string `json:"did"`
	}
	err := cl.Query(ctx, "com.atproto.identity.resolveHandle", url.Values{"handle": {handle}}, &out)
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
	return "", err
}

// target returns the client and the DID of the account that the first argument names.
func (c *call) target(ctx context.Context) (*xrpc.Client, string, error) {
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

// accountView is what the server tells administrators of an account.
type accountView struct {
	DID              string `json:"did"`
	Handle           string `json:"handle"`
	Email            string `json:"email,omitempty"`
	IndexedAt        string `json:"indexedAt"`
	EmailConfirmedAt string `json:"emailConfirmedAt,omitempty"`
	DeactivatedAt    string `json:"deactivatedAt,omitempty"`
	Status           string `json:"status"`
	Rev              string `json:"rev,omitempty"`
}

type listedRepo struct {
	DID    string `json:"did"`
	Rev    string `json:"rev"`
	Active bool   `json:"active"`
	Status string `json:"status"`
}

func (r listedRepo) status() string {
	if r.Active || r.Status == "" {
		return "active"
	}
	return r.Status
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
		rows = append(rows, []string{a.Handle, a.DID, a.Email, a.Status, a.IndexedAt})
	}
	return c.table("HANDLE DID EMAIL STATUS CREATED", rows)
}

// accountPages yields all accounts, a page at a time.
func accountPages(ctx context.Context, cl *xrpc.Client) iter.Seq2[[]accountView, error] {
	return func(yield func([]accountView, error) bool) {
		for cursor := ""; ; {
			params := url.Values{"limit": {fmt.Sprint(infosAtOnce)}}
			if cursor != "" {
				params.Set("cursor", cursor)
			}
			var page struct {
				Cursor string       `json:"cursor"`
				Repos  []listedRepo `json:"repos"`
			}
			if err := cl.Query(ctx, "com.atproto.sync.listRepos", params, &page); err != nil {
				yield(nil, err)
				return
			}
			infos, err := accountInfos(ctx, cl, page.Repos)
			if !yield(infos, err) || err != nil {
				return
			}
			if cursor = page.Cursor; cursor == "" || len(page.Repos) == 0 {
				return
			}
		}
	}
}

func accountInfos(ctx context.Context, cl *xrpc.Client, repos []listedRepo) ([]accountView, error) {
	if len(repos) == 0 {
		return nil, nil
	}
	params := url.Values{}
	of := make(map[string]listedRepo)
	for _, r := range repos {
		params.Add("dids", r.DID)
		of[r.DID] = r
	}
	var out struct {
		Infos []accountView `json:"infos"`
	}
	if err := cl.Query(ctx, "com.atproto.admin.getAccountInfos", params, &out); err != nil {
		return nil, err
	}
	for i, a := range out.Infos {
		out.Infos[i].Status, out.Infos[i].Rev = of[a.DID].status(), of[a.DID].Rev
	}
	return out.Infos, nil
}

func accountInfo(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	var status listedRepo
	if err := cl.Query(ctx, "com.atproto.sync.getRepoStatus", url.Values{"did": {did}}, &status); err != nil {
		return explain(err)
	}
	infos, err := accountInfos(ctx, cl, []listedRepo{status})
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
		{"handle", a.Handle}, {"DID", a.DID}, {"e-mail", a.Email}, {"confirmed", a.EmailConfirmedAt},
		{"created", a.IndexedAt}, {"status", a.Status}, {"deactivated", a.DeactivatedAt}, {"revision", a.Rev},
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
	in := map[string]any{"email": c.args[0], "handle": c.args[1], "password": password}
	var server struct {
		InviteRequired bool `json:"inviteCodeRequired"`
	}
	if err := cl.Query(ctx, "com.atproto.server.describeServer", nil, &server); err != nil {
		return explain(err)
	}
	if server.InviteRequired {
		var invite struct {
			Code string `json:"code"`
		}
		if err := cl.Procedure(ctx, "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}, &invite); err != nil {
			return explain(err)
		}
		in["inviteCode"] = invite.Code
	}
	var out struct {
		DID    string `json:"did"`
		Handle string `json:"handle"`
	}
	// Not as the administrator: the account is nobody's yet.
	anyone := &xrpc.Client{Host: cl.Host, HTTP: cl.HTTP}
	if err := anyone.Procedure(ctx, "com.atproto.server.createAccount", in, &out); err != nil {
		return explain(err)
	}
	result := map[string]string{"did": out.DID, "handle": out.Handle}
	text := "Made the account %s (%s)."
	if generated {
		result["password"] = password
		text += " Its password, shown only now: " + password
	}
	return c.result(result, text, out.Handle, out.DID)
}

func accountTakedown(ctx context.Context, c *call) error   { return c.takedown(ctx, true) }
func accountUntakedown(ctx context.Context, c *call) error { return c.takedown(ctx, false) }

func (c *call) takedown(ctx context.Context, applied bool) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	takedown := map[string]any{"applied": applied}
	text := "The account %s is up again."
	if applied {
		takedown["ref"] = fmt.Sprint(time.Now().Unix())
		text = "The account %s is taken down."
	}
	err = cl.Procedure(ctx, "com.atproto.admin.updateSubjectStatus", map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": did},
		"takedown": takedown,
	}, nil)
	if err != nil {
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
	if err := cl.Procedure(ctx, "com.atproto.admin.updateAccountPassword", map[string]any{"did": did, "password": password}, nil); err != nil {
		return explain(err)
	}
	result := map[string]string{"did": did}
	text := "The account %s has another password."
	if generated {
		result["password"] = password
		text = "The account %s has another password, shown only now: " + password
	}
	return c.result(result, text, did)
}

func accountUpdateEmail(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	if err := cl.Procedure(ctx, "com.atproto.admin.updateAccountEmail", map[string]any{"account": did, "email": c.args[1]}, nil); err != nil {
		return explain(err)
	}
	return c.result(map[string]string{"did": did, "email": c.args[1]}, "The account %s has the e-mail address %s.", did, c.args[1])
}

func accountUpdateHandle(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	if err := cl.Procedure(ctx, "com.atproto.admin.updateAccountHandle", map[string]any{"did": did, "handle": c.args[1]}, nil); err != nil {
		return explain(err)
	}
	return c.result(map[string]string{"did": did, "handle": c.args[1]}, "The account %s has the handle %s.", did, c.args[1])
}

func accountDelete(ctx context.Context, c *call) error {
	cl, did, err := c.target(ctx)
	if err != nil {
		return err
	}
	if !c.values.yes {
		fmt.Fprintf(c.Stderr, "Delete %s with all its records and blobs? This cannot be undone. Type its DID: ", did)
		line, _ := bufio.NewReader(c.In).ReadString('\n')
		if strings.TrimSpace(line) != did {
			return errors.New("nothing was deleted")
		}
	}
	if err := cl.Procedure(ctx, "com.atproto.admin.deleteAccount", map[string]any{"did": did}, nil); err != nil {
		return explain(err)
	}
	return c.result(map[string]string{"did": did}, "The account %s is deleted.", did)
}

func inviteCreate(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	if c.values.uses < 1 || c.values.codes < 1 {
		return fmt.Errorf("%w: -uses and -codes must be at least 1", errUsage)
	}
	var out struct {
		Codes []struct {
			Codes []string `json:"codes"`
		} `json:"codes"`
	}
	in := map[string]any{"codeCount": c.values.codes, "useCount": c.values.uses}
	if c.values.account != "" {
		in["forAccounts"] = []string{c.values.account}
	}
	err = cl.Procedure(ctx, "com.atproto.server.createInviteCodes", in, &out)
	if err != nil {
		return explain(err)
	}
	codes := []string{}
	for _, o := range out.Codes {
		codes = append(codes, o.Codes...)
	}
	return c.result(codes, "%s", strings.Join(codes, "\n"))
}

// invite is an invite code as the server tells of it.
type invite struct {
	Code       string `json:"code"`
	Available  int    `json:"available"`
	Disabled   bool   `json:"disabled"`
	ForAccount string `json:"forAccount"`
	CreatedBy  string `json:"createdBy"`
	CreatedAt  string `json:"createdAt"`
	Uses       []struct {
		UsedBy string `json:"usedBy"`
		UsedAt string `json:"usedAt"`
	} `json:"uses"`
}

func inviteList(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	list := []invite{}
	for cursor := ""; ; {
		params := url.Values{"limit": {"500"}}
		if cursor != "" {
			params.Set("cursor", cursor)
		}
		var page struct {
			Cursor string   `json:"cursor"`
			Codes  []invite `json:"codes"`
		}
		if err := cl.Query(ctx, "com.atproto.admin.getInviteCodes", params, &page); err != nil {
			return explain(err)
		}
		list = append(list, page.Codes...)
		if cursor = page.Cursor; cursor == "" || len(page.Codes) == 0 {
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
		case len(inv.Uses) >= inv.Available:
			state = "used up"
		}
		rows = append(rows, []string{inv.Code, fmt.Sprintf("%d/%d", len(inv.Uses), inv.Available), state, inv.ForAccount, inv.CreatedAt})
	}
	return c.table("CODE USED STATE FOR CREATED", rows)
}

func inviteDisable(ctx context.Context, c *call) error {
	cl, err := c.admin()
	if err != nil {
		return err
	}
	if err := cl.Procedure(ctx, "com.atproto.admin.disableInviteCodes", map[string]any{"codes": c.args}, nil); err != nil {
		return explain(err)
	}
	return c.result(map[string]any{"disabled": c.args}, "Disabled %s.", strings.Join(c.args, ", "))
}
