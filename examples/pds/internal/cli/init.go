package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/setup"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/xrpc/doctor"
)

const initHelp = `
It asks for what it needs; with -yes it asks nothing, and takes the flags. It checks the machine:
DNS, ports, clock, disk, memory. It writes a commented pds.env (mode 0600), unit files for systemd,
and the configuration of the proxy. Then it starts the server, and ends with the first account, or
an invite code, and the address of its page.

As root on a machine with systemd, it makes the user, installs the program to /usr/local/bin and
starts the services. Otherwise everything is below the current folder, and the server runs only
while the account is made.

You may run it again. Then the answers are those of the existing pds.env. Files that differ are kept
unless -overwrite is given; a replaced file is kept as NAME.old.
`

// initFlags are what init takes.
type initFlags struct {
	setup.Answers
	units     string
	handle    string
	overwrite bool
	noStart   bool
}

func registerInit(c *call) {
	f := &c.values.init
	c.StringVar(&f.Hostname, "hostname", "", "the `name` of the server, such as pds.example.com")
	c.StringVar(&f.TLS, "tls", "", "`who` speaks TLS: acme (the server itself), caddy, nginx, or other (default: acme)")
	c.StringVar(&f.Email, "email", "", "your e-mail `address`: for the certificate authority, your users, and the first account")
	c.StringVar(&f.handle, "handle", "", "the `handle` of the first account, such as alice (default: make an invite code instead)")
	c.StringVar(&f.SMTP, "smtp", "", "`URL` of a mail server, such as smtps://user:password@smtp.example.com:465")
	c.StringVar(&f.From, "from", "", "the sender's `address` of mails")
	c.BoolVar(&f.Network, "network", true, "use the relays and the AppView of Bluesky; -network=false for a server of its own")
	c.IntVar(&f.Port, "port", 2583, "`port` that the proxy connects to")
	c.StringVar(&f.Config, "config", "", "`folder` for pds.env (default: /etc/pds as root, else the current folder)")
	c.StringVar(&f.Data, "data", "", "`folder` for the data (default: /var/lib/pds as root, else pds-data)")
	c.StringVar(&f.Backups, "backups", "", "`folder` for backups (default: /var/backups/pds as root, else pds-backups)")
	c.StringVar(&f.units, "units", "", "`folder` for unit files (default: /etc/systemd/system as root where systemd runs, else a folder units beside pds.env)")
	c.StringVar(&f.User, "user", "", "`name` of the user that the server runs as (default: pds as root, else you)")
	c.BoolVar(&f.overwrite, "overwrite", false, "replace existing files that differ")
	c.BoolVar(&f.noStart, "no-start", false, "only write files")
	c.BoolVar(&c.values.yes, "yes", false, "ask nothing")
}

// initiation is a run of init.
type initiation struct {
	*call
	initFlags
	in     *bufio.Reader
	ask    bool // there is somebody to ask
	system bool // as root, on a machine with systemd
}

// initResult is what init tells.
type initResult struct {
	Files    map[string]setup.Outcome `json:"files"`
	Report   doctor.Report            `json:"machine"`
	Started  bool                     `json:"started"`
	Account  *firstAccount            `json:"account,omitempty"`
	Page     string                   `json:"page"`
	Admin    string                   `json:"admin"`
	Password string                   `json:"adminPasswordIn"`
}

func runInit(ctx context.Context, c *call) error {
	i := &initiation{call: c, initFlags: c.values.init, in: bufio.NewReader(c.In)}
	i.ask = !c.values.yes && (c.Terminal || isTerminal(c.In))
	if !i.ask && !c.values.yes {
		return fmt.Errorf("%w: there is no terminal to ask at: give -yes, and the answers as flags (pds help init)", errUsage)
	}
	i.system = os.Geteuid() == 0 && isDir("/run/systemd/system")
	if err := i.answers(); err != nil {
		return err
	}
	result := initResult{Files: make(map[string]setup.Outcome)}
	if err := i.examine(ctx, &result); err != nil {
		return err
	}
	if err := i.write(ctx, &result); err != nil {
		return err
	}
	if err := i.start(ctx, &result); err != nil {
		return err
	}
	return i.finish(result)
}

