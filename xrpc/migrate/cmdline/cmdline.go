// Package cmdline is the command line of a migration (package migrate): its flags, questions and
// report, for programs that have a command for it.
package cmdline

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/xrpc/migrate"
)

// Environment variables for passwords.
const (
	OldPasswordVar = "PDS_MIGRATE_OLD_PASSWORD"
	NewPasswordVar = "PDS_MIGRATE_NEW_PASSWORD"
)

// Help describes the command, beyond its flags.
const Help = `It moves an account from its server to another one: records, blobs, preferences and identity.
ACCOUNT is its handle or DID, NEW-SERVER an address such as https://pds.example.com. Both servers
may run any PDS software.

It can be interrupted at any time: run the same command again to continue. It asks for passwords, or
takes them from the environment variables ` + OldPasswordVar + ` and
` + NewPasswordVar + `.`

// Command is a migration. Options has the values of the parsed flags; a program may set those
// without a flag.
type Command struct {
	migrate.Options
	keyFile string
	noInput bool
}

// IO has the input and output of a migration.
type IO struct {
	In             io.Reader
	Stdout, Stderr io.Writer
	// JSON writes the report as JSON, one line for each event.
	JSON bool
	// Env are environment variables, for passwords and PDS_DID_PLC_URL.
	Env map[string]string
}

// hints say by which flag, or other way, an option is given.
var hints = map[string]string{
	"OldHost": "See -old-server.", "Handle": "See -handle.", "Email": "See -email.", "InviteCode": "See -invite-code.",
	"Token": "See -token.", "RotationKey": "See -rotation-key.", "State": "See -state.", "MaxRepo": "See -max-repo.",
	"AllowMissingBlobs": "See -allow-missing-blobs.", "OldPassword": "See " + OldPasswordVar + ".", "NewPassword": "See " + NewPasswordVar + ".",
	"Ask": "Answer at a terminal: the code is needed at each login.",
}

// Register defines the flags.
func (c *Command) Register(flags *flag.FlagSet) {
	flags.StringVar(&c.OldHost, "old-server", "", "`address` of the old server (default: as the DID document says)")
	flags.StringVar(&c.Handle, "handle", "", "`handle` at the new server (default: the same, or the same name under its domain)")
	flags.StringVar(&c.Email, "email", "", "e-mail `address` at the new server (default: the same)")
	flags.StringVar(&c.InviteCode, "invite-code", "", "invite `code` of the new server")
	flags.StringVar(&c.Token, "token", "", "`code` from the mail of the old server that allows the change of the DID")
	flags.StringVar(&c.keyFile, "rotation-key", "", "`file` with a private rotation key of the DID, in hexadecimal (K-256; \"p256:\" before it for P-256); no code by mail is needed then")
	flags.Func("add-rotation-key", "`did:key` to add to the DID as the first rotation key (may be repeated)", func(s string) error {
		_, err := crypto.ParseDIDKey(s)
		c.AddRotationKeys = append(c.AddRotationKeys, s)
		return err
	})
	flags.StringVar(&c.State, "state", "", "state `file` (default: migrate-ACCOUNT.json)")
	flags.StringVar(&c.PLC, "plc", "", "`address` of the did:plc directory (default: PDS_DID_PLC_URL, or the public one)")
	flags.IntVar(&c.Concurrency, "concurrency", 4, "copy this `number` of blobs at the same time")
	flags.DurationVar(&c.Patience, "patience", 0, "wait this `time` for a server that does not answer (default: 2m; negative: not at all)")
	flags.Int64Var(&c.MaxRepo, "max-repo", migrate.DefaultMaxRepo, "most `bytes` of the repository")
	flags.Int64Var(&c.MaxBlob, "max-blob", migrate.DefaultMaxBlob, "most `bytes` of a blob")
	flags.BoolVar(&c.AllowMissingBlobs, "allow-missing-blobs", false, "continue without blobs that cannot be copied")
	flags.BoolVar(&c.noInput, "no-input", false, "ask nothing; a missing answer is an error")
}

