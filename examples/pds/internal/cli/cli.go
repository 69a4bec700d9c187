// Package cli is the command line of the reference server.
//
// Commands are of two kinds. Those about accounts and invites call the methods
// of a running server with the administrator's password, so they can be used from
// elsewhere too. Those about data open the data directory; except rotate-keys, rotate-plc-key,
// resync and account import, they may do so while the server runs.
//
// Results go to standard output, as text or, with -json, as one JSON value; all else goes to
// standard error. Exit codes are ExitOK, ExitFailed, ExitUsage and ExitProblems.
package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/setup"
	"github.com/pdskit/pdskit/xrpc/migrate/cmdline"
)

// helpWidth is how many columns a line of the help has at most.
const helpWidth = 100

// Exit codes.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2 // of the command line, or a wrong configuration
	ExitProblems = 3 // check, doctor, backup, restore, export or import found some
)

// errUsage and errConfig are wrapped by errors that give ExitUsage, errProblems
// by those that give ExitProblems.
var (
	errUsage    = errors.New("wrong usage")
	errConfig   = errors.New("the configuration is wrong")
	errProblems = errors.New("there are problems")
)

// IO is what the command line is connected to.
type IO struct {
	Environ        []string
	In             io.Reader
	Stdout, Stderr io.Writer
	// Terminal says that somebody types what is read, whatever In is.
	Terminal bool
	// Machine is what "pds init" looks at. The zero value is this machine.
	Machine setup.Machine
}

// command is one command. Its name may be several words.
type command struct {
	name, args, short string
	long              string
	min, max          int // number of arguments; max -1: any
	// ids: arguments are IDs, which may begin with "-". What looks like a flag and is none is one.
	ids   bool
	flags func(c *call)
	run   func(ctx context.Context, c *call) error
}

// call is a command that is being run.
type call struct {
	IO
	*flag.FlagSet
	args    []string
	envFile string
	json    bool
	quiet   bool
	values  values
}

