package mail

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/testenv"
)

func TestFileSink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.jsonl")
	s, err := New(Config{URL: "smtp://ignored.test", File: path})
	if err != nil {
		t.Fatal(err)
	}
	want := []Message{{"one", "a@b.test", "One", "Zeile\nzwei ü"}, {"", "c@d.test", "Two", ""}}
	for _, m := range want {
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []Message
	for l := range strings.Lines(string(text)) {
		var x line
		if err := json.Unmarshal([]byte(l), &x); err != nil {
			t.Fatal(err)
		}
		got = append(got, x.Message)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: tokens are readable by others", info.Mode())
	}
}

func TestLogSink(t *testing.T) {
	var out bytes.Buffer
	s, err := New(Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), Message{"", "a@b.test", "Hello", "token ABCDE-FGHIJ"}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"a@b.test", "Hello", "ABCDE-FGHIJ"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in the log: %s", part, &out)
		}
	}
	silent, _ := New(Config{})
	if err := silent.Send(t.Context(), Message{To: "a@b.test"}); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct{ url, from string }{
		"scheme":         {"http://mail.test", "a@b.test"},
		"no host":        {"smtp://", "a@b.test"},
		"malformed":      {"smtp://user:pa%ss@mail.test", "a@b.test"},
		"no sender":      {"smtp://mail.test", ""},
		"sender newline": {"smtp://mail.test", "a@b.test\r\nBcc: c@d.test"},
	} {
		_, err := New(Config{URL: c.url, From: c.from})
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "pa%ss") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}

// hostileAddresses try to add a header, a recipient or an option.
var hostileAddresses = []string{
	"", "a", "a@b.test\r\nBcc: x@y.test", "a@b.test\nRCPT TO:<x@y.test>", "a@b.test,x@y.test", "Name <a@b.test>",
	"<a@b.test>", "a@b.test> SIZE=1", "a@b.test\x00", " a@b.test", strings.Repeat("a", 250) + "@b.test",
}

func TestHostileAddressesAreRefused(t *testing.T) {
	logs, _ := New(Config{})
	files, _ := New(Config{File: filepath.Join(t.TempDir(), "f")})
	smtps, _ := New(Config{URL: "smtp://127.0.0.1:1", From: "a@b.test"})
	program, _ := New(Config{URL: "smtp:///?sendmail=true", From: "a@b.test"})
	for _, to := range hostileAddresses {
		for _, s := range []Sender{logs, files, smtps, program} {
			if err := s.Send(t.Context(), Message{To: to}); !errors.Is(err, ErrAddress) {
				t.Errorf("%T to %q: %v", s, to, err)
			}
		}
	}
}

func TestSendmail(t *testing.T) {
	testenv.NotOnJS(t, "programs cannot be started")
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" > " + dir + "/args\ncat > " + dir + "/text\n"
	if err := os.WriteFile(filepath.Join(dir, "sendmail"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	s, err := New(Config{URL: "smtp:///?sendmail=true", From: "PDS <pds@b.test>"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), Message{"", "a@b.test", "Hi", "text"}); err != nil {
		t.Fatal(err)
	}
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	text, _ := os.ReadFile(filepath.Join(dir, "text"))
	if string(args) != "-i -f pds@b.test -- a@b.test\n" {
		t.Errorf("arguments %q", args)
	}
	if !strings.Contains(string(text), "Subject: Hi\n") || strings.Contains(string(text), "\r") {
		t.Errorf("text %q", text)
	}
}
