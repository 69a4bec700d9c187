package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// firstAccount is the first account, or the invite code for it.
type firstAccount struct {
	DID      syntax.DID    `json:"did,omitempty"`
	Handle   syntax.Handle `json:"handle,omitempty"`
	Password string        `json:"password,omitempty"`
	Invite   string        `json:"inviteCode,omitempty"`
}

// startTime is how long a server may take to start.
const startTime = time.Minute

// start starts the server, and makes the first account.
func (i *initiation) start(ctx context.Context, result *initResult) error {
	if i.noStart {
		return nil
	}
	if i.ask {
		if on, err := i.yes("Start the server now, and make the first account?", true); err != nil || !on {
			return err
		}
	}
	i.envFile = i.EnvFile()
	cfg, err := i.config()
	if err != nil {
		return err
	}
	stop := func() error { return nil }
	if !i.running(ctx) {
		if stop, err = i.launch(ctx, cfg); err != nil {
			return fmt.Errorf("the server does not start, so that there is no account yet: %w\nEverything is written: mend it, and run pds init again", err)
		}
	}
	result.Started = true
	result.Account, err = i.first(ctx, cfg)
	if err != nil {
		err = fmt.Errorf("the server has started, but has no account yet: %w\nMend it, and run pds init again", err)
	}
	return errors.Join(err, stop())
}

// launch starts the server as a service, or in this process until stop is called.
func (i *initiation) launch(ctx context.Context, cfg *config.Config) (stop func() error, err error) {
	if i.system {
		for _, args := range [][]string{{"daemon-reload"}, {"enable", "--now", "pds.service", "pds-backup.timer"}} {
			if err := program(ctx, "systemctl", args...); err != nil {
				return nil, fmt.Errorf("%w (\"journalctl -u pds -n 50\" says more)", err)
			}
		}
		return func() error { return nil }, nil
	}
	srv, err := server.Start(ctx, cfg, logger(i.Stderr, config.Log{Level: config.LogOff}))
	if err != nil {
		return nil, err
	}
	return func() error {
		end, cancel := context.WithTimeout(context.Background(), cfg.DrainTimeout)
		defer cancel()
		return srv.Shutdown(end)
	}, nil
}

// local is a client of the server here, if that answers.
func (i *initiation) local(cfg *config.Config) (*xrpc.Client, error) {
	host, err := i.call.server(cfg)
	if err != nil {
		return nil, err
	}
	return &xrpc.Client{Host: host, HTTP: &http.Client{Timeout: 3 * time.Second}, Retries: -1}, nil
}

// running reports whether the server of this configuration runs already.
func (i *initiation) running(ctx context.Context) bool {
	if !exists(i.EnvFile()) {
		return false
	}
	i.envFile = i.EnvFile()
	cfg, err := i.config()
	if err != nil {
		return false
	}
	cl, err := i.local(cfg)
	return err == nil && cl.Query(ctx, "_health", nil, nil) == nil
}

// first makes the first account, or an invite code for it. If there are accounts, it does nothing.
func (i *initiation) first(ctx context.Context, cfg *config.Config) (*firstAccount, error) {
	cl, err := i.admin()
	if err != nil {
		return nil, err
	}
	var page api.SyncListReposOutput
	limited, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for { // a server with ACME gets its certificate at the first request
		if page, err = api.SyncListRepos(limited, cl, api.SyncListReposParams{Limit: 1}); err == nil {
			break
		}
		if sleep.For(limited, time.Second) != nil {
			return nil, explain(err)
		}
	}
	if len(page.Repos) > 0 {
		i.say("There are accounts already: none is made.")
		return &firstAccount{DID: page.Repos[0].DID}, nil
	}
	if i.handle == "" {
		out, err := api.ServerCreateInviteCode(ctx, cl, api.ServerCreateInviteCodeInput{UseCount: 1})
		return &firstAccount{Invite: out.Code}, explain(err)
	}
	if i.Email == "" {
		return nil, fmt.Errorf("%w: an account needs an e-mail address: -email", errUsage)
	}
	handle := strings.ToLower(strings.TrimPrefix(i.handle, "@"))
	if !strings.Contains(handle, ".") {
		handle += cfg.HandleDomains[0]
	}
	a, err := createAccount(ctx, cl, i.Email, handle, "")
	return &a, err
}

// prepareSystem makes the user, and installs the program.
func (i *initiation) prepareSystem(ctx context.Context) error {
	if _, err := user.Lookup(i.User); err != nil {
		if err := program(ctx, "useradd", "--system", "--home-dir", i.Data, "--shell", "/usr/sbin/nologin", i.User); err != nil {
			return err
		}
		i.say("The user %s was made.", i.User)
	}
	exe, err := os.Executable()
	if err != nil || exe == i.Program {
		return err
	}
	return program(ctx, "install", "-m", "755", exe, i.Program)
}

// program runs a program of the system. Its error has what the program said.
func program(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %.500s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// ownerOf returns what gives a file to a user, which only root can do.
func ownerOf(name string, system bool) (func(path string) error, error) {
	if !system {
		return func(string) error { return nil }, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return func(path string) error { return os.Chown(path, uid, gid) }, err
}
