package operator_test

import (
	"context"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// The page shows what the doctor found, the worst first, as text, and looks again by a form.
func TestChecks(t *testing.T) {
	runs := 0
	d := &doctor.Doctor{Checks: []doctor.Check{
		{Name: "clock", Run: func(context.Context) []doctor.Finding {
			runs++
			return []doctor.Finding{doctor.Good("the clock is right")}
		}},
		{Name: "relays", Run: func(context.Context) []doctor.Finding {
			return []doctor.Finding{doctor.Bad("ask it again", "<b>offline</b>").About("relay.test")}
		}},
	}}
	w := newWorld(t, func(c *pds.Config) { c.Operator.Doctor = d })
	b := w.tab()
	if p := b.get("/admin/checks"); p.Status == 200 {
		t.Error("strangers see it")
	}
	b.signIn()
	b.get("/admin/checks")
	b.has("Nothing was checked yet", "Check now")
	b.Submit("/admin/checks", nil)
	if b.get("/admin/checks"); runs != 1 {
		t.Errorf("%d runs", runs)
	}
	b.has("the clock is right", "relay.test", "ask it again", "problem")
	if text := b.Last.Text; strings.Contains(text, "<b>offline") || strings.Index(text, "relay.test") > strings.Index(text, "the clock is right") {
		t.Error(text)
	}
	b.get("/admin")
	b.has("/admin/checks")
	plain := newWorld(t).tab().signIn()
	plain.get("/admin")
	plain.hasNot("/admin/checks")
}