// Run moves an account to a server, with the parsed flags. With JSON, errors are reported as JSON
// too.
func (c *Command) Run(ctx context.Context, io IO, account, newServer string) error {
	opt := c.Options
	opt.Account, opt.NewHost = account, newServer
	opt.OldPassword, opt.NewPassword = cmp.Or(opt.OldPassword, io.Env[OldPasswordVar]), cmp.Or(opt.NewPassword, io.Env[NewPasswordVar])
	if opt.PLC == "" {
		opt.PLC = io.Env["PDS_DID_PLC_URL"]
	}
	if opt.State == "" {
		opt.State = "migrate-" + strings.Map(func(r rune) rune {
			if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '-'
		}, opt.Account) + ".json"
	}
	if c.keyFile != "" {
		var err error
		if opt.RotationKey, err = readKey(c.keyFile); err != nil {
			return fmt.Errorf("%s: %w", c.keyFile, err)
		}
	}
	if !c.noInput && opt.Ask == nil {
		opt.Ask = (&terminal{in: io.In, out: io.Stderr}).ask
	}
	enc := json.NewEncoder(io.Stdout)
	opt.Report = func(e migrate.Event) { printEvent(io.Stdout, e) }
	if io.JSON {
		opt.Report = func(e migrate.Event) { enc.Encode(e) }
	}
	err := migrate.Run(ctx, opt)
	var known *migrate.Error
	if !errors.As(err, &known) {
		return err
	}
	known.Next = strings.TrimSpace(known.Next + " " + hints[known.Field])
	if io.JSON {
		enc.Encode(map[string]string{"step": known.Step, "status": "failed", "message": known.Err.Error(), "next": known.Next})
	}
	return err
}

// readKey reads a private key in hexadecimal.
func readKey(path string) (*crypto.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	alg := crypto.K256
	digits, p256 := strings.CutPrefix(strings.TrimSpace(string(text)), "p256:")
	if p256 {
		alg = crypto.P256
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return nil, errors.New("not a private key in hexadecimal")
	}
	return crypto.ParsePrivateKey(alg, raw)
}

// printEvent writes an event for people.
func printEvent(w io.Writer, e migrate.Event) {
	switch e.Status {
	case "started":
		if e.Step == "" {
			fmt.Fprintln(w, e.Message)
		}
	case "progress":
		fmt.Fprintf(w, "  %-12s %s%s\n", e.Step, amount(e), prefixed(", ", e.Message))
	case "done":
		fmt.Fprintf(w, "  %-12s done\n", e.Step)
	case "finished":
		fmt.Fprintln(w, "Finished. "+e.Message)
	default:
		fmt.Fprintf(w, "  %-12s %s: %s\n", e.Step, e.Status, e.Message)
	}
	if e.Document != nil {
		if text, err := json.MarshalIndent(e.Document, "", "  "); err == nil {
			fmt.Fprintf(w, "%s\n", text)
		}
	}
}

func amount(e migrate.Event) string {
	of := func(n int64) string {
		if e.Unit == "bytes" {
			return fmt.Sprintf("%.1f MB", float64(n)/1e6)
		}
		return fmt.Sprint(n)
	}
	if e.Total == 0 {
		return of(e.Done)
	}
	text := of(e.Done) + " of " + of(e.Total)
	if e.Unit != "bytes" {
		text += " " + e.Unit
	}
	return text
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// terminal asks a person.
type terminal struct {
	in    io.Reader
	out   io.Writer
	lines *bufio.Reader
}

func (t *terminal) ask(ctx context.Context, q migrate.Question) (string, error) {
	if t.lines == nil {
		t.lines = bufio.NewReader(t.in)
	}
	fmt.Fprintf(t.out, "%s: ", q.Text)
	if q.Secret && t.stty("-echo") {
		defer fmt.Fprintln(t.out)
		defer t.stty("echo")
	}
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := t.lines.ReadString('\n')
		got <- answer{strings.TrimRight(line, "\r\n"), err}
	}()
	select {
	case a := <-got:
		if a.line == "" {
			if a.err != nil {
				fmt.Fprintln(t.out) // nobody has pressed enter
			}
			return "", fmt.Errorf("%w: %s", migrate.ErrInput, q.Text)
		}
		return a.line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// stty sets whether the terminal shows what is typed, where there are such terminals.
func (t *terminal) stty(mode string) bool {
	f, ok := t.in.(*os.File)
	if !ok {
		return false
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	cmd := exec.Command("stty", mode)
	cmd.Stdin = f
	return cmd.Run() == nil
}
