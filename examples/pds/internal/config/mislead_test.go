package config

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Settings that are valid and probably not meant are warned about, and those that are meant are not.
func TestMisleading(t *testing.T) {
	mine := []string{"PDS_HOSTNAME=pds.site.test", "PDS_EMAIL_SMTP_URL=smtp://mail", "PDS_EMAIL_FROM_ADDRESS=a@b.test"}
	local := "PDS_BIND_ADDRESS=127.0.0.1"
	for _, tt := range []struct {
		name string
		env  []string
		want string // a part of the one warning; empty: there is none
	}{
		{"behind a proxy", []string{local}, ""},
		{"meant for all networks", []string{"PDS_BIND_ADDRESS=0.0.0.0"}, ""},
		{"plain HTTP for all", nil, "PDS_BIND_ADDRESS is not set: plain HTTP on port 2583"},
		{"ACME", []string{"PDS_TLS_ACME=true"}, ""},
		{"a port that was left", []string{"PDS_TLS_ACME=true", "PDS_PORT=2583"}, "PDS_PORT=2583 with PDS_TLS_ACME"},
		{"a challenge port that was left", []string{"PDS_TLS_ACME=true", "PDS_HTTP_PORT=8080"}, "PDS_HTTP_PORT=8080"},
		{"no challenge port", []string{"PDS_TLS_ACME=true", "PDS_HTTP_PORT=-1"}, ""},
		{"an address that was left", []string{"PDS_TLS_ACME=true", local}, "nobody outside this machine"},
		{"the example's name", []string{local, "PDS_HOSTNAME=pds.example.com"}, "PDS_HOSTNAME still has the name of the example"},
		{"the example's mail server", []string{local, "PDS_EMAIL_SMTP_URL=smtps://user:password@smtp.example.com"}, "PDS_EMAIL_SMTP_URL still"},
		{"the example's sender", []string{local, `PDS_EMAIL_FROM_ADDRESS=The PDS <pds@example.com>`}, "PDS_EMAIL_FROM_ADDRESS still"},
		{"the example's contact", []string{local, "PDS_CONTACT_EMAIL_ADDRESS=admin@example.com"}, "PDS_CONTACT_EMAIL_ADDRESS still"},
		{"the example's ACME account", []string{"PDS_TLS_ACME=true", "PDS_ACME_EMAIL=admin@example.com"}, "PDS_ACME_EMAIL still"},
		{"another name", []string{local, "PDS_SERVICE_DID=did:web:old.site.test"}, "PDS_SERVICE_DID=did:web:old.site.test is another name"},
		{"metrics for all", []string{local, "PDS_METRICS_ADDRESS=:9999"}, "metrics and profiles are open to all networks"},
		{"the port of Prometheus", []string{local, "PDS_METRICS_ADDRESS=127.0.0.1:9090"}, "9090 is the port of Prometheus itself"},
		{"metrics", []string{local, "PDS_METRICS_ADDRESS=127.0.0.1:9999"}, ""},
		{"development for others", []string{"PDS_HOSTNAME=", "PDS_BIND_ADDRESS=0.0.0.0"}, "development server"},
		{"development", []string{"PDS_HOSTNAME="}, ""},
		{"development with a name", []string{local, "PDS_DEV_MODE=true"}, "PDS_DEV_MODE is on with the name pds.site.test"},
	} {
		got := load(t, slices.Concat(mine, tt.env)...).Warnings
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A file with secrets is for its owner and group only.
func TestFileModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes")
	}
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{"PDS_ADMIN_PASSWORD=x", 0o600, ""},
		{"PDS_ADMIN_PASSWORD=x", 0o640, ""},
		{"PDS_ADMIN_PASSWORD=x", 0o644, "everybody on this machine, and has PDS_ADMIN_PASSWORD"},
		{"PDS_EMAIL_SMTP_URL=smtps://a:b@mail", 0o644, "PDS_EMAIL_SMTP_URL"},
		{"PDS_EMAIL_SMTP_URL=smtp://mail", 0o644, ""},
		{"PDS_HOSTNAME=pds.site.test", 0o644, ""},
		{"PDS_HOSTNAME=pds.site.test", 0o666, "can be changed by other users"},
	} {
		file := filepath.Join(t.TempDir(), "pds.env")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		if got := FileWarning(file); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%q, mode %o: %q, want %q", tt.text, tt.mode, got, tt.want)
		}
	}
	if got := FileWarning("missing.env"); got != "" {
		t.Error(got)
	}
}
