package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
)

// misleading warns of settings that are valid, and that somebody has probably not meant.
func (r *reader) misleading(c *Config) {
	r.unedited(c)
	if strings.HasSuffix(c.Metrics, ":9090") {
		r.warn("PDS_METRICS_ADDRESS=%s: 9090 is the port of Prometheus itself, and only one of them can have it on a machine; take another one, such as 127.0.0.1:2590", c.Metrics)
	}
	if c.DevMode {
		if bind := c.Bind; bind != "localhost" && !loopback(bind) {
			r.warn("PDS_BIND_ADDRESS=%s: this is a development server, without limits, invites and TLS, and others can reach it", bind)
		}
		if c.Hostname != "localhost" {
			r.warn("PDS_DEV_MODE is on with the name %s: there are no limits, and everybody may make accounts; take it out on a server for people", c.Hostname)
		}
		return
	}
	switch {
	case c.TLS.ACME && c.Port != 443:
		r.warn("PDS_PORT=%d with PDS_TLS_ACME: apps come to port 443; take PDS_PORT out, unless something in front passes 443 on to it", c.Port)
	case c.TLS.ACME && c.TLS.HTTPPort != 80 && c.TLS.HTTPPort != -1:
		r.warn("PDS_HTTP_PORT=%d with PDS_TLS_ACME: certificate authorities come to port 80; take PDS_HTTP_PORT out, unless something in front passes 80 on to it", c.TLS.HTTPPort)
	case !c.TLS.ACME && c.Bind == "":
		r.warn("PDS_BIND_ADDRESS is not set: plain HTTP on port %d is open to all networks; set it to 127.0.0.1 for a proxy on this machine, or to 0.0.0.0 if that is meant", c.Port)
	}
	if c.TLS.ACME && (c.Bind == "localhost" || loopback(c.Bind)) {
		r.warn("PDS_BIND_ADDRESS=%s with PDS_TLS_ACME: nobody outside this machine reaches it; take PDS_BIND_ADDRESS out", c.Bind)
	}
	if id := string(c.ServiceDID); strings.HasPrefix(id, "did:web:") && id != "did:web:"+c.Hostname {
		r.warn("PDS_SERVICE_DID=%s is another name than PDS_HOSTNAME=%s: tokens for one are not good for the other", id, c.Hostname)
	}
	if strings.HasPrefix(c.Metrics, ":") {
		r.warn("PDS_METRICS_ADDRESS=%s: metrics and profiles are open to all networks; put 127.0.0.1 in front, or 0.0.0.0 if that is meant", c.Metrics)
	}
}

// unedited warns of values that stand in examples.
func (r *reader) unedited(c *Config) {
	ask := func(name, host string) {
		if isExample(host) {
			r.warn("%s still has the name of the example, %s: put your own there", name, host)
		}
	}
	domain := func(address string) string {
		return strings.Trim(address[strings.LastIndexByte(address, '@')+1:], "> ")
	}
	ask("PDS_HOSTNAME", c.Hostname)
	for _, name := range []string{"PDS_EMAIL_SMTP_URL", "PDS_MODERATION_EMAIL_SMTP_URL"} {
		if u, err := url.Parse(r.get(name)); err == nil {
			ask(name, u.Hostname())
		}
	}
	ask("PDS_EMAIL_FROM_ADDRESS", domain(c.Mail.From))
	ask("PDS_ACME_EMAIL", domain(c.TLS.Email))
	ask("PDS_CONTACT_EMAIL_ADDRESS", domain(c.ContactEmail))
}

// isExample reports whether a name is one that nobody has (RFC 2606).
func isExample(host string) bool {
	host = strings.ToLower(host)
	return slices.ContainsFunc([]string{"example.com", "example.org", "example.net", "example", "invalid"}, func(name string) bool {
		return host == name || strings.HasSuffix(host, "."+name)
	})
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// secretNames are the variables that must stay secret. Others may have a password in a URL.
var secretNames = []string{
	"PDS_ADMIN_PASSWORD", "PDS_JWT_SECRET", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", "PDS_MASTER_KEY", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY", "PDS_BACKUP_S3_SECRET_ACCESS_KEY",
	"PDS_EMAIL_SMTP_URL", "PDS_MODERATION_EMAIL_SMTP_URL", "PDS_DATABASE_URL", "PDS_RATE_LIMIT_BYPASS_KEY",
}

// FileWarning says what is wrong with the mode of an environment file; empty: nothing. Others may
// read one that has no secrets in it.
func FileWarning(file string) string {
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" {
		return ""
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		return fmt.Sprintf("%s (mode %04o) can be changed by other users: chmod 640 %s", file, mode, file)
	}
	text, err := os.ReadFile(file)
	if err != nil || mode&0o004 == 0 {
		return ""
	}
	vars, _ := parseEnv(string(text))
	for _, name := range secretNames {
		if value := vars[name]; value != "" && (!strings.HasSuffix(name, "_URL") || strings.Contains(value, "@")) {
			return fmt.Sprintf("%s (mode %04o) can be read by everybody on this machine, and has %s in it: chmod 640 %s", file, mode, name, file)
		}
	}
	return ""
}
