package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// pds runs a command with an environment of its own.
func pds(t *testing.T, in string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, IO{Environ: []string{"PDS_DATA_DIRECTORY=" + t.TempDir()}, In: strings.NewReader(in), Stdout: &out, Stderr: &errs})
	return out.String(), errs.String(), code
}

func TestEveryCommandHasHelp(t *testing.T) {
	list, _, code := pds(t, "", "help")
	if code != ExitOK {
		t.Fatal(code)
	}
	for line := range strings.Lines(list) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > helpWidth {
			t.Errorf("a line is too long: %q", line)
		}
	}
	for _, cmd := range commands() {
		if !strings.Contains(list, "    "+cmd.name+" ") {
			t.Errorf("no %q in the list", cmd.name)
		}
		words := strings.Fields(cmd.name)
		about, _, code := pds(t, "", append([]string{"help"}, words...)...)
		flagged, _, code2 := pds(t, "", append(words, "-h")...)
		if code != ExitOK || code2 != ExitOK || about != flagged || !strings.HasPrefix(about, "Usage: pds "+cmd.name+" [flags]") || !strings.Contains(about, cmd.short) {
			t.Errorf("%s: %d, %d\n%s\n%s", cmd.name, code, code2, about, flagged)
		}
		if !strings.HasSuffix(cmd.short, ".") {
			t.Errorf("%s: %q", cmd.name, cmd.short)
		}
		for line := range strings.Lines(about) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > helpWidth {
				t.Errorf("%s: a line is too long: %q", cmd.name, line)
			}
		}
	}
	about, _, _ := pds(t, "", "invite", "create", "-h")
	if !strings.Contains(about, "how many codes to make (default: 1)\n") {
		t.Error(about)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
		part string
	}{
		{[]string{"version"}, ExitOK, ""},
		{[]string{"launch"}, ExitUsage, `no command "launch"`},
		{[]string{"account"}, ExitUsage, "followed by one of: list, info"},
		{[]string{"account", "launch"}, ExitUsage, "followed by one of"},
		{[]string{"help", "account", "launch"}, ExitUsage, "followed by one of"},
		{[]string{"help", "check", "more"}, ExitUsage, "no command"},
		{[]string{"version", "more"}, ExitUsage, "pds version"},
		{[]string{"version", "-env-file"}, ExitUsage, "needs an argument"},
		{[]string{"check"}, ExitFailed, "no server's data"},
		{[]string{"account", "create", "-password-stdin", "a@b.test", "a.test"}, ExitFailed, "no administrator's password"},
	} {
		if _, stderr, code := pds(t, "", tt.args...); code != tt.want || !strings.Contains(stderr, tt.part) {
			t.Errorf("pds %v: %d, want %d with %q: %s", tt.args, code, tt.want, tt.part, stderr)
		}
	}
}

func TestFlagsStandAnywhere(t *testing.T) {
	for _, tt := range []struct {
		args, want []string
		json       bool
		fails      bool
	}{
		{args: []string{"a", "-json", "b"}, want: []string{"a", "b"}, json: true},
		{args: []string{"-json", "a"}, want: []string{"a"}, json: true},
		{args: []string{"a", "--", "-json"}, want: []string{"a", "-json"}},
		{args: []string{"a", "-"}, want: []string{"a", "-"}},
		{args: []string{"a", "-other"}, fails: true},
		{},
	} {
		c := &call{FlagSet: flag.NewFlagSet("x", flag.ContinueOnError)}
		c.SetOutput(new(bytes.Buffer))
		c.BoolVar(&c.json, "json", false, "")
		err := c.parse(tt.args, false)
		if (err != nil) != tt.fails || err == nil && (!cmp.Equal(tt.want, c.args) || c.json != tt.json) {
			t.Errorf("%q: %q, %v, %v", tt.args, c.args, c.json, err)
		}
	}
}

func TestPassword(t *testing.T) {
	for in, want := range map[string]string{"secret\n": "secret", "secret\r\nmore": "secret", " two words \n": " two words ", "": "", "\n": ""} {
		c := &call{IO: IO{In: strings.NewReader(in)}}
		c.values.passwordStdin = true
		got, generated, err := c.password()
		if got != want || generated || (err != nil) != (want == "") || err != nil && !errors.Is(err, errUsage) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	one, generated, err := new(call).password()
	two, _, _ := new(call).password()
	if err != nil || !generated || len(one) < 20 || one == two {
		t.Errorf("%q, %q, %v", one, two, err)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, what: "blobs", next: time.Now().Add(time.Hour)}
	p.at(1)
	p.next = time.Time{}
	p.at(2)
	p.at(3) // too soon
	p.done()
	if got := out.String(); got != "blobs: 2\n" {
		t.Errorf("to a file: %q", got)
	}
	out.Reset()
	p = &progress{w: &out, what: "blobs", terminal: true}
	p.at(7)
	p.done()
	if got := out.String(); got != "\rblobs: 7 \n" {
		t.Errorf("on a terminal: %q", got)
	}
	quiet := &progress{}
	quiet.at(1)
	quiet.done()
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 10 << 10: "10 KiB", 10<<20 - 1: "10239 KiB", 25 << 20: "25 MiB", 12 << 30: "12 GiB"} {
		if got := bytes64(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
	if accountCount(1) != "1 account" || accountCount(0) != "0 accounts" {
		t.Error(accountCount(1), accountCount(0))
	}
}

// Ctrl-C ends a command.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var errs bytes.Buffer
	code := Run(ctx, []string{"health"}, IO{Stdout: &errs, Stderr: &errs, In: strings.NewReader("")})
	if code != ExitFailed || !strings.Contains(errs.String(), "canceled") {
		t.Errorf("%d: %s", code, &errs)
	}
}

// IDs of sessions are base64, and one in 64 begins with "-": it is no flag, wherever it stands. Flags
// of the command still are, and elsewhere what is no flag is a mistake.
func TestIDsThatLookLikeFlags(t *testing.T) {
	for _, tt := range []struct {
		args, want []string
		json       bool
	}{
		{[]string{"alice.test", "-nH3x", "--_a"}, []string{"alice.test", "-nH3x", "--_a"}, false},
		{[]string{"-nH3x", "-json", "x"}, []string{"-nH3x", "x"}, true},
		{[]string{"alice.test", "-json=true", "--", "-json"}, []string{"alice.test", "-json"}, true},
	} {
		c := &call{FlagSet: flag.NewFlagSet("", flag.ContinueOnError)}
		c.SetOutput(new(bytes.Buffer))
		c.BoolVar(&c.json, "json", false, "")
		err := c.parse(tt.args, true)
		if diff := cmp.Diff(tt.want, c.args); err != nil || diff != "" || c.json != tt.json {
			t.Errorf("%q: %v, -json %v\n%s", tt.args, err, c.json, diff)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		part string
	}{
		{[]string{"account", "sessions", "end", "alice.test", "-nH3x"}, ExitFailed, "no server's data"},
		{[]string{"account", "sessions", "end", "-h"}, ExitOK, ""},
		{[]string{"account", "sessions", "list", "alice.test", "-nH3x"}, ExitUsage, "not defined: -nH3x"},
		{[]string{"mail", "drop", "-al"}, ExitUsage, "not defined: -al"},
	} {
		if _, errs, code := pds(t, "", tt.args...); code != tt.code || !strings.Contains(errs, tt.part) {
			t.Errorf("%q: %d %s", tt.args, code, errs)
		}
	}
}
