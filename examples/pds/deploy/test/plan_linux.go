package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// plan is the way of a reader through the guide.
func plan(g *Guide) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := retry(time.Minute, func() error { // it has just been started
		_, err := get("https://bsky.network/xrpc/_health")
		return err
	}); err != nil {
		return err
	}
	relay := g.follow(ctx)

	first, err := g.Host("first", "one", "11.0.0.11")
	if err != nil {
		return err
	}
	alice, err := packaged(g, first, relay)
	if err != nil {
		return err
	}
	if err := everyday(g, first); err != nil {
		return err
	}
	if err := safe(g, first, alice, relay); err != nil {
		return err
	}
	second, err := g.Host("second", "two", "11.0.0.12")
	if err != nil {
		return err
	}
	if err := behindCaddy(g, second, relay); err != nil {
		return err
	}
	if err := move(g, first, second, alice, relay); err != nil {
		return err
	}
	third, err := g.Host("third", "three", "11.0.0.13")
	if err != nil {
		return err
	}
	if err := behindNginx(g, third, relay); err != nil {
		return err
	}
	return disaster(g, first, relay)
}

// person is somebody with an account.
type person struct{ did, handle, password string }

// release puts files of the release into a machine's home.
func (h *Host) release(pattern string) error {
	found, err := filepath.Glob(filepath.Join(h.g.built, "release", pattern))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("release: %s: %v, %v", pattern, found, err)
	}
	for _, path := range []string{found[0], filepath.Join(h.g.built, "release", "SHA256SUMS")} {
		if err := h.Write("/root/"+filepath.Base(path), 0o644, file(path)); err != nil {
			return err
		}
	}
	return nil
}

// account takes the account that "pds init" has made, and looks at what it has written.
func (h *Host) account(init string) (*person, error) {
	out, err := h.Run(init)
	if err != nil {
		return nil, err
	}
	p := &person{handle: "alice.pds." + h.Zone}
	if p.password, err = one(passwordOf, out); err != nil {
		return nil, err
	}
	if p.did, err = one(didOf, out); err != nil {
		return nil, err
	}
	h.names["PASSWORD"] = p.password
	if err := h.Function(); err != nil {
		return nil, err
	}
	if err := h.modes(); err != nil {
		return nil, err
	}
	// Once more: nothing changes, and no secret is made anew.
	const sums = "sha256sum /var/lib/pds/secrets.json /etc/pds/* $(find /etc/systemd/system -name 'pds*' -type f) 2>/dev/null; id pds"
	before, err := h.Script(sums, "")
	if err != nil {
		return nil, err
	}
	out, err = h.Run(init)
	if err != nil {
		return nil, err
	}
	after, err := h.Script(sums, "")
	if err != nil {
		return nil, err
	}
	if before != after || passwordOf.MatchString(out) || !strings.Contains(out, "There are accounts already") {
		return nil, fmt.Errorf("pds init, run again, is not idle:\n%s\nbefore:\n%safter:\n%s", out, before, after)
	}
	return p, nil
}

// modes checks who may read what.
func (h *Host) modes() error {
	want := []string{
		"600 pds /etc/pds/pds.env", "700 pds /var/lib/pds", "700 pds /var/backups/pds", "600 pds /var/lib/pds/secrets.json", "600 pds /var/lib/pds/pds.sqlite",
	}
	out, err := h.Script("stat -c '%a %U %n' /etc/pds/pds.env /var/lib/pds /var/backups/pds /var/lib/pds/secrets.json /var/lib/pds/pds.sqlite", "")
	if got := strings.TrimSpace(out); err != nil || got != strings.Join(want, "\n") {
		return fmt.Errorf("%s: modes: %w\n%s\nwant:\n%s", h.Name, err, got, strings.Join(want, "\n"))
	}
	return nil
}