// isTerminal reports whether somebody types what is read.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// say tells the operator something, beside the result.
func (i *initiation) say(format string, args ...any) { fmt.Fprintf(i.Stderr, format+"\n", args...) }

// prompt asks a question, with an answer for who only presses enter.
func (i *initiation) prompt(question, answer string) (string, error) {
	if !i.ask {
		return answer, nil
	}
	if answer != "" {
		question += " [" + answer + "]"
	}
	fmt.Fprintf(i.Stderr, "%s: ", question)
	line, err := i.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("nothing was done: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return cmp.Or(strings.TrimSpace(line), answer), nil
}

// yes asks a question that is answered by yes or no.
func (i *initiation) yes(question string, usual bool) (bool, error) {
	answer := "n"
	if usual {
		answer = "y"
	}
	got, err := i.prompt(question+" (y/n)", answer)
	return strings.HasPrefix(strings.ToLower(got), "y"), err
}

// answers takes flags, what pds.env says already, and what is typed.
func (i *initiation) answers() (err error) {
	i.places()
	known := map[string]string{}
	if _, statErr := os.Stat(i.EnvFile()); statErr == nil {
		if known, _, err = config.Environment(nil, i.EnvFile()); err != nil {
			return fmt.Errorf("%w: %w", errConfig, err)
		}
		i.say("%s is there: its answers hold where no flag is given.", i.EnvFile())
	}
	given := map[string]bool{}
	i.Visit(func(f *flag.Flag) { given[f.Name] = true })
	i.Hostname = strings.ToLower(cmp.Or(i.Hostname, known["PDS_HOSTNAME"]))
	i.Email = cmp.Or(i.Email, known["PDS_CONTACT_EMAIL_ADDRESS"])
	i.SMTP, i.From = cmp.Or(i.SMTP, known["PDS_EMAIL_SMTP_URL"]), cmp.Or(i.From, known["PDS_EMAIL_FROM_ADDRESS"])
	if !given["data"] && known["PDS_DATA_DIRECTORY"] != "" {
		i.Data = known["PDS_DATA_DIRECTORY"]
	}
	if n, err := strconv.Atoi(known["PDS_PORT"]); err == nil && !given["port"] {
		i.Port = n
	}
	if path := i.knownBackups(); path != "" && !given["backups"] {
		i.Backups = path
	}
	if i.TLS == "" {
		i.TLS = i.knownTLS(known)
	}
	if len(known) > 0 && !given["network"] {
		i.Network = known["PDS_CRAWLERS"] != ""
	}
	if err := i.questions(); err != nil {
		return err
	}
	if i.Hostname == "" {
		return fmt.Errorf("%w: a server needs a name: -hostname pds.example.com", errUsage)
	}
	if err := i.Answers.Check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

// knownBackups is the folder of the backups that a unit file of before makes.
func (i *initiation) knownBackups() string {
	text, _ := os.ReadFile(filepath.Join(i.units, "pds-backup.service"))
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); strings.HasPrefix(line, "ExecStart=") && filepath.IsAbs(words[len(words)-1]) {
			return words[len(words)-1]
		}
	}
	return ""
}

// knownTLS is the way of TLS that a configuration has.
func (i *initiation) knownTLS(known map[string]string) string {
	switch {
	case known["PDS_BIND_ADDRESS"] == "0.0.0.0":
		return setup.Other
	case exists(filepath.Join(i.Config, "nginx.conf")):
		return setup.Nginx
	case known["PDS_BIND_ADDRESS"] != "":
		return setup.Caddy
	}
	return setup.ACME
}

