package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/storage/s3"
)

func load(t *testing.T, env ...string) *Config {
	t.Helper()
	c, err := Load(vars(env...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// vars makes an environment of NAME=VALUE.
func vars(env ...string) map[string]string {
	m := make(map[string]string)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		m[name] = value
	}
	return m
}

func TestDefaults(t *testing.T) {
	c := load(t)
	if !c.DevMode || c.Hostname != "localhost" || c.Port != 2583 || c.Bind != "localhost" || c.InviteRequired || c.Limits.Enabled ||
		c.PLC != "" || c.PublicURL(80) != "http://localhost:80" || !slices.Equal(c.HandleDomains, []string{".test"}) || !c.AllowPrivateAddresses {
		t.Errorf("for development: %+v", c)
	}
	c = load(t, "PDS_HOSTNAME=PDS.Site.test", "PDS_TLS_ACME=true", "PDS_EMAIL_SMTP_URL=smtp://mail", "PDS_EMAIL_FROM_ADDRESS=a@b.test")
	if c.DevMode || c.Hostname != "pds.site.test" || c.Bind != "" || !c.InviteRequired || !c.Limits.Enabled || c.PLC != "https://plc.directory" ||
		c.ServiceDID != "did:web:pds.site.test" || c.PublicURL(80) != "https://pds.site.test" || c.HandleDomains[0] != ".pds.site.test" ||
		c.AllowPrivateAddresses || !c.AcceptImports || c.Backfill != 72*time.Hour {
		t.Errorf("for production: %+v", c)
	}
	if c.Warnings != nil {
		t.Errorf("warnings %q", c.Warnings)
	}
	if c = load(t, "PDS_HOSTNAME=pds.example.com", "PDS_TLS_ACME=true"); c.Port != 443 || c.TLS.HTTPPort != 80 {
		t.Errorf("with ACME: %+v", c)
	}
}

// An environment as the official distribution's installer writes it works.
func TestOfficialEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pds.env")
	text := `PDS_HOSTNAME=pds.site.test
PDS_JWT_SECRET=0123456789abcdef0123456789abcdef
PDS_ADMIN_PASSWORD=fedcba9876543210fedcba9876543210
PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1111111111111111111111111111111111111111111111111111111111111111
PDS_DATA_DIRECTORY=/pds
PDS_BLOBSTORE_DISK_LOCATION=/pds/blocks
PDS_BLOB_UPLOAD_LIMIT=104857600
PDS_DID_PLC_URL=https://plc.directory
PDS_BSKY_APP_VIEW_URL=https://api.bsky.app
PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app
PDS_REPORT_SERVICE_URL=https://mod.bsky.app
PDS_REPORT_SERVICE_DID=did:plc:ar7c4by46qjdydhdevvrndac
PDS_CRAWLERS=https://bsky.network
LOG_ENABLED=true
PDS_EMAIL_SMTP_URL=smtps://user:p%40ss@smtp.site.test:465/
PDS_EMAIL_FROM_ADDRESS=admin@site.test
PDS_RATE_LIMITS_ENABLED=true
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env, read, err := Environment([]string{"HOME=/root", "PDS_PORT=3000", "PDS_BIND_ADDRESS=127.0.0.1", "PDS_BLOB_UPLOAD_LIMIT=1"}, file)
	if err != nil || read != file {
		t.Fatal(read, err)
	}
	c, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	if c.Warnings != nil {
		t.Errorf("warnings %q", c.Warnings)
	}
	if c.Port != 3000 || c.BlobLimit != 1 {
		t.Error("the process's own environment does not count first")
	}
	if c.Proxy.AppView != (Service{"https://api.bsky.app", "did:web:api.bsky.app"}) || c.BlobDirectory != "/pds/blocks" || c.Crawlers[0] != "https://bsky.network" {
		t.Errorf("%+v", c)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	bad := []string{
		"PDS_HOSTNAME=https://pds.example.com", "PDS_PORT=70000", "PDS_SERVICE_DID=me", "PDS_SERVICE_HANDLE_DOMAINS=example.com,.ok.test",
		"PDS_DID_PLC_URL=plc.directory", "PDS_DEV_MODE=perhaps", "PDS_INVITE_INTERVAL=often", "PDS_BLOB_UPLOAD_LIMIT=0",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=secretkey", "PDS_RECOVERY_DID_KEY=did:key:x", "PDS_MASTER_KEY=abc",
		"PDS_EMAIL_SMTP_URL=http://user:topsecret@mail", "PDS_MODERATION_EMAIL_ADDRESS=me", "PDS_BSKY_APP_VIEW_URL=https://api.example.com",
		"PDS_MOD_SERVICE_DID=did:web:mod.example.com", "PDS_RATE_LIMIT_BYPASS_IPS=10.0.0.0/8,ten", "PDS_CRAWLERS=relay", "PDS_METRICS_ADDRESS=9090",
		"PDS_LOG_LEVEL=loud", "PDS_LOG_FORMAT=xml", "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=https://cdn/%s", "PDS_ENTRYWAY_URL=https://e", "PDS_PLC_ROTATION_KEY_KMS_KEY_ID=k",
		"PDS_ACCEPTING_REPO_IMPORTS=2", "PDS_HTTP_PORT=-2", "PDS_ACME_DIRECTORY_URL=x", "PDS_TRUSTED_PROXIES=proxy",
	}
	_, err := Load(vars(bad...))
	if err == nil {
		t.Fatal("no error")
	}
	for _, e := range bad {
		name, value, _ := strings.Cut(e, "=")
		if name == "PDS_BSKY_APP_VIEW_URL" {
			name = "PDS_BSKY_APP_VIEW_DID" // that is the one to add
		}
		if name == "PDS_MOD_SERVICE_DID" {
			name = "PDS_MOD_SERVICE_URL"
		}
		if name == "PDS_EMAIL_SMTP_URL" {
			value = "topsecret"
		}
		if !strings.Contains(err.Error(), name+": ") {
			t.Errorf("nothing about %s", e)
		}
		if (strings.Contains(name, "KEY") && strings.Contains(name, "HEX") || value == "topsecret") && strings.Contains(err.Error(), value) {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
	if n := len(strings.Split(err.Error(), "\n")); n != len(bad)+1 { // the mail server needs a sender too
		t.Errorf("%d problems, want %d:\n%v", n, len(bad)+1, err)
	}
}

func TestS3(t *testing.T) {
	if c := load(t); c.S3 != (s3.Config{}) || c.KeepDeleted != 7*24*time.Hour {
		t.Errorf("%+v", c.S3)
	}
	c := load(t, "PDS_BLOBSTORE_S3_BUCKET=b", "PDS_BLOBSTORE_S3_REGION=auto", "PDS_BLOBSTORE_S3_ENDPOINT=https://s3.example.com", "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true",
		"PDS_BLOBSTORE_S3_ACCESS_KEY_ID=id", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=topsecret", "PDS_BLOBSTORE_S3_UPLOAD_TIMEOUT_MS=20000",
		"PDS_BLOBSTORE_S3_REQUEST_TIMEOUT_MS=3000", "PDS_BLOBSTORE_S3_KEEP_DELETED_MS=0")
	want := s3.Config{
		Bucket: "b", Region: "auto", Endpoint: "https://s3.example.com", ForcePathStyle: true, AccessKeyID: "id", SecretAccessKey: "topsecret",
		UploadTimeout: 20 * time.Second, StallTimeout: 3 * time.Second,
	}
	if c.S3 != want || c.KeepDeleted != 0 {
		t.Errorf("%+v, deleted blobs for %s", c.S3, c.KeepDeleted)
	}
}

func TestWarnings(t *testing.T) {
	c := load(t, "PDS_HOSTNAME=pds.site.test", "PDS_BIND_ADDRESS=127.0.0.1", "PDS_HOSTNAMES=x", "PDS_SOMETHING_ELSE_ALTOGETHER=1", "PDS_MAX_SUBSCRIPTION_BUFFER=1",
		"PDS_EMPTY=", "OTHER=1", "PDS_ENV_FILE=f")
	want := []string{
		"PDS_EMAIL_SMTP_URL is not set: mail is written to the log and sent to nobody",
		"PDS_HOSTNAMES is not known: did you mean PDS_HOSTNAME?",
		"PDS_MAX_SUBSCRIPTION_BUFFER has no effect: subscribers share one window and have no buffers",
		"PDS_SOMETHING_ELSE_ALTOGETHER is not known",
	}
	if d := cmp.Diff(want, c.Warnings); d != "" {
		t.Error(d)
	}
}

func TestNetworks(t *testing.T) {
	c := load(t, "PDS_RATE_LIMIT_BYPASS_IPS=192.0.2.7, 198.51.100.9/24,::ffff:203.0.113.1,2001:db8::/32")
	want := []netip.Prefix{
		netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("2001:db8::/32"),
	}
	if !slices.Equal(c.Limits.Bypass, want) {
		t.Errorf("%v", c.Limits.Bypass)
	}
	if got := len(c.Limits.TrustedProxies); got != 8+4 {
		t.Errorf("%d trusted networks", got)
	}
	if c = load(t, "PDS_TRUSTED_PROXIES=192.0.2.1"); len(c.Limits.TrustedProxies) != 1 {
		t.Errorf("%v", c.Limits.TrustedProxies)
	}
}

func TestLogLevels(t *testing.T) {
	for env, want := range map[string]slog.Level{
		"LOG_LEVEL=debug": slog.LevelDebug, "LOG_LEVEL=trace": slog.LevelDebug, "PDS_LOG_LEVEL=warn": slog.LevelWarn, "LOG_LEVEL=fatal": slog.LevelError,
		"LOG_ENABLED=false": LogOff, "PDS_LOG_LEVEL=off": LogOff, "LOG_ENABLED=true": slog.LevelInfo,
	} {
		if got := load(t, env).Log.Level; got != want {
			t.Errorf("%s: %v", env, got)
		}
	}
	if got := load(t, "LOG_LEVEL=debug", "PDS_LOG_LEVEL=error").Log.Level; got != slog.LevelError {
		t.Errorf("both: %v", got)
	}
	if !load(t, "PDS_LOG_FORMAT=JSON").Log.JSON {
		t.Error("no JSON")
	}
}

func TestParseEnv(t *testing.T) {
	got, err := parseEnv("\ufeff# comment\r\nA=1\r\n export B = two words # comment\nC='single $x # no'\nD=\"a\\nb \\\"q\\\" \\$ \\\\ \\x\" # c\nE=\n\nF=a#b\nG=\"\"\nH=x=y\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "1", "B": "two words", "C": "single $x # no", "D": "a\nb \"q\" $ \\ \\x", "E": "", "F": "a#b", "G": "", "H": "x=y"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	_, err = parseEnv("A\n=1\n1A=2\nB='x\nC=\"x\nD='a'b\nok=1\n")
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"line 1 ", "line 2 ", "line 3 ", "line 4: B: a quote", "line 5: C: a quote", "line 6: D: text after"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in:\n%v", part, err)
		}
	}
}

func TestEnvironmentFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, file, err := Environment(nil, ""); err != nil || file != "" {
		t.Errorf("without a file: %q, %v", file, err)
	}
	if _, _, err := Environment(nil, "missing.env"); err == nil {
		t.Error("a named file that is missing is no error")
	}
	if _, _, err := Environment([]string{"PDS_ENV_FILE=missing.env"}, ""); err == nil {
		t.Error("a file that is missing is no error")
	}
	if err := os.WriteFile("pds.env", []byte("A=b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if env, file, err := Environment(nil, ""); err != nil || file != "pds.env" || env["A"] != "b" {
		t.Errorf("%v, %q, %v", env, file, err)
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add("A=1\nB='2'\nC=\"3\\n\" # x\n")
	f.Fuzz(func(t *testing.T, text string) {
		vars, err := parseEnv(text)
		for name := range vars {
			if !isName(name) {
				t.Errorf("name %q", name)
			}
		}
		if err == nil && !strings.Contains(text, "=") && len(vars) > 0 {
			t.Error("variables out of nothing")
		}
	})
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"ac", "abc", 1}, {"kitten", "sitting", 3}, {"", "xy", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d", c.a, c.b, got)
		}
	}
}
