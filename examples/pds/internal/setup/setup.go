// Package setup has the parts of "pds init": the configuration with its comments, the unit files,
// the configuration of a reverse proxy, and checks of the machine.
package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/deploy"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Ways of TLS.
const (
	ACME  = "acme"  // the server gets certificates itself
	Caddy = "caddy" // in front, on this machine
	Nginx = "nginx"
	Other = "other" // something else in front
)

// Ways are all of them.
var Ways = []string{ACME, Caddy, Nginx, Other}

// Answers are what an operator is asked.
type Answers struct {
	Hostname string
	TLS      string // one of Ways
	Email    string // of the operator: for the authority of certificates, and for users
	Port     int    // behind a proxy
	// Data, Backups and Config are folders, User owns the first two, and Program is the path of the
	// program.
	Data, Backups, Config, User, Program string
	// SMTP is the URL of a mail server, and From the sender; both or neither.
	SMTP, From string
	// Network: relays and the AppView of Bluesky are named.
	Network bool
}

// Check says what is wrong with the answers.
func (a Answers) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.Hostname == "localhost" {
		wrong("a server on localhost needs no set-up: \"pds serve\" starts one")
	} else if _, err := syntax.ParseHandle(a.Hostname); err != nil {
		wrong("%q is not a host name such as pds.example.com (without https:// and port)", a.Hostname)
	}
	if !slices.Contains(Ways, a.TLS) {
		wrong("%q is none of %s", a.TLS, strings.Join(Ways, ", "))
	}
	if _, err := mail.ParseAddress(a.Email); err != nil && a.Email != "" {
		wrong("%q is not an e-mail address", a.Email)
	}
	if u, err := url.Parse(a.SMTP); a.SMTP != "" && (err != nil || u.Scheme != "smtp" && u.Scheme != "smtps") {
		wrong("the mail server is not a URL such as smtps://user:password@smtp.example.com:465") // it has a password
	}
	if (a.SMTP == "") != (a.From == "") {
		wrong("a mail server needs a sender, and a sender a mail server")
	} else if _, err := mail.ParseAddress(a.From); err != nil && a.From != "" {
		wrong("%q is not an e-mail address", a.From)
	}
	if a.Port < 1 || a.Port > 65535 {
		wrong("%d is not a port", a.Port)
	}
	for _, path := range []string{a.Data, a.Backups, a.Config, a.Program} {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, " \t\n\"'%$\\") {
			wrong("%q is not a path from the root, without spaces and quotes", path)
		}
	}
	return errors.Join(errs...)
}

// File is one to be written.
type File struct {
	Path string
	Mode fs.FileMode
	Text []byte
	// Secret files belong to the user of the server, others to who writes them.
	Secret bool
	About  string // what it is
}

// EnvFile is the path of the configuration.
func (a Answers) EnvFile() string { return filepath.Join(a.Config, "pds.env") }

// Files are the files for the answers. Without units, there are no unit files.
func (a Answers) Files(units string) (list []File, err error) {
	list = append(list, File{a.EnvFile(), 0o600, a.Env(), true, "the configuration"})
	read := func(name string) []byte {
		text, readErr := deploy.Files.ReadFile(name)
		if readErr != nil {
			err = readErr
		}
		return text
	}
	if units != "" {
		for _, name := range []string{"pds.service", "pds-backup.service", "pds-backup.timer"} {
			list = append(list, File{filepath.Join(units, name), 0o644, a.unit(read(name)), false, "for systemd"})
		}
	}
	if name := map[string]string{Caddy: "Caddyfile", Nginx: "nginx.conf"}[a.TLS]; name != "" {
		text := strings.ReplaceAll(string(read(name)), "pds.example.com", a.Hostname)
		text = strings.ReplaceAll(text, "127.0.0.1:2583", fmt.Sprintf("127.0.0.1:%d", a.Port))
		if a.Email != "" {
			text = strings.ReplaceAll(text, "admin@example.com", a.Email)
		} else {
			text = strings.ReplaceAll(text, "\temail admin@example.com\n", "")
		}
		list = append(list, File{filepath.Join(a.Config, name), 0o644, []byte(text), false, "for " + a.TLS + ", which must read it"})
	}
	return list, err
}

// unit puts paths and user into a unit file of the guide.
func (a Answers) unit(text []byte) []byte {
	s := strings.NewReplacer(
		"/usr/local/bin/pds", a.Program, "/etc/pds/pds.env", a.EnvFile(), "/var/backups/pds", a.Backups, "/var/lib/pds", a.Data,
		"User=pds\n", "User="+a.User+"\n", "Group=pds\n", "", // the user's own group
	).Replace(string(text))
	if a.Data != "/var/lib/pds" {
		s = strings.Replace(s, "StateDirectory=pds\nStateDirectoryMode=0700\n", "ReadWritePaths="+a.Data+"\n", 1)
	}
	return []byte(s)
}

// SameUnit reports whether two unit files say the same: the group of a user has the user's name
// unless another one is given.
func SameUnit(a, b []byte) bool {
	plain := func(text []byte) string {
		return strings.Replace(string(text), "Group=pds\n", "", 1)
	}
	return plain(a) == plain(b)
}

// What Write did with a file.
type Outcome string

// The outcomes.
const (
	Written  Outcome = "written"
	Same     Outcome = "is as it should be"
	Kept     Outcome = "kept as it is" // it differs
	Replaced Outcome = "replaced"      // what it was is beside it, with .old at the end
)

// Write writes a file. One that is there and differs is replaced only if replace says so, and kept
// beside it. own is called with a new secret file, before it has its name.
func Write(f File, replace func(File) (bool, error), own func(path string) error) (Outcome, error) {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return "", err
	}
	have, err := durablefile.Read(f.Path)
	outcome := Written
	switch {
	case err == nil && bytes.Equal(have, f.Text):
		return Same, nil
	case err == nil:
		yes, err := replace(f)
		if err != nil || !yes {
			return Kept, err
		}
		if err := put(File{Path: f.Path + ".old", Mode: 0o600, Text: have}, nil); err != nil {
			return "", err
		}
		outcome = Replaced
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if !f.Secret {
		own = nil
	}
	return outcome, put(f, own)
}

// put writes a file with its mode and owner.
func put(f File, own func(path string) error) error {
	temp := f.Path + ".new"
	if err := durablefile.Write(temp, f.Text); err != nil { // mode 0600
		return err
	}
	err := os.Chmod(temp, f.Mode)
	if err == nil && own != nil {
		err = own(temp)
	}
	if err == nil {
		err = durablefile.Rename(temp, f.Path)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}
