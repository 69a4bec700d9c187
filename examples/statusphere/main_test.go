package main

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/statusphere/internal/web"
	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// TestConfidentialClient: with a key, the app authenticates at servers, which fetch the public key.
func TestConfidentialClient(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.key")
	key, err := readKey(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := readKey(file)
	if err != nil || string(again.Signer.PublicKey().Bytes()) != string(key.Signer.PublicKey().Bytes()) {
		t.Fatalf("another key: %v", err)
	}
	w := newWorld(t, func(s *settings) { s.keys = []client.Key{key} })
	u := w.visit()
	u.signIn(w.pds.Account("alice"))
	u.submit("/status", url.Values{"status": {"👍"}})
	w.wait("alice 👍")
	var meta struct {
		ID      string `json:"client_id"`
		Auth    string `json:"token_endpoint_auth_method"`
		KeysURI string `json:"jwks_uri"`
		Scope   string `json:"scope"`
	}
	body, err := io.ReadAll(get(w, web.MetadataPath, "").Body)
	if err != nil || data.UnmarshalJSON(body, &meta) != nil {
		t.Fatal(err, string(body))
	}
	if meta.ID != w.set.url+web.MetadataPath || meta.Auth != "private_key_jwt" || meta.KeysURI != w.set.url+web.KeysPath || meta.Scope != web.Scope {
		t.Errorf("the metadata are %s", body)
	}
	keys, err := io.ReadAll(get(w, web.KeysPath, "").Body)
	if err != nil || !strings.Contains(string(keys), `"kty":"EC"`) || strings.Contains(string(keys), `"d":`) {
		t.Errorf("the keys are %s", keys)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range []string{
		"extra", "-listen nowhere", "-relay https://a.example.com -jetstream wss://b.example.com", "-public-url https://a.example.com",
		"-client-key k", "-client-key k -relay https://a.example.com", "-listen 0.0.0.0:8080", "-relay http://a.example.com", "-jetstream ws://a.example.com",
		"-relay a.example.com", "-relay https://a.example.com -public-url http://b.example.com", "-relay https://a.example.com -public-url https://b.example.com/x",
		"-plc http://a.example.com", "-unknown", "-relay https://[::1",
	} {
		if o, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s is taken: %+v", args, o)
		}
	}
	for _, args := range []string{
		"", "-relay https://a.example.com", "-jetstream wss://a.example.com", "-jetstream ws://127.0.0.1:1 -local", "-relay http://127.0.0.1:1 -local -plc http://127.0.0.1:2",
		"-relay https://a.example.com -public-url https://b.example.com -client-key k -listen 0.0.0.0:80", "-listen 127.0.0.1:0",
	} {
		if _, err := parse(strings.Fields(args), io.Discard); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// With -local on the web, anybody could have requests sent into the operator's network.
func TestLocalIsNotForTheWeb(t *testing.T) {
	for args, here := range map[string]bool{
		"": true, "-relay http://127.0.0.1:1 -local": true, "-relay https://a.example.com": false,
		"-relay http://10.0.0.1:1 -local -public-url https://a.example.com": false,
	} {
		if o, err := parse(strings.Fields(args), io.Discard); err != nil || o.strangersHere() != here {
			t.Errorf("%s: %v, %v", args, o.strangersHere(), err)
		}
	}
}

// The PDS of this process cannot start.
func TestPortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, address := range []string{l.Addr().String(), "localhost:0", "localhost", ""} {
		err := run(t.Context(), []string{"-data", t.TempDir(), "-listen", "127.0.0.1:0", "-pds", address}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "PDS") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	var flushed []string
	watch := func(path string) { flushed = append(flushed, path) }
	durablefile.Watch.Store(&watch)
	a, err := readSecret(file)
	durablefile.Watch.Store(nil)
	if err != nil || len(a) != 32 {
		t.Fatal(a, err)
	}
	if runtime.GOOS != "windows" && !slices.Contains(flushed, dir) {
		t.Errorf("the file's name does not outlast a power failure: %v", flushed)
	}
	if b, err := readSecret(file); err != nil || string(a) != string(b) {
		t.Error("another secret", err)
	}
	if list, err := os.ReadDir(dir); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, text := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("z", 64), strings.Repeat("0", 66)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSecret(file); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestProcessInABrowser: the app as it starts without flags, with the accounts that it prints. A
// session lasts longer than the process.
func TestProcessInABrowser(t *testing.T) {
	if browser.Find() == "" {
		chromium.Tab(t, browser.Options{})
	}
	args := []string{"-data", t.TempDir(), "-listen", freePort(t, "127.0.0.1"), "-pds", freePort(t, "localhost")}
	p := startProcess(t, args...)
	tab := chromium.Tab(t, browser.Options{})
	tab.Goto(p.url + "/")
	tab.Submit("alice.test")
	tab.WaitForURL(p.pds + "/")
	tab.WaitFor("Password")
	tab.Fill("Password", p.logins["alice.test"])
	tab.Submit("Sign in")
	tab.Submit("Allow")
	tab.WaitForURL(p.url)
	tab.WaitFor("How are you, Alice?")
	tab.Submit("pizza")
	tab.WaitFor(".remove")
	const leave = `dispatchEvent(new Event("pagehide"))` // ends the live list, which else is cut off
	tab.Eval(leave, nil)
	p.kill()
	p = startProcess(t, args...)
	tab.Goto(p.url + "/")
	if list := tab.TextOf("#list"); !strings.Contains(list, "🍕") || strings.Count(list, "Alice") != 1 {
		t.Errorf("the list is %q", list)
	}
	tab.Submit("coffee")
	tab.WaitFor(".remove")
	if orb := tab.TextOf("#orb"); orb != "☕" {
		t.Errorf("alice's status is %q", orb)
	}
	res, err := http.Get(p.pds + "/xrpc/com.atproto.repo.listRecords?repo=alice.test&collection=xyz.statusphere.status")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || strings.Count(string(body), `"cid"`) != 2 {
		t.Errorf("the repository has %s, %v", body, err)
	}
	tab.Eval(leave, nil)
}