// places fills in the folders: those of the system for root, else below the present one.
func (i *initiation) places() {
	at := func(p *string, root, own string) {
		if *p == "" && os.Geteuid() == 0 {
			*p = root
		}
		*p = absolute(cmp.Or(*p, own))
	}
	at(&i.Config, "/etc/pds", ".")
	at(&i.Data, "/var/lib/pds", "pds-data")
	at(&i.Backups, "/var/backups/pds", "pds-backups")
	units := filepath.Join(i.Config, "units") // for another machine, or for later
	if i.system {
		units = "/etc/systemd/system"
	}
	at(&i.units, units, units)
	if i.User == "" {
		i.User = "pds"
		if os.Geteuid() != 0 {
			i.User = cmp.Or(os.Getenv("USER"), "pds")
		}
	}
	i.system = i.system && i.units == "/etc/systemd/system"
	i.Program = "/usr/local/bin/pds"
	if exe, err := os.Executable(); err == nil && (!i.system || exe == packagedProgram) {
		i.Program = exe
	}
}

// Where a package puts the program and its unit files. An upgrade of the package must reach both: so they
// are not copied.
const (
	packagedProgram = "/usr/bin/pds"
	packagedUnits   = "/usr/lib/systemd/system"
)

// inPackage reports whether a unit file is one that the package has brought, and no other takes its place.
func (i *initiation) inPackage(f setup.File) bool {
	if !i.system || i.Program != packagedProgram || filepath.Dir(f.Path) != i.units || exists(f.Path) {
		return false
	}
	have, err := os.ReadFile(filepath.Join(packagedUnits, filepath.Base(f.Path)))
	return err == nil && setup.SameUnit(have, f.Text)
}

// questions asks what no flag has told.
func (i *initiation) questions() error {
	if !i.ask {
		return nil
	}
	for _, q := range []struct {
		text string
		to   *string
		keep bool
	}{
		{"The name of the server, such as pds.example.com", &i.Hostname, false},
		{"Who speaks TLS: acme (the server itself, on ports 443 and 80), caddy, nginx, other", &i.TLS, false},
		{"Your e-mail address, for certificates and for users", &i.Email, false},
		{"The mail server, such as smtps://user:password@smtp.example.com:465 (enter: none yet)", &i.SMTP, true},
		{"The handle of the first account, such as alice (enter: make an invite code instead)", &i.handle, false},
	} {
		shown := *q.to
		if q.keep && shown != "" {
			shown = "as it is" // it has a password
		}
		answer, err := i.prompt(q.text, shown)
		if err != nil {
			return err
		}
		if !q.keep || answer != shown {
			*q.to = answer
		}
	}
	i.Hostname = strings.ToLower(i.Hostname)
	if i.SMTP != "" && i.From == "" {
		from, err := i.prompt("The sender of mail", "pds@"+i.Hostname)
		if err != nil {
			return err
		}
		i.From = from
	}
	return nil
}

// examine looks whether the machine suits, and asks whether to go on if not.
func (i *initiation) examine(ctx context.Context, result *initResult) error {
	m := i.Machine
	m.Running = i.running(ctx)
	result.Report = doctor.Run(ctx, m.Checks(i.Answers))
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, f := range result.Report.Findings {
		i.say("%-8s %-8s %s", f.Level, f.Check, f.Text)
		if f.Remedy != "" {
			i.say("%-17s -> %s", "", f.Remedy)
		}
	}
	if result.Report.Level != doctor.Problem || !i.ask {
		return nil
	}
	if on, err := i.yes("There are problems. Go on all the same, and mend them later?", true); err != nil || !on {
		return errors.Join(err, errors.New("nothing was written"))
	}
	return nil
}

