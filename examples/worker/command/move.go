package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/migrate/cmdline"
)

const moveInHelp = cmdline.Help + `
URL is the address of the Worker's server. Without -invite-code, an invite code is made, with the
administrator's password in the file secrets.json or in PDS_ADMIN_PASSWORD. Without -handle, the
handle is the server's host name.`

// Move moves an account into a Worker, or out of it.
type Move struct {
	cmdline.Command
	// Secrets is the file with the administrator's password.
	Secrets string

	in bool
}

// Register implements Command.
func (c *Move) Register(flags *flag.FlagSet) {
	c.Command.Register(flags)
	if c.in {
		flags.StringVar(&c.Secrets, "secrets", "secrets.json", "`file` with the Worker's secrets")
	}
}

// Run implements Command.
func (c *Move) Run(ctx context.Context, io IO, args []string) error {
	account, server := args[0], args[1]
	if c.in {
		u, err := url.Parse(server)
		if err != nil || u.Hostname() == "" {
			return fmt.Errorf("%q is no address: give that of the Worker's server, as https://alice.example.com", server)
		}
		if c.InviteCode == "" {
			if c.InviteCode, err = c.invite(ctx, io, server); err != nil {
				return err
			}
		}
		if c.Handle == "" {
			if c.Handle, err = c.handle(ctx, server, u.Hostname()); err != nil {
				return err
			}
		}
	}
	return c.Command.Run(ctx, cmdline.IO{In: io.In, Stdout: io.Stdout, Stderr: io.Stderr, JSON: io.JSON, Env: io.Env}, account, server)
}

// handle is the host name, if the server is for one account; else the move finds one.
func (c *Move) handle(ctx context.Context, server, host string) (string, error) {
	out, err := api.ServerDescribeServer(ctx, &xrpc.Client{Host: server, HTTP: c.HTTP})
	if err != nil {
		return "", fmt.Errorf("%s: %w", server, err)
	}
	_, above, _ := strings.Cut(host, ".")
	for _, domain := range out.AvailableUserDomains {
		if domain == "."+above {
			return host, nil
		}
	}
	return "", nil
}

// invite makes an invite code as the administrator.
func (c *Move) invite(ctx context.Context, io IO, server string) (string, error) {
	password := io.Env["PDS_ADMIN_PASSWORD"]
	if password == "" {
		text, err := os.ReadFile(c.Secrets)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("no invite code, and no file %s with the administrator's password: see -invite-code and -secrets", c.Secrets)
		} else if err != nil {
			return "", err
		}
		var secrets map[string]string
		if err := data.UnmarshalJSON(text, &secrets); err != nil {
			return "", fmt.Errorf("%s: %w", c.Secrets, err)
		}
		password = secrets["PDS_ADMIN_PASSWORD"]
	}
	client := &xrpc.Client{Host: server, HTTP: c.HTTP, Authorize: func(r *http.Request) error {
		r.SetBasicAuth("admin", password)
		return nil
	}}
	out, err := api.ServerCreateInviteCode(ctx, client, api.ServerCreateInviteCodeInput{UseCount: 1})
	if err != nil {
		return "", fmt.Errorf("%s makes no invite code: %w", server, err)
	}
	return out.Code, nil
}