// commands are all there are, in the order of the help.
func commands() []command {
	return append([]command{
		{name: "serve", short: "Run the server. This is what pds does without a command.", run: serve},
		{name: "init", short: "Set up a server: checks, configuration, unit files, the first account.", long: initHelp, flags: registerInit, run: runInit},
		{name: "config", short: "Check the configuration, and show all settings except secrets.", run: showConfig},
		{name: "account list", short: "List the accounts.", flags: adminFlags, run: accountList},
		{name: "account info", args: "ACCOUNT", short: "Show what the server knows about an account.", min: 1, max: 1, flags: adminFlags, run: accountInfo},
		{name: "account create", args: "EMAIL HANDLE", short: "Create an account with a generated password, or with your own.", min: 2, max: 2, flags: passwordFlags, run: accountCreate},
		{name: "account takedown", args: "ACCOUNT", short: "Take an account down: it is hidden, and can do nothing.", min: 1, max: 1, flags: adminFlags, run: accountTakedown},
		{name: "account untakedown", args: "ACCOUNT", short: "Lift the takedown of an account.", min: 1, max: 1, flags: adminFlags, run: accountUntakedown},
		{name: "account reset-password", args: "ACCOUNT", short: "Set a new password for an account.", min: 1, max: 1, flags: passwordFlags, run: accountResetPassword},
		{name: "account update-email", args: "ACCOUNT EMAIL", short: "Change the e-mail address of an account.", min: 2, max: 2, flags: adminFlags, run: accountUpdateEmail},
		{name: "account update-handle", args: "ACCOUNT HANDLE", short: "Change the handle of an account.", min: 2, max: 2, flags: adminFlags, run: accountUpdateHandle},
		{name: "account factors", args: "ACCOUNT", short: "Show an account's second factors and passkeys, in JSON.", min: 1, max: 1, run: accountFactors(false)},
		{name: "account reset-factors", args: "ACCOUNT", short: "Remove an account's second factors, which its owner has lost.", min: 1, max: 1, run: accountFactors(true)},
		{name: "account sessions list", args: "ACCOUNT", short: "List where an account is signed in: browsers, and sessions of apps.", min: 1, max: 1, run: sessions(entries{list: listSessions}, false)},
		{name: "account sessions end", args: "ACCOUNT [ID...]", short: "End some of these sessions, or all of them.", min: 1, max: -1, ids: true, run: sessions(entries{list: listSessions}, true)},
		{name: "account export", args: "ACCOUNT FILE", short: "Copy an account into a file: records, blobs and preferences.", long: exportHelp, min: 2, max: 2, flags: exportFlags, run: accountExport},
		{name: "account import", args: "FILE", short: "Restore an account on this server from its export.", long: importHelp, min: 1, max: 1, flags: importFlags, run: accountImport},
		{name: "account delete", args: "ACCOUNT", short: "Delete an account and all its data. This cannot be undone.", min: 1, max: 1, flags: deleteFlags, run: accountDelete},
		{name: "oauth list", args: "ACCOUNT", short: "List the apps that may use an account, and what they may do.", min: 1, max: 1, run: sessions(entries{listApps, endApps}, false)},
		{name: "oauth revoke", args: "ACCOUNT [ID|CLIENT-ID...]", short: "End the sessions of some apps, or of all.", min: 1, max: -1, run: sessions(entries{listApps, endApps}, true)},
		{name: "invite create", short: "Make invite codes.", flags: inviteFlags, run: inviteCreate},
		{name: "invite list", short: "List the invite codes.", flags: adminFlags, run: inviteList},
		{name: "invite disable", args: "CODE...", short: "Disable invite codes.", min: 1, max: -1, flags: adminFlags, run: inviteDisable},
		{name: "nodes", short: "List the servers that share the database, and what each of them leads.", run: nodes},
		{name: "health", short: "Ask the running server for its health.", long: healthHelp, flags: healthFlags, run: health},
		{name: "doctor", short: "Check the server from outside and inside: what is wrong, and what to do.", long: doctorHelp, flags: doctorFlags, run: runDoctor},
		{name: "mail-test", args: "ADDRESS", short: "Send a test message.", min: 1, max: 1, run: mailTest},
		{name: "mail list", short: "List the messages that wait, and those that were given up.", long: mailHelp, run: mailList},
		{name: "mail retry", args: "[ID...]", short: "Send waiting and given-up messages at once.", long: mailHelp, max: -1, flags: allFlag, run: mailDo("To be tried again", retryMail)},
		{name: "mail drop", args: "[ID...]", short: "Delete waiting and given-up messages.", long: mailHelp, max: -1, flags: allFlag, run: mailDo("Deleted", dropMail)},
		{name: "backup", args: "DIRECTORY|s3://BUCKET/PREFIX", short: "Back up everything, while the server runs.", long: backupHelp, min: 1, max: 1, flags: backupFlags, run: runBackup},
		{name: "restore", args: "BACKUP", short: "Restore a backup into an empty data directory.", long: restoreHelp, min: 1, max: 1, flags: restoreFlags, run: restore},
		{name: "verify-backup", args: "BACKUP", short: "Check a backup: restore it into a temporary folder, and read everything.", long: verifyHelp, min: 1, max: 1, flags: verifyFlags, run: verifyBackupCommand},
		{name: "check", args: "[ACCOUNT...]", short: "Read all data and report what is wrong, while the server runs.", long: checkHelp, max: -1, flags: checkFlags, run: runCheck},
		{name: "resync", args: "[ACCOUNT...]", short: "Sign repositories again, and announce them to the network.", long: resyncHelp, max: -1, flags: resyncFlags, run: resync},
		{name: "rotate-keys", short: "Replace the master key that encrypts the accounts' signing keys.", long: rotateHelp, run: rotateKeys},
		{name: "rotate-plc-key", short: "Replace the rotation key of the accounts' DIDs.", long: plcKeyHelp, run: rotatePLCKey},
		{name: "migrate", args: "ACCOUNT NEW-SERVER", short: "Move an account from any server to any other.", long: cmdline.Help, min: 2, max: 2, flags: migrateFlags, run: runMigrate},
		{name: "migrate-storage", short: "Move all data to another database or blob store, while the server runs.", long: storageHelp, flags: storageFlags, run: migrateStorage},
		{name: "move-blobs", args: "DIRECTORY", short: "Move the blobs to another folder, such as one on another disk.", long: moveBlobsHelp, min: 1, max: 1, run: moveBlobs},
		{name: "request-crawl", args: "[RELAY...]", short: "Ask relays to read this server, or what they know about it.", long: crawlHelp, max: -1, flags: crawlFlags, run: requestCrawl},
		{name: "jetstream train", args: "FILE", short: "Make a zstd dictionary for the JSON stream from this server's events.", long: trainHelp, min: 1, max: 1, flags: trainFlags, run: trainDictionary},
		{name: "version", short: "Show the version.", run: version},
	}, workerCommands()...)
}