// write makes the folders and writes the files.
func (i *initiation) write(ctx context.Context, result *initResult) error {
	if i.system {
		if err := i.prepareSystem(ctx); err != nil {
			return err
		}
	}
	owner, err := ownerOf(i.User, i.system)
	if err != nil {
		return err
	}
	for _, dir := range []string{i.Data, i.Backups} {
		if err := durablefile.MkdirAll(dir); err != nil {
			return err
		}
		if err := owner(dir); err != nil {
			return err
		}
	}
	files, err := i.Files(i.units)
	if err != nil {
		return err
	}
	replace := func(f setup.File) (bool, error) {
		if i.overwrite || !i.ask {
			return i.overwrite, nil
		}
		return i.yes(f.Path+" is there, and differs. Replace it (the old one is kept as .old)?", false)
	}
	for _, f := range files {
		if i.inPackage(f) {
			result.Files[f.Path] = setup.Same
			continue
		}
		outcome, err := setup.Write(f, replace, owner)
		if err != nil {
			return err
		}
		if f.Secret { // one that came from elsewhere, as after a disaster, may be root's
			if err := owner(f.Path); err != nil {
				return err
			}
		}
		result.Files[f.Path] = outcome
		hint := ""
		if outcome == setup.Kept && !i.ask {
			hint = " (it differs; -overwrite replaces it)"
		}
		i.say("%-40s %s: %s%s", f.Path, f.About, outcome, hint)
	}
	return nil
}

// finish tells what there is now.
func (i *initiation) finish(r initResult) error {
	url := "https://" + i.Hostname
	r.Page, r.Admin, r.Password = url+"/account", url+"/admin", filepath.Join(i.Data, "secrets.json")
	if i.json {
		return i.writeJSON(r)
	}
	out := i.Stdout
	fmt.Fprintln(out)
	switch a := r.Account; {
	case a == nil:
	case a.Password != "":
		fmt.Fprintf(out, "account    %s (%s)\npassword   %s (shown only now)\n", a.Handle, a.DID, a.Password)
	case a.Invite != "":
		fmt.Fprintf(out, "invite     %s (good for one account, in any app that has %s as its provider)\n", a.Invite, url)
	}
	fmt.Fprintf(out, "page       %s\nadmin      %s, with the password in %s\nsettings   %s\n", r.Page, r.Admin, r.Password, i.EnvFile())
	i.next(out, r)
	return nil
}

// next says what is left to do.
func (i *initiation) next(out io.Writer, r initResult) {
	var steps []string
	if !i.system {
		steps = append(steps, fmt.Sprintf("%s serve -env-file %s", i.Program, i.EnvFile()))
	}
	switch i.TLS {
	case setup.Caddy:
		steps = append(steps, "install -m 644 "+filepath.Join(i.Config, "Caddyfile")+" /etc/caddy/Caddyfile && systemctl reload caddy")
	case setup.Nginx:
		steps = append(steps, "put the certificate where "+filepath.Join(i.Config, "nginx.conf")+" says, copy that file to /etc/nginx/conf.d/pds.conf, and: nginx -t && systemctl reload nginx")
	}
	if i.system && !r.Started {
		steps = append(steps, "systemctl daemon-reload && systemctl enable --now pds pds-backup.timer")
	}
	if r.Account == nil {
		steps = append(steps, fmt.Sprintf("%s account create EMAIL HANDLE -env-file %s", i.Program, i.EnvFile()))
	}
	if i.Network && i.TLS != setup.ACME { // what the server asks of relays now is too early: nothing answers yet
		steps = append(steps, fmt.Sprintf("%s request-crawl -env-file %s", i.asUser(), i.EnvFile()))
	}
	steps = append(steps, fmt.Sprintf("%s doctor -env-file %s", i.asUser(), i.EnvFile()))
	fmt.Fprintf(out, "\nNext:\n")
	for _, s := range steps {
		fmt.Fprintf(out, "  %s\n", s)
	}
}

// asUser is the program as the user that the server runs as starts it.
func (i *initiation) asUser() string {
	if i.system {
		return "runuser -u " + i.User + " -- " + i.Program
	}
	return i.Program
}

// exists reports whether a file is there, whoever may read it.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
