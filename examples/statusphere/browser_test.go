package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// person is somebody with a Chromium.
type person struct {
	*browser.Tab
	w *world
}

func (w *world) person(t *testing.T, o browser.Options) *person {
	t.Helper()
	o.Dial = w.net.DialFrom("192.0.2.5")
	p := &person{chromium.Tab(t, o), w}
	p.Goto(w.set.url + "/")
	return p
}

// signIn signs in as people do.
func (p *person) signIn(a *pdstest.Account) {
	p.w.t.Helper()
	p.Fill("Your handle", string(a.Handle))
	p.Submit("Sign in")
	p.WaitForURL("https://" + p.w.pds.Name + "/")
	p.WaitFor("Password")
	p.Fill("Password", a.Password)
	p.Submit("Sign in")
	p.Submit("Allow")
	p.WaitForURL(p.w.set.url + "/")
	p.WaitFor("How are you")
}

func TestInABrowser(t *testing.T) {
	if browser.Find() == "" {
		chromium.Tab(t, browser.Options{}) // skips the test, before it has done much
	}
	w := newWorld(t)
	alice, bob := w.pds.Account("alice"), w.pds.Account("bob")
	for a, name := range map[*pdstest.Account]string{alice: "Alice", bob: "Bob of the Hills"} {
		a.Put("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "displayName": name})
	}
	one := w.person(t, browser.Options{})
	one.Screenshot("statusphere-signed-out")
	one.signIn(alice)
	two := w.person(t, browser.Options{NoScript: true}) // everything but the live list works without scripts
	two.signIn(bob)

	one.Submit("coffee")
	one.WaitFor(".remove")
	two.Reload()
	if list := two.TextOf("#list"); !strings.Contains(list, "Alice") || !strings.Contains(list, "☕") {
		t.Errorf("bob sees %q", list)
	}
	two.Submit("coding")
	two.Fill("Any other emoji", "🦔")
	two.Submit("Set")
	if orb := two.TextOf("#orb"); orb != "🦔" {
		t.Errorf("bob's status is %q", orb)
	}

	// It came to the other page by itself, with its author's name, and goes by itself.
	one.WaitFor("Bob of the Hills")
	one.WaitFor("🦔")
	one.Reload() // also what was there when the page was loaded
	one.WaitFor("Live")
	two.Submit("Remove 🦔")
	waitGone(t, one, "🦔")
	one.WaitFor("🧑‍💻")
	w.say(alice, "🚀") // by another app
	eventually(t, func() error {
		if orb := one.TextOf("#orb"); orb != "🚀" {
			return fmt.Errorf("alice's status is %q", orb)
		}
		return nil
	})

	// A hostile name is text.
	bob.Put("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "displayName": "<img src=x onerror=alert(1)>"})
	one.WaitFor("<img src=x onerror=alert(1)>")
	bob.Put("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "displayName": "Bob of the Hills"})

	for i, text := range []string{"🌱", "🎧", "💙", "☕", "🥳", "☕", "🌧️", "💙", "🏃", "🤔", "☕", "🙂"} {
		a := w.pds.Account(fmt.Sprintf("person%d", i))
		a.Put("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "displayName": []string{"Noor", "Émile Dubois", "さくら", "Juan", "Wanjiru", "Li Wei"}[i%6]})
		w.say(a, text)
	}
	one.WaitFor("さくら")
	one.WaitFor("@person11")
	one.Resize(1280, 900)
	one.Screenshot("statusphere")
	one.SetDark(true)
	one.Screenshot("statusphere")
	one.SetDark(false)
	one.Resize(390, 844)
	one.Screenshot("statusphere-phone")
	one.SetDark(true)
	one.Screenshot("statusphere-phone")
	one.Resize(1000, 900)
	one.Click("Account: Alice")
	one.Screenshot("statusphere-menu")
	one.Submit("Sign out")
	if !one.Has("Sign in") {
		t.Error("alice is not signed out")
	}
}

// TestAudit looks at the pages with axe-core, light and dark, and on a narrow screen.
func TestAudit(t *testing.T) {
	if browser.Find() == "" {
		chromium.Tab(t, browser.Options{})
	}
	w := newWorld(t, func(s *settings) { s.logins = []string{"alice.pds1.test"} })
	alice := w.pds.Account("alice")
	p := w.person(t, browser.Options{})
	p.Audit("statusphere-signed-out")
	p.Fill("Your handle", "nobody."+w.pds.Name)
	p.Submit("Sign in")
	p.WaitFor("There is no account with that handle.")
	p.Audit("statusphere-refused")
	p.signIn(alice)
	p.Submit("sunny")
	p.WaitFor(".remove")
	p.Click("Account: " + string(alice.Handle))
	p.Audit("statusphere-signed-in")
}

// waitGone waits until a page does not show a text any more.
func waitGone(t *testing.T, p *person, text string) {
	t.Helper()
	eventually(t, func() error {
		if list := p.TextOf("#list"); strings.Contains(list, text) {
			return fmt.Errorf("the list is %q", list)
		}
		return nil
	})
}