// Run runs a command and returns the exit code.
func Run(ctx context.Context, args []string, io IO) int {
	err := run(ctx, args, io)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, flag.ErrHelp):
		return ExitOK
	}
	fmt.Fprintf(io.Stderr, "pds: %s\n", inWords(err))
	switch {
	case errors.Is(err, errUsage), errors.Is(err, errConfig), errors.Is(err, datadir.ErrForeign):
		return ExitUsage
	case errors.Is(err, errProblems):
		return ExitProblems
	}
	return ExitFailed
}

func run(ctx context.Context, args []string, io IO) error {
	if len(args) > 0 && (args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		return help(io.Stdout, args[1:])
	}
	cmd, rest, err := find(args)
	if err != nil {
		return err
	}
	c := &call{IO: io, FlagSet: flag.NewFlagSet(cmd.name, flag.ContinueOnError)}
	c.SetOutput(new(bytes.Buffer)) // the package's own words are not for people
	c.StringVar(&c.envFile, "env-file", "", "read variables from this `file`, besides the environment (default: PDS_ENV_FILE, or pds.env if it exists)")
	c.BoolVar(&c.json, "json", false, "write the result as JSON")
	c.BoolVar(&c.quiet, "quiet", false, "do not show progress")
	if cmd.flags != nil {
		cmd.flags(c)
	}
	if err := c.parse(rest, cmd.ids); errors.Is(err, flag.ErrHelp) {
		describe(io.Stdout, cmd, c.FlagSet)
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w (try: pds help %s)", errUsage, err, cmd.name)
	}
	if n := len(c.args); n < cmd.min || cmd.max >= 0 && n > cmd.max {
		return fmt.Errorf("%w: pds %s %s", errUsage, cmd.name, cmd.args)
	}
	return cmd.run(ctx, c)
}

type commandList []command

func (l commandList) write(w io.Writer) {
	for _, cmd := range l {
		fmt.Fprintf(w, "    %-24s%s\n", cmd.name, cmd.short)
	}
}

// group returns the commands of two words of which the first is given.
func group(word string) (list commandList) {
	for _, cmd := range commands() {
		if strings.HasPrefix(cmd.name, word+" ") {
			list = append(list, cmd)
		}
	}
	return list
}

// find finds the command that the arguments begin with.
func find(args []string) (command, []string, error) {
	all := commands()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return all[0], args, nil
	}
	for _, cmd := range all {
		words := strings.Fields(cmd.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == cmd.name {
			return cmd, args[len(words):], nil
		}
	}
	if list := group(args[0]); list != nil {
		var names []string
		for _, cmd := range list {
			names = append(names, strings.TrimPrefix(cmd.name, args[0]+" "))
		}
		return command{}, nil, fmt.Errorf("%w: pds %s is followed by one of: %s", errUsage, args[0], strings.Join(names, ", "))
	}
	return command{}, nil, fmt.Errorf("%w: there is no command %q (try: pds help)", errUsage, args[0])
}

