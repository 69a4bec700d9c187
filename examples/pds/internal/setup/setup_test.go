package setup

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/deploy"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/xrpc/doctor"
)

type dns struct{}

func (dns) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
}

// The machine is looked at: ports, memory, and the rest.
func TestMachine(t *testing.T) {
	a := Answers{Hostname: "pds.site.test", TLS: ACME, Port: 2583, Data: filepath.Join(t.TempDir(), "not", "yet")}
	levels := func(m Machine) map[string]doctor.Level {
		m.DNS, m.Time = dns{}, []string{}
		r := doctor.Run(t.Context(), m.Checks(a))
		for _, f := range r.Findings {
			if (f.Level == doctor.Warning || f.Level == doctor.Problem) != (f.Remedy != "") {
				t.Errorf("%+v", f)
			}
		}
		return r.Levels()
	}
	fails := func(port string, err error) func(string) error {
		return func(address string) error {
			if strings.HasSuffix(address, ":"+port) {
				return err
			}
			return nil
		}
	}
	big := func() (int64, bool) { return 2 << 30, true }
	for name, tt := range map[string]struct {
		m    Machine
		of   string
		want doctor.Level
	}{
		"free":    {Machine{Listen: fails("0", nil)}, "ports", doctor.OK},
		"taken":   {Machine{Listen: fails("443", syscall.EADDRINUSE)}, "ports", doctor.Problem},
		"taken 2": {Machine{Listen: fails("80", syscall.EADDRINUSE)}, "ports", doctor.Problem},
		"behind":  {Machine{Listen: fails("2583", syscall.EADDRINUSE)}, "ports", doctor.OK}, // not with ACME
		"no root": {Machine{Listen: fails("443", syscall.EACCES)}, "ports", doctor.Skipped},
		"odd":     {Machine{Listen: fails("443", errors.New("odd"))}, "ports", doctor.Problem},
		"runs":    {Machine{Listen: fails("443", syscall.EADDRINUSE), Running: true}, "ports", doctor.OK},
		"small":   {Machine{Memory: func() (int64, bool) { return 512 << 20, true }}, "memory", doctor.Warning},
		"large":   {Machine{Memory: big}, "memory", doctor.OK},
		"unknown": {Machine{Memory: func() (int64, bool) { return 0, false }}, "memory", doctor.Skipped},
		"names":   {Machine{}, "dns", doctor.OK},
		"clock":   {Machine{}, "clock", doctor.Skipped},
	} {
		if got := levels(tt.m)[tt.of]; got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// A file gets its mode and owner before its name, is not replaced without leave, and is kept beside if it
// is.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "f")
	file := func(text string) File { return File{Path: path, Mode: 0o640, Text: []byte(text), Secret: true} }
	owned := 0
	own := func(p string) error {
		owned++
		if _, err := os.Stat(path); err == nil && owned == 1 {
			t.Error("the file has its name before its owner")
		}
		return nil
	}
	answer := false
	replace := func(File) (bool, error) { return answer, nil }
	for _, step := range []struct {
		text   string
		yes    bool
		want   Outcome
		is     string
		owners int
	}{{"one", false, Written, "one", 1}, {"one", true, Same, "one", 1}, {"two", false, Kept, "one", 1}, {"two", true, Replaced, "two", 2}} {
		answer = step.yes
		got, err := Write(file(step.text), replace, own)
		text, _ := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || got != step.want || string(text) != step.is || owned != step.owners || info.Mode().Perm() != 0o640 {
			t.Errorf("%+v: %s, %v, %q, %d owners, %v", step, got, err, text, owned, info.Mode())
		}
	}
	if old, _ := os.ReadFile(path + ".old"); string(old) != "one" {
		t.Errorf("%q", old)
	}
	failed := errors.New("no such user")
	other := File{Path: path + "2", Mode: 0o600, Text: []byte("x"), Secret: true}
	if _, err := Write(other, replace, func(string) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(path + "2*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A unit file of a package, with the group that the user has anyhow, is what the answers ask for; one for
// another folder is not.
func TestUnitOfAPackage(t *testing.T) {
	a := Answers{Hostname: "pds.site.test", TLS: ACME, Port: 2583, Data: "/var/lib/pds", Backups: "/var/backups/pds", Config: "/etc/pds", User: "pds", Program: "/usr/bin/pds"}
	packaged, err := deploy.Files.ReadFile("pds.service")
	if err != nil {
		t.Fatal(err)
	}
	packaged = bytes.ReplaceAll(packaged, []byte("/usr/local/bin/pds"), []byte("/usr/bin/pds")) // as the package is built
	same := func() bool {
		files, err := a.Files("/etc/systemd/system")
		if err != nil {
			t.Fatal(err)
		}
		return SameUnit(packaged, files[1].Text)
	}
	if !same() {
		t.Error("the units differ")
	}
	if a.Data = "/srv/pds"; same() {
		t.Error("another folder makes no difference")
	}
}

// A file with secrets is there to last: the server that begins with them keeps what needs them.
func TestFilesOutlastAPowerFailure(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("folders are not flushed there")
	}
	dir := t.TempDir()
	f := File{Path: filepath.Join(dir, "pds.env"), Mode: 0o600, Secret: true, Text: []byte("PDS_JWT_SECRET=x\n")}
	lasts := false
	watch := func(path string) {
		if _, err := os.Stat(f.Path); err == nil && path == dir {
			lasts = true
		}
	}
	durablefile.Watch.Store(&watch)
	defer durablefile.Watch.Store(nil)
	if outcome, err := Write(f, nil, nil); outcome != Written || err != nil {
		t.Fatal(outcome, err)
	}
	if !lasts {
		t.Error("the folder is not flushed once the file has its name")
	}
}
