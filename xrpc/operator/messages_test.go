package operator

import (
	"testing"

	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

func TestMessages(t *testing.T) {
	var made []string
	for name, a := range acts {
		made = append(made, "act."+name, "about."+name)
		if a.field != "" {
			made = append(made, "field."+a.field)
		}
	}
	for _, item := range []string{"overview", "checks", "accounts", "taken", "invites", "stream", "relays", "backups", "mail", "errors", "trail"} {
		made = append(made, "menu."+item)
	}
	for _, problem := range []string{"ahead", "unknown", "behind", "idle", "offline", "throttled", "banned"} {
		made = append(made, "relay."+problem)
	}
	for _, kind := range []string{"totp", "email", "recovery", "passkey"} {
		made = append(made, "factor."+kind)
	}
	for _, l := range []doctor.Level{doctor.OK, doctor.Skipped, doctor.Warning, doctor.Problem} {
		made = append(made, "level."+string(l))
	}
	for _, o := range []audit.Outcome{audit.Begun, audit.Done, audit.Failed} {
		made = append(made, "outcome."+string(o))
	}
	english := set.Languages()[0]
	for _, key := range made {
		if !english.Has(key) {
			t.Errorf("there is no %s", key)
		}
	}
	sitetest.Languages(t, set)
	sitetest.Messages(t, set, files, made...)
}