// packaged installs the Debian package, with TLS of its own, and writes the first post.
func packaged(g *Guide, h *Host, relay *Relay) (*person, error) {
	begin := time.Now()
	if err := h.release("pds_*.deb"); err != nil {
		return nil, err
	}
	if err := h.All("install/package"); err != nil {
		return nil, err
	}
	alice, err := h.account("install/init-acme")
	if err != nil {
		return nil, err
	}
	if _, err := h.Run("first-account/post"); err != nil {
		return nil, err
	}
	if err := g.Do(h.Name, "the relay sees the post", func() error { return relay.Sees(alice.did) }); err != nil {
		return nil, err
	}
	g.note(h.Name, "FROM THE PACKAGE TO THE POST", time.Since(begin))
	if _, err := h.Expect("install/works", "active", "version"); err != nil {
		return nil, err
	}
	if err := errors.Join(h.Eventually("install/doctor"), h.All("install/config", "first-account/account", "first-account/crawl")); err != nil {
		return nil, err
	}
	if err := g.Do(h.Name, "sign in to an app, and post", func() error { return h.signIn(alice.handle, alice.password) }); err != nil {
		return nil, err
	}
	return alice, g.Do(h.Name, "the relay sees the app's post", func() error { return relay.Sees(alice.did) })
}

// settings adds lines to pds.env, as an operator does with an editor.
func (h *Host) settings(text string) error {
	_, err := h.Script("cat >> /etc/pds/pds.env", text)
	return err
}

// everyday is mail, people, and what an operator looks at.
func everyday(g *Guide, h *Host) error {
	lines, err := h.Block("mail/settings")
	if err != nil {
		return err
	}
	if err := h.settings(lines); err != nil {
		return err
	}
	if _, err := h.Expect("mail/encode", "%70%40%73%73%2f%77%6f%72%64"); err != nil {
		return err
	}
	n := g.Mail.Count()
	if err := h.All("mail/try"); err != nil {
		return err
	}
	if err := g.Do(h.Name, "the mail has come", func() error { _, err := g.Mail.Wait("you@"+h.Zone, n); return err }); err != nil {
		return err
	}
	if err := h.All("mail/waiting", "mail/reset"); err != nil {
		return err
	}
	out, err := h.Run("moderation/invites")
	if err != nil {
		return err
	}
	if h.names["CODE"], err = one(inviteCode, out); err != nil {
		return err
	}
	if err := h.All("moderation/disable", "moderation/help", "moderation/takedown"); err != nil {
		return err
	}
	return h.handles()
}

// handles gives alice a domain by DNS, and bob one by a file.
func (h *Host) handles() error {
	if _, err := h.Expect("handles/below", "did:plc:"); err != nil {
		return err
	}
	out, err := h.Expect("handles/dns-record", "did:plc:")
	if err != nil {
		return err
	}
	did, err := one(didOf, out)
	if err != nil {
		return err
	}
	h.g.DNS.SetText("_atproto.alice.example.org", "did="+did)
	if err := h.All("handles/dns", "handles/other-name"); err != nil {
		return err
	}
	out, err = h.Script(". "+functionFile+"; pds account info bobby.pds."+h.Zone, "")
	if err != nil {
		return err
	}
	if did, err = one(didOf, out); err != nil {
		return err
	}
	h.g.SetFile("bob.example.org", did)
	if err := h.All("handles/file"); err != nil {
		return err
	}
	h.names["alice.pds.example.com"] = "alice.example.org" // what she is called from here on
	return nil
}

// safe is backups, their restore, exports, and an upgrade.
func safe(g *Guide, h *Host, alice *person, relay *Relay) error {
	if err := h.All("backups/timer", "backups/now"); err != nil {
		return err
	}
	h.env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/age"}
	for _, name := range []string{"age", "age-keygen"} { // as its package would
		if err := h.Write("/usr/bin/"+name, 0o755, file(filepath.Join(g.tools, name))); err != nil {
			return err
		}
	}
	out, err := h.Run("backups/age-key")
	if err != nil {
		return err
	}
	if h.names["age1..."], err = one(recipient, out); err != nil {
		return err
	}
	if err := h.All("backups/age", "backups/trial"); err != nil {
		return err
	}
	if _, err := h.Script("cp /mnt/elsewhere/pds.tar.age .", ""); err != nil {
		return err
	}
	if err := h.All("backups/trial-age"); err != nil {
		return err
	}
	if err := h.All("first-account/post"); err != nil { // it is lost in the restore
		return err
	}
	if err := g.Do(h.Name, "the relay sees a post that is lost", func() error { return relay.Sees(alice.did) }); err != nil {
		return err
	}
	if err := h.All("backups/restore", "backups/generations", "backups/blobs", "install/works", "first-account/post"); err != nil {
		return err
	}
	if err := g.Do(h.Name, "the relay sees the next post", func() error { return relay.Sees(alice.did) }); err != nil {
		return err
	}
	// An account in a file, and back; somebody is deleted.
	if err := h.All("moving/export", "moving/import"); err != nil {
		return err
	}
	out, err = h.Run("first-account/account")
	if err != nil {
		return err
	}
	did, err := one(didOf, out)
	if err != nil {
		return err
	}
	if _, err := h.run("moderation/delete", did+"\n"); err != nil { // it asks for the DID
		return err
	}
	if err := errors.Join(h.Eventually("monitoring/doctor"), h.All("monitoring/check")); err != nil {
		return err
	}
	if _, err := h.Expect("monitoring/log", "msg="); err != nil {
		return err
	}
	if _, err := h.Expect("monitoring/metrics", "pds_check"); err != nil {
		return err
	}
	return h.newer()
}

