package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// password is that of all accounts.
const password = "password of everybody"

// fill makes a data directory with accounts; each gets what is told of its number.
func fill(ctx context.Context, dir string, n int, of func(n int) seed.Seed) (err error) {
	cfg, err := config.Load(map[string]string{"PDS_DATA_DIRECTORY": dir})
	if err != nil {
		return err
	}
	d, err := datadir.Open(ctx, dir, datadir.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	secrets, err := cfg.Secrets()
	if err != nil {
		return err
	}
	box, err := sealed.New(secrets.MasterKeys...)
	if err != nil {
		return err
	}
	accounts := account.Open(repo.Config{Store: d.Store}, box)
	hash, err := credential.New(credential.Config{Accounts: accounts}).HashPassword(ctx, password)
	if err != nil {
		return err
	}
	// At once, so that accounts share the wait for the disk.
	var mu sync.Mutex
	next, first := 0, error(nil)
	var done sync.WaitGroup
	for range 64 {
		done.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := first != nil || i >= n
				mu.Unlock()
				if stop {
					return
				}
				s := of(i)
				s.Password = hash
				if _, err := s.Account(ctx, accounts, i); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		})
	}
	done.Wait()
	return first
}

// process is the server as a process of its own.
type process struct {
	url     string
	metrics string // address of its profiles; empty: none
	cmd     *exec.Cmd
	log     *os.File
}

// start runs the server on a data directory. It returns when it answers, and how long that took.
func start(ctx context.Context, program, dir string, env ...string) (p *process, took time.Duration, err error) {
	port, err := testenv.FreePort("localhost")
	if err != nil {
		return nil, 0, err
	}
	p = &process{url: fmt.Sprintf("http://localhost:%d", port)}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, 0, err
	}
	p.cmd = exec.CommandContext(ctx, program, "serve")
	p.cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "TMPDIR="+dir, "PDS_DATA_DIRECTORY="+dir, "PDS_PORT="+strconv.Itoa(port))
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.log, p.log
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, 0, err
	}
	for wait := time.Millisecond; ; time.Sleep(wait) {
		resp, err := http.Get(p.url + "/xrpc/_health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, time.Since(begin), nil
			}
		}
		if time.Since(begin) > time.Minute {
			return nil, 0, errors.Join(errors.New("the server does not start"), p.stop())
		}
	}
}

// stop ends the server as an operator does.
func (p *process) stop() error {
	err := errors.Join(p.cmd.Process.Signal(os.Interrupt), p.cmd.Wait(), p.log.Close())
	if errors.Is(err, syscall.ECHILD) {
		return nil
	}
	return err
}

// memory is what the process has in RAM, in MiB.
func (p *process) memory() float64 {
	n, _ := metrics.ResidentBytes(p.cmd.Process.Pid)
	return n / (1 << 20)
}

// peak is the most that the process ever had in RAM, in MiB.
func (p *process) peak() float64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// profile writes what the server's processors and memory are used for during a time to files of a
// directory, if there is one. The channel tells when.
func (p *process) profile(dir, name string, d time.Duration) <-chan error {
	done := make(chan error, 1)
	if dir == "" {
		done <- nil
		return done
	}
	save := func(kind, path string) error {
		resp, err := http.Get("http://" + p.metrics + "/debug/pprof/" + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		f, err := os.Create(filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(name)+"."+kind))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, resp.Body)
		return errors.Join(err, f.Close())
	}
	go func() {
		err := save("cpu", fmt.Sprintf("profile?seconds=%d", max(1, int(d.Seconds())-1)))
		done <- errors.Join(err, save("heap", "heap"))
	}()
	return done
}

// session is an account that is logged in.
type session = api.ServerCreateSessionOutput

// login logs in as the accounts 0 to n-1.
func (p *process) login(ctx context.Context, n int) ([]session, error) {
	list := make([]session, n)
	cl := &xrpc.Client{Host: p.url}
	for i := range list {
		in := api.ServerCreateSessionInput{Identifier: fmt.Sprintf("user%d.test", i), Password: password}
		var err error
		if list[i], err = api.ServerCreateSession(ctx, cl, in); err != nil {
			return nil, err
		}
	}
	return list, nil
}
