package config

import (
	"strings"
	"testing"
)

// Secrets that can be guessed are refused where others can reach the server, and warned about
// elsewhere. The message names the variable and never the value.
func TestWeakSecrets(t *testing.T) {
	mail := []string{"PDS_EMAIL_SMTP_URL=smtp://mail", "PDS_EMAIL_FROM_ADDRESS=a@b.test"}
	for _, tt := range []struct {
		variable string
		refused  bool
	}{
		{"PDS_JWT_SECRET=x", true},
		{"PDS_JWT_SECRET=0123456789abcd", true},
		{"PDS_JWT_SECRET=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true},
		{"PDS_JWT_SECRET=abababababababababababababababab", true},
		{"PDS_JWT_SECRET=Your-JWT-Secret-Here", true},
		{"PDS_JWT_SECRET=supersecretkey123456", true},
		{"PDS_JWT_SECRET=correct-horse-battery-staple", true},
		{"PDS_JWT_SECRET=0123456789abcdef", true},
		{"PDS_JWT_SECRET=0b5a7f7e5d3c48f2a1e6d9c8b7a60f1e", false},
		{"PDS_ADMIN_PASSWORD=hunter2", true},
		{"PDS_ADMIN_PASSWORD=ChangeMe!", true},
		{"PDS_ADMIN_PASSWORD=password123", true},
		{"PDS_ADMIN_PASSWORD=admin", true},
		{"PDS_ADMIN_PASSWORD=1234567890", true},
		{"PDS_ADMIN_PASSWORD=zzzzzzzzzzzz", true},
		{"PDS_ADMIN_PASSWORD=pds.site.test", true},
		{"PDS_ADMIN_PASSWORD=topsecret", false},
		{"PDS_ADMIN_PASSWORD=fedcba9876543210fedcba9876543210", false},
	} {
		name, value, _ := strings.Cut(tt.variable, "=")
		c, err := Load(vars(append(mail, tt.variable, "PDS_HOSTNAME=pds.site.test", "PDS_BIND_ADDRESS=127.0.0.1")...))
		if (err != nil) != tt.refused {
			t.Errorf("%s: %v", tt.variable, err)
		}
		if !tt.refused && c.Warnings != nil {
			t.Errorf("%s: warnings %q", tt.variable, c.Warnings)
		}
		// On one's own machine it is a warning.
		dev := load(t, tt.variable)
		warned := strings.Join(dev.Warnings, "\n")
		if weak := tt.refused && value != "pds.site.test"; weak != strings.Contains(warned, name) {
			t.Errorf("%s in development: warnings %q", tt.variable, dev.Warnings)
		}
		if err != nil {
			warned += err.Error()
		}
		if len(value) > 5 && value != "pds.site.test" && strings.Contains(warned, value) {
			t.Errorf("the secret %s is shown: %s", value, warned)
		}
	}
	c := load(t, append(mail, "PDS_HOSTNAME=pds.site.test", "PDS_BIND_ADDRESS=127.0.0.1", "PDS_JWT_SECRET=twenty random bytes!", "PDS_ADMIN_PASSWORD=twenty random bytes!", "PDS_RATE_LIMIT_BYPASS_KEY=key")...)
	if len(c.Warnings) != 3 {
		t.Errorf("warnings %q", c.Warnings)
	}
}
