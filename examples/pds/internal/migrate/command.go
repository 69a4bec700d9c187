package migrate

import (
	"bufio"
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
)

// Environment variables that passwords can be given by.
const (
	oldPasswordVar = "PDS_MIGRATE_OLD_PASSWORD"
	newPasswordVar = "PDS_MIGRATE_NEW_PASSWORD"
)

// Help is what "pds help migrate" says beyond the flags.
const Help = `Moves an account from the server where it is to another one, with everything in it.
ACCOUNT is its handle or DID, NEW-SERVER an address such as https://pds.example.com.
Both servers may be of any make.

It can be interrupted at any time: run the same command again to go on. Passwords
are asked for, or taken from the environment: ` + oldPasswordVar + ` and
` + newPasswordVar + `.`

// Command is the command line of a move: the options, and those that are only for a
// command line.
type Command struct {
	Options
	keyFile string
	noInput bool
}

// Register makes the flags.
func (c *Command) Register(flags *flag.FlagSet) {
	flags.StringVar(&c.OldHost, "old-server", "", "`address` of the old server (default: as the DID document says)")
	flags.StringVar(&c.Handle, "handle", "", "`handle` at the new server (default: the same, or the same name under its domain)")
	flags.StringVar(&c.Email, "email", "", "e-mail `address` at the new server (default: the same)")
	flags.StringVar(&c.InviteCode, "invite-code", "", "invite `code` of the new server")
	flags.StringVar(&c.Token, "token", "", "`token` that the old server sent by mail to allow the change of identity")
	flags.StringVar(&c.keyFile, "rotation-key", "", "`file` with a private rotation key of the DID, in hexadecimal (K-256; \"p256:\" before it for P-256): then no token is needed")
	flags.Func("add-rotation-key", "`did:key` that gets authority over the DID, before all others (may be repeated)", func(s string) error {
		_, err := crypto.ParseDIDKey(s)
		c.AddRotationKeys = append(c.AddRotationKeys, s)
		return err
	})
	flags.StringVar(&c.State, "state", "", "state `file` (default: migrate-ACCOUNT.json)")
	flags.StringVar(&c.PLC, "plc", "", "`address` of the did:plc directory (default: PDS_DID_PLC_URL, or the public one)")
	flags.IntVar(&c.Concurrency, "concurrency", 4, "how many blobs are copied at once")
	flags.DurationVar(&c.Patience, "patience", 0, "how long to wait for a server that is away (default 2m; negative: not at all)")
	flags.Int64Var(&c.MaxRepo, "max-repo", defaultMaxRepo, "`bytes` of the largest repository that is taken from the old server")
	flags.Int64Var(&c.MaxBlob, "max-blob", defaultMaxBlob, "`bytes` of the largest blob")
	flags.BoolVar(&c.AllowMissingBlobs, "allow-missing-blobs", false, "go on without blobs that cannot be copied")
	flags.BoolVar(&c.noInput, "no-input", false, "ask nothing; what is missing is an error")
}

// IO is what a Command is connected to.
type IO struct {
	Getenv func(string) string
	In     io.Reader // answers
	Out    io.Writer // progress, as lines of text or of JSON
	Err    io.Writer // questions
	JSON   bool
}

// Run runs a move with the flags as they were parsed. What goes wrong is also told as
// JSON, where that is wanted.
func (c *Command) Run(ctx context.Context, account, newHost string, with IO) error {
	opt := c.Options
	opt.Account, opt.NewHost = account, newHost
	opt.OldPassword, opt.NewPassword = with.Getenv(oldPasswordVar), with.Getenv(newPasswordVar)
	if opt.PLC == "" {
		opt.PLC = with.Getenv("PDS_DID_PLC_URL")
	}
	if opt.State == "" {
		opt.State = "migrate-" + strings.Map(func(r rune) rune {
			if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '-'
		}, account) + ".json"
	}
	if c.keyFile != "" {
		var err error
		if opt.RotationKey, err = readKey(c.keyFile); err != nil {
			return fmt.Errorf("%s: %w", c.keyFile, err)
		}
	}
	if !c.noInput {
		opt.Ask = (&terminal{in: with.In, out: with.Err}).ask
	}
	opt.Report = func(e Event) { printEvent(with.Out, e) }
	if with.JSON {
		enc := json.NewEncoder(with.Out)
		opt.Report = func(e Event) { enc.Encode(e) }
	}
	err := Run(ctx, opt)
	var known *Error
	if with.JSON && errors.As(err, &known) {
		json.NewEncoder(with.Out).Encode(map[string]string{"step": known.Step, "status": "failed", "message": known.Err.Error(), "next": known.Next})
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
func printEvent(w io.Writer, e Event) {
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

func amount(e Event) string {
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

func (t *terminal) ask(ctx context.Context, q Question) (string, error) {
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
			return "", &Error{Err: fmt.Errorf("%w: %s", ErrInput, q.Text), Next: "Run the same command again and answer."}
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
