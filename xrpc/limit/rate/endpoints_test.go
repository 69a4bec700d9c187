package rate

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What one network can do by the forms of the pages, in five minutes, an hour and a day.
func TestFormsOfThePages(t *testing.T) {
	for _, c := range []struct {
		action             string
		minutes, hour, day int
	}{
		{"sign-in", 300, 3600, 86400},
		{"passkey", 600, 7200, 172800},
		{"factor", 100, 1200, 28800},
		{"sign-up", 100, 1200, 28800},
		{"handle", 300, 3600, 86400},
		{"password-request", 15, 15, 50},
		{"password-reset", 50, 600, 14400},
		{"account", 300, 3600, 86400},
		{"mail", 30, 30, 100},
		{"email-change", 15, 15, 50},
		{"handle-change", 10, 50, 50},
		{"account-data", 100, 1200, 28800},
		{"export", 30, 30, 200},
	} {
		now := time.Unix(1_700_000_000, 0).Truncate(24 * time.Hour)
		l := New(Config{Now: func() time.Time { return now }})
		try := func(from string) bool {
			r := httptest.NewRequest("POST", "/oauth/form", nil)
			r.RemoteAddr = from + ":1"
			return l.Endpoint(r, c.action, "") == nil
		}
		n := 0
		got := map[time.Duration]int{}
		for i := range 24 * 12 {
			for range 700 {
				if !try("192.0.2.1") {
					break
				}
				n++
			}
			for _, d := range []time.Duration{5 * time.Minute, time.Hour, 24 * time.Hour} {
				if time.Duration(i+1)*5*time.Minute == d {
					got[d] = n
				}
			}
			if !try(fmt.Sprintf("198.51.100.%d", i%250)) {
				t.Fatalf("%s: another network is kept out", c.action)
			}
			now = now.Add(5 * time.Minute)
		}
		if diff := cmp.Diff(map[time.Duration]int{5 * time.Minute: c.minutes, time.Hour: c.hour, 24 * time.Hour: c.day}, got); diff != "" {
			t.Errorf("%s: %s", c.action, diff)
		}
	}
}

// A form that does what a method does has the limit of the method, so that neither is the way around
// the other's. Forms that show whether something exists are no cheaper than what they lead to.
func TestFormsAreLimitedAsMethods(t *testing.T) {
	table := Official()
	for form, method := range map[string]string{
		"sign-up":          "com.atproto.server.createAccount",
		"password-request": "com.atproto.server.requestPasswordReset",
		"password-reset":   "com.atproto.server.resetPassword",
	} {
		rule := table.Methods[method]
		if diff := cmp.Diff(rule.Windows, table.Endpoints[form]); rule.By != Network || diff != "" {
			t.Errorf("%s and %s: %s", form, method, diff)
		}
	}
	// Guesses at one account's password run into Tries long before the form's own limit, which is for
	// those who try many accounts; and a page that cannot ask for a challenge cannot sign in.
	if form := table.Endpoints["sign-in"][0]; form.Points < 5*table.Tries[0].Points || form.Length != table.Tries[0].Length {
		t.Errorf("sign-in: %v, tries %v", form, table.Tries)
	}
	if table.Endpoints["passkey"][0].Points < table.Endpoints["sign-in"][0].Points {
		t.Error("there are more sign-ins than challenges")
	}
}