// parse lets flags stand before and after arguments. With ids, what begins with "-" and is no flag is
// an argument.
func (c *call) parse(args []string, ids bool) error {
	for {
		if ids && len(args) > 0 && c.notFlag(args[0]) {
			c.args = append(c.args, args[0])
			args = args[1:]
			continue
		}
		if err := c.Parse(args); err != nil {
			return err
		}
		rest := c.FlagSet.Args()
		if len(rest) == 0 {
			return nil
		}
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			c.args = append(c.args, rest...)
			return nil
		}
		c.args = append(c.args, rest[0])
		args = rest[1:]
	}
}

// notFlag reports whether an argument that begins with "-" is no flag of the command.
func (c *call) notFlag(arg string) bool {
	name, ok := strings.CutPrefix(arg, "-")
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
	return ok && arg != "--" && name != "h" && name != "help" && c.Lookup(name) == nil
}

// config loads the configuration.
func (c *call) config() (*config.Config, error) {
	cfg, _, err := c.load()
	return cfg, err
}

func (c *call) load() (cfg *config.Config, file string, err error) {
	env, file, err := config.Environment(c.Environ, c.envFile)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errConfig, err)
	}
	cfg, err = config.Load(env)
	if err != nil {
		return nil, "", fmt.Errorf("%w:\n%w", errConfig, err)
	}
	if cfg.EnvFile = file; file != "" {
		if w := config.FileWarning(file); w != "" {
			cfg.Warnings = append(cfg.Warnings, w)
		}
	}
	return cfg, file, nil
}

func help(w io.Writer, args []string) error {
	if len(args) == 1 {
		if list := group(args[0]); list != nil {
			fmt.Fprintf(w, "Usage: pds %s COMMAND\n\n", args[0])
			list.write(w)
			fmt.Fprintf(w, "\nMore: pds help %s COMMAND\n", args[0])
			return nil
		}
	}
	if len(args) > 0 {
		cmd, rest, err := find(args)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return fmt.Errorf("%w: there is no command %q", errUsage, strings.Join(args, " "))
		}
		c := &call{FlagSet: flag.NewFlagSet(cmd.name, flag.ContinueOnError)}
		if cmd.flags != nil {
			cmd.flags(c)
		}
		describe(w, cmd, c.FlagSet)
		return nil
	}
	fmt.Fprint(w, "pds is an AT Protocol Personal Data Server.\n\nUsage:\n\n    pds [command] [flags] [arguments]\n\nCommands:\n\n")
	commandList(commands()).write(w)
	fmt.Fprint(w, `
Flags of all commands:

    -env-file FILE          read variables from a file, besides the environment
                            (default: PDS_ENV_FILE, or pds.env if it exists)
    -json                   write the result as JSON
    -quiet                  do not show progress

The exit code is 0 for success, 1 for a failure, 2 for a wrong command line or configuration, and 3
if check, doctor, backup, restore, export or import found problems. More: pds help COMMAND
`)
	return nil
}

// describe writes the help of a command.
func describe(w io.Writer, cmd command, flags *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: pds %s\n\n%s\n", strings.TrimSpace(cmd.name+" [flags] "+cmd.args), cmd.short)
	if cmd.long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(cmd.long))
	}
	first := true
	flags.VisitAll(func(f *flag.Flag) {
		if f.Name == "json" || f.Name == "quiet" || f.Name == "env-file" {
			return
		}
		if first {
			fmt.Fprint(w, "\nFlags:\n\n")
			first = false
		}
		kind, usage := flag.UnquoteUsage(f)
		if n, err := strconv.ParseFloat(f.DefValue, 64); err == nil && n != 0 && !strings.Contains(usage, "(default") {
			usage += " (default: " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "    -%-26s  %s\n", strings.TrimSpace(f.Name+" "+kind), wrapped(usage, 33))
	})
}

// wrapped breaks a text into lines that fit beside an indentation of so many columns.
func wrapped(text string, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		switch n := utf8.RuneCountInString(word); {
		case i == 0:
			column += n
		case column+1+n > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent + n
		default:
			b.WriteByte(' ')
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}
