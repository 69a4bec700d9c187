// Package browser drives a Chromium from tests.
//
// A test package has one browser, which starts when a test first needs it and ends with the tests:
//
//	var chromium browser.Chromium
//
//	func TestMain(m *testing.M) { chromium.Main(m) }
//
//	func TestSignIn(t *testing.T) {
//		alice := chromium.Tab(t, browser.Options{Dial: network.DialFrom("192.0.2.3")})
//		alice.Goto("https://pds1.test/account")
//		alice.Fill("Handle or e-mail address", "alice.pds1.test")
//		alice.Fill("Password", "secret")
//		alice.Submit("Sign in")
//		alice.WaitFor("You are signed in")
//	}
//
// Every [Chromium.Tab] has a profile of its own: its cookies, storage and network are not those of
// others, so two tabs are two users. [Tab.Another] is a second tab of the same user.
//
// Elements are named by their visible text: that of their label, button or link. A name that begins
// with one of "#", "." and "[" is a CSS selector. Input is sent as events of mouse and keyboard, so
// that what is hidden or covered can't be used. Nothing depends on time: each method waits for what
// it needs, and fails the test after a minute.
//
// Problems in a page fail the test when it ends: errors on the console, exceptions of scripts,
// violations of the content security policy, parts of the page that can't be loaded. [Tab.Problems]
// returns those that a test expects.
//
// Tests are skipped where there is no Chromium, and fail there if the environment says CI=true.
package browser