// newer upgrades the package, and sets what small machines have.
func (h *Host) newer() error {
	if _, err := h.Script("dpkg-deb -R pds_*.deb new && sed -i 's/^Version: .*/Version: 99.0.0/' new/DEBIAN/control && rm pds_*.deb && dpkg-deb -Zgzip -z1 -b new pds_99.0.0_amd64.deb", ""); err != nil {
		return err
	}
	less, err := h.Block("small-machines/less")
	if err != nil {
		return err
	}
	if err := h.settings(less); err != nil {
		return err
	}
	if err := h.All("upgrade/package", "install/config"); err != nil {
		return err
	}
	out, err := h.Script("dpkg-query -W -f '${Version}' pds; . "+functionFile+"; pds config -json", "")
	if err != nil || !strings.HasPrefix(out, "99.0.0") {
		return fmt.Errorf("the upgraded package: %w: %s", err, out)
	}
	return nil
}

// behindCaddy installs the program of a release, with Caddy in front.
func behindCaddy(g *Guide, h *Host, relay *Relay) error {
	if err := h.release("pds-*.tar.gz"); err != nil {
		return err
	}
	if err := h.All("install/binary"); err != nil {
		return err
	}
	alice, err := h.account("install/init-caddy")
	if err != nil {
		return err
	}
	if _, err := h.Script("systemctl start caddy", ""); err != nil { // as its package does
		return err
	}
	if err := h.All("proxies/caddy"); err != nil {
		return err
	}
	return h.proxied(g, alice, relay)
}

// proxied looks through a proxy, and posts.
func (h *Host) proxied(g *Guide, alice *person, relay *Relay) error {
	if err := h.Eventually("install/works"); err != nil { // nginx reloads after it has said so
		return err
	}
	if _, err := h.Expect("proxies/websocket", "101"); err != nil {
		return err
	}
	if err := errors.Join(h.Eventually("proxies/check"), h.All("install/doctor", "first-account/crawl", "first-account/post")); err != nil {
		return err
	}
	if err := g.Do(h.Name, "the relay sees the post", func() error { return relay.Sees(alice.did) }); err != nil {
		return err
	}
	return g.Do(h.Name, "sign in to an app, and post", func() error { return h.signIn(alice.handle, alice.password) })
}

// behindNginx builds the program, with nginx in front.
func behindNginx(g *Guide, h *Host, relay *Relay) error {
	chain, key, err := g.CA.Files("pds."+h.Zone, "*.pds."+h.Zone)
	if err != nil {
		return err
	}
	if err := errors.Join(h.Write("/etc/ssl/pds/fullchain.pem", 0o644, chain), h.Write("/etc/ssl/pds/privkey.pem", 0o600, key)); err != nil {
		return err
	}
	// The clone is one of this checkout, and the modules are those that it was built with.
	h.env = []string{
		"PATH=/usr/local/go/bin:" + os.Getenv("PATH"), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url.file://" + filepath.Join(g.built, "source") + ".insteadOf",
		"GIT_CONFIG_VALUE_0=https://github.com/pdskit/pdskit", "GOPROXY=off", "GOFLAGS=-mod=readonly",
	}
	if err := h.All("install/source"); err != nil {
		return err
	}
	alice, err := h.account("install/init-nginx")
	if err != nil {
		return err
	}
	if _, err := h.Script("systemctl start nginx", ""); err != nil { // as its package does
		return err
	}
	if err := h.All("proxies/nginx"); err != nil {
		return err
	}
	return h.proxied(g, alice, relay)
}

