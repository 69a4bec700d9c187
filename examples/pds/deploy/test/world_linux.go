package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/sleep"
)

// Addresses look public, since servers refuse to call private ones for strangers. Nothing of them
// leads out of the namespace.
const (
	worldAddress = "11.0.0.1"
	relayAddress = worldAddress + ":2470"
	acmeAddress  = worldAddress + ":14000"
	acmeRoots    = worldAddress + ":15000"
)

// World is the network beside the machines: names, DIDs, certificates, mail, a relay, an AppView.
type World struct {
	DNS  DNS
	CA   *Authority
	Mail Mailbox

	dir, tools string
	trusted    []byte // certificates of authorities that everybody trusts
	links      int
	programs   []*exec.Cmd

	mu    sync.Mutex
	files map[string]string // of web sites, by host: what is at /.well-known/atproto-did
}

// newWorld starts everything, in the namespace of this process.
func newWorld(dir, tools string) (w *World, err error) {
	w = &World{dir: dir, tools: tools, files: map[string]string{}}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "add", "br0", "type", "bridge"}, {"addr", "add", worldAddress + "/24", "dev", "br0"}, {"link", "set", "br0", "up"},
	} {
		if err := ip(args...); err != nil {
			return nil, err
		}
	}
	resolv := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+worldAddress+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := syscall.Mount(resolv, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return nil, err
	}
	w.DNS.Set(worldAddress, "plc.directory", "bsky.network", "api.bsky.app", "mod.bsky.app", "acme-v02.api.letsencrypt.org", "alice.example.org", "bob.example.org")
	if err := w.DNS.Serve(worldAddress + ":53"); err != nil {
		return nil, err
	}
	if w.CA, err = newAuthority(); err != nil {
		return nil, err
	}
	if w.trusted, err = os.ReadFile("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		return nil, err
	}
	w.trusted = append(w.trusted, w.CA.PEM...)
	if err := w.acme(); err != nil {
		return nil, err
	}
	bundle := filepath.Join(dir, "trusted.pem")
	if err := os.WriteFile(bundle, w.trusted, 0o644); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.trusted)
	http.DefaultTransport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	if err := w.sites(); err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", worldAddress+":465", w.CA.TLS())
	if err != nil {
		return nil, err
	}
	go w.Mail.Serve(l)
	return w, w.start([]string{"SSL_CERT_FILE=" + bundle}, filepath.Join(tools, "relay"), "-listen", relayAddress, "-data", filepath.Join(dir, "relay"), "-url", "https://bsky.network")
}

// start starts a program of the network. Its output is a file in the folder.
func (w *World) start(env []string, program string, args ...string) error {
	log, err := os.Create(filepath.Join(w.dir, filepath.Base(program)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.programs = append(w.programs, cmd)
	return nil
}

// Close ends the programs of the network. Machines end with this process.
func (w *World) Close() {
	for _, cmd := range w.programs {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// acme starts Pebble, a certificate authority that speaks ACME and looks at ports 80 and 443 as a
// public one does, and trusts its root.
func (w *World) acme() error {
	chain, key, err := w.CA.Files("acme-v02.api.letsencrypt.org", worldAddress)
	if err != nil {
		return err
	}
	file := func(name string, text []byte) string {
		path := filepath.Join(w.dir, name)
		err = errors.Join(err, os.WriteFile(path, text, 0o600))
		return path
	}
	config, _ := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": acmeAddress, "managementListenAddress": acmeRoots, "certificate": file("acme.pem", chain), "privateKey": file("acme.key", key),
		"httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
	}})
	path := file("pebble.json", config)
	if err != nil {
		return err
	}
	if err := w.start([]string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, filepath.Join(w.tools, "pebble"), "-config", path, "-dnsserver", worldAddress+":53"); err != nil {
		return err
	}
	// Its root is another one at each start.
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return retry(time.Minute, func() error {
		res, err := insecure.Get("https://" + acmeRoots + "/roots/0")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if block, _ := pem.Decode(text); err == nil && block == nil {
			err = fmt.Errorf("no certificate: %.100q", text)
		}
		if err == nil {
			w.trusted = append(w.trusted, text...)
		}
		return err
	})
}

// sites serves all web sites of the network, by TLS and by name.
func (w *World) sites() error {
	plc, err := plctest.New(plctest.Config{})
	if err != nil {
		return err
	}
	relay := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: relayAddress})
	acme := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: acmeAddress})
			r.Out.Host = r.In.Host // addresses in its answers are made of it
			if r.In.URL.Path == "/directory" {
				r.Out.URL.Path = "/dir"
			}
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	l, err := tls.Listen("tcp", worldAddress+":443", w.CA.TLS())
	if err != nil {
		return err
	}
	app, err := net.Listen("tcp", "127.0.0.1:80") // on the device of somebody who signs in to an app
	if err != nil {
		return err
	}
	go http.Serve(app, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "You are back in the app.") }))
	go http.Serve(l, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.Host {
		case "plc.directory":
			plc.ServeHTTP(rw, r)
		case "bsky.network":
			relay.ServeHTTP(rw, r)
		case "acme-v02.api.letsencrypt.org":
			acme.ServeHTTP(rw, r)
		case "api.bsky.app", "mod.bsky.app":
			appView(rw, r)
		default:
			w.mu.Lock()
			text := w.files[r.Host]
			w.mu.Unlock()
			if text == "" || r.URL.Path != "/.well-known/atproto-did" {
				http.NotFound(rw, r)
				return
			}
			io.WriteString(rw, text)
		}
	}))
	return nil
}

// appView knows everybody, by the name that a handle has when it is not known to be right.
func appView(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"did": r.URL.Query().Get("actor"), "handle": "handle.invalid"})
}

// SetFile makes a web site say whose handle its name is.
func (w *World) SetFile(host, did string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[host] = did
}

// retry tries again until it works, or the time is over.
func retry(limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if sleep.For(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

// logs returns the ends of what the programs of the network have printed.
func (w *World) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(file), bytes.Join(lines[max(0, len(lines)-30):], []byte("\n")))
	}
	return b.String()
}
