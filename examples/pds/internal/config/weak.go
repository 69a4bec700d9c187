package config

import (
	"fmt"
	"strings"
)

// The least lengths, in bytes. A JWT secret can be guessed without asking the server: whoever has a
// token tries as fast as he can compute. Logins of the administrator are counted.
const (
	minJWTSecret     = 16
	minAdminPassword = 8
	// goodJWTSecret is as long as what the official installer makes: 16 random bytes in
	// hexadecimal.
	goodJWTSecret = 32
	// minVariety is how many different characters there must be.
	minVariety = 5
)

// examples are values that stand in guides, or that come to mind first. They are compared without
// regard to case, digits at the end, and anything that is neither a letter nor a digit.
var examples = map[string]bool{
	"admin": true, "administrator": true, "adminpassword": true, "atproto": true, "bluesky": true, "changeit": true, "changeme": true,
	"changethis": true, "changemeplease": true, "default": true, "example": true, "jwtsecret": true, "letmein": true, "mysecret": true,
	"mysupersecret": true, "password": true, "passw0rd": true, "pdsadminpassword": true, "pdsjwtsecret": true, "replaceme": true,
	"secret": true, "secretkey": true, "supersecret": true, "supersecretkey": true, "test": true, "testtesttest": true, "todo": true,
	"verysecret": true, "yourjwtsecret": true, "youradminpassword": true, "yourjwtsecrethere": true, "yoursecret": true, "yoursecrethere": true,
	"abcdefghijklmnopqrstuvwxyz": true, "0123456789abcdef": true, "0123456789": true, "1234567890": true, "qwertyuiop": true, "correcthorsebatterystaple": true,
}

// plain is the form in which examples are compared.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, strings.ToLower(s))
}

// weak says why a secret is easily guessed; empty if it is not.
func weak(secret string, least int) string {
	variety := make(map[rune]bool)
	for _, c := range secret {
		variety[c] = true
	}
	p := plain(secret)
	switch {
	case examples[p], examples[strings.TrimRight(p, "0123456789")]:
		return "is a value that everybody tries first"
	case len(secret) < least:
		return fmt.Sprintf("has %d bytes, and must have at least %d", len(secret), least)
	case len(variety) < minVariety:
		return fmt.Sprintf("has only %d different characters", len(variety))
	}
	return ""
}

// secrets refuses secrets of the environment that are easily guessed. On one's own machine they are
// only warned about.
func (r *reader) secrets(c *Config) {
	for _, s := range []struct {
		name, value string
		least       int
		try         string
	}{
		{"PDS_JWT_SECRET", c.JWTSecret, minJWTSecret, "openssl rand -hex 32"},
		{"PDS_ADMIN_PASSWORD", c.AdminPassword, minAdminPassword, "openssl rand -hex 16"},
	} {
		if s.value == "" {
			continue // it is made
		}
		why := weak(s.value, s.least)
		if why == "" && s.value == c.Hostname {
			why = "is the host name"
		}
		switch {
		case why != "" && c.DevMode:
			r.warn("%s %s: do not use it where others can reach the server", s.name, why)
		case why != "":
			r.wrong(s.name, "%s; leave it out, and one is made and kept in secrets.json, or take the output of: %s", why, s.try)
		}
	}
	switch n := len(c.JWTSecret); {
	case c.DevMode || n == 0:
	case n >= minJWTSecret && n < goodJWTSecret:
		r.warn("PDS_JWT_SECRET has only %d bytes; at least %d are better (another one logs everybody out)", n, goodJWTSecret)
	}
	if c.JWTSecret != "" && c.JWTSecret == c.AdminPassword {
		r.warn("PDS_JWT_SECRET and PDS_ADMIN_PASSWORD are the same: whoever learns one has the other")
	}
	if key := c.Limits.BypassKey; key != "" && !c.DevMode {
		if why := weak(key, minAdminPassword); why != "" {
			r.warn("PDS_RATE_LIMIT_BYPASS_KEY %s: whoever guesses it may guess passwords without limit", why)
		}
	}
}