// move moves alice of the first server to the second one.
func move(g *Guide, from, to *Host, alice *person, relay *Relay) error {
	out, err := to.Run("moving/invite")
	if err != nil {
		return err
	}
	if to.names["CODE"], err = one(inviteCode, out); err != nil {
		return err
	}
	to.names["alice.old.example"] = "alice.example.org"
	to.stranger = true
	to.env = []string{"PDS_MIGRATE_OLD_PASSWORD=" + alice.password, "PDS_MIGRATE_NEW_PASSWORD=" + alice.password}
	n := g.Mail.Count()
	// The code comes by mail while the command asks for it; nobody answers, and it is given later.
	out, err = to.run("moving/in", "")
	if err != nil {
		var exit *exitError
		if !errors.As(err, &exit) {
			return err
		}
	}
	text, mailErr := g.Mail.Wait("you@"+from.Zone, n)
	if mailErr != nil {
		return errors.Join(mailErr, errors.New(out))
	}
	if to.names["MAILED-CODE"], err = one(mailCode, text); err != nil {
		return err
	}
	if err := to.All("moving/in-later"); err != nil {
		return err
	}
	to.stranger = false
	alice.handle = "alice.example.org"
	if err := g.Do(to.Name, "sign in to an app, and post", func() error { return to.signIn(alice.handle, alice.password) }); err != nil {
		return err
	}
	if err := g.Do(to.Name, "the relay sees it come from here", func() error { return relay.Sees(alice.did) }); err != nil {
		return err
	}
	if _, err := from.run("moving/out", alice.did+"\n"); err != nil {
		return err
	}
	if _, err := to.Script("cp /usr/local/bin/pds pds-new", ""); err != nil {
		return err
	}
	return to.All("upgrade/program", "install/works")
}

// disaster kills the first machine, and gives its name to a new one.
func disaster(g *Guide, dead *Host, relay *Relay) error {
	var kept struct{ Env, Backup, Key string }
	for path, to := range map[string]*string{"/etc/pds/pds.env": &kept.Env, "/mnt/elsewhere/pds.tar.age": &kept.Backup, "/root/key.txt": &kept.Key} {
		out, err := dead.Script("base64 -w0 "+path, "")
		if err != nil {
			return err
		}
		*to = out
	}
	password := dead.names["PASSWORD"]
	dead.Kill()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() // those to the dead machine
	h, err := g.Host("fourth", "one", "11.0.0.14")
	if err != nil {
		return err
	}
	if err := h.release("pds-*.tar.gz"); err != nil {
		return err
	}
	if err := h.All("install/binary"); err != nil {
		return err
	}
	for path, text := range map[string]string{"/etc/pds/pds.env": kept.Env, "/root/pds.tar.age": kept.Backup, "/root/key.txt": kept.Key} {
		if _, err := h.Script("install -D -m 600 <(base64 -d) "+path, text); err != nil {
			return err
		}
	}
	if err := h.All("backups/disaster-init"); err != nil {
		return err
	}
	if err := h.Function(); err != nil {
		return err
	}
	if err := h.All("backups/disaster", "install/works"); err != nil {
		return err
	}
	// The backup is older than the move, so that bob is who has lived here all the time.
	out, err := h.Script(". "+functionFile+"; pds account list -json -quiet", "")
	if err == nil && (!json.Valid([]byte(out)) || strings.Count(out, "did:plc:") < 2) {
		err = errors.New("not as before")
	}
	if err != nil {
		return fmt.Errorf("accounts after the disaster: %w: %s", err, out)
	}
	h.names["bob.pds.example.com"] = "bob.example.org"
	out, err = h.Run("mail/reset")
	if err != nil {
		return err
	}
	if password, err = one(newPassword, out); err != nil {
		return err
	}
	err = g.Do(h.Name, "sign in to an app, and post", func() error { return h.signIn("bob.example.org", password) })
	if err != nil {
		log, _ := h.Script("journalctl -u pds -n 30", "")
		return fmt.Errorf("%w\n%s", err, log)
	}
	return nil
}
