package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// shifted is a clock that differs from the machine's.
type shifted struct {
	mu sync.Mutex
	by time.Duration
}

func (c *shifted) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.by)
}

func (c *shifted) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = by
}

// logged is a log that a test reads while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// directoryInTheNetwork is a did:plc directory, whose clock is right.
func directoryInTheNetwork(t *testing.T) string {
	t.Helper()
	return testplc.Start(t, plctest.Config{NoRateLimits: true}).URL
}

// clocked is a server in this process with a clock of its own.
type clocked struct {
	*process
	log  *logged
	stop func()
}

func startClocked(t *testing.T, clock *shifted, env map[string]string) *clocked {
	t.Helper()
	all := map[string]string{"PDS_PORT": "0", "PDS_ADMIN_PASSWORD": "hunter2", "PDS_METRICS_ADDRESS": "127.0.0.1:0"}
	for name, v := range env {
		all[name] = v
	}
	cfg, err := config.Load(all)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Now = clock.now
	log := &logged{}
	s, err := server.Start(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	c := &clocked{&process{t: t, url: s.URL()}, log, func() { once.Do(func() { s.Shutdown(context.Background()) }) }}
	t.Cleanup(c.stop)
	return c
}

// metric is the value of a metric; empty: it is not shown.
func (c *clocked) metric(name string) string {
	c.t.Helper()
	found := regexp.MustCompile(`msg=metrics address=(\S+)`).FindStringSubmatch(c.log.String())
	resp, err := http.Get("http://" + found[1] + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `(?:\{[^}]*\})? (\S+)$`).FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return ""
}

// create tries to make an account.
func (c *clocked) create(name string) error {
	return c.anonymous().Procedure(context.Background(), "com.atproto.server.createAccount", map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name,
	}, nil)
}

// While the clock is two hours ahead of the directory, nothing is signed, the log and the metrics
// say so, and nothing that is too old by that clock is deleted. It ends when the clock is right.
func TestAClockThatIsAhead(t *testing.T) {
	dir, plc := t.TempDir(), directoryInTheNetwork(t)
	clock := &shifted{}
	env := map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_DID_PLC_URL": plc, "PDS_REPO_BACKFILL_LIMIT_MS": "3600000"}
	c := startClocked(t, clock, env)
	alice := c.register("alice")
	if v := c.metric("pds_clock_trusted"); v != "1" {
		t.Errorf("pds_clock_trusted is %q", v)
	}
	c.stop()

	clock.set(2 * time.Hour)
	c = startClocked(t, clock, env)
	alice.Host = c.url
	refused := &xrpc.Error{Status: 503, Name: "ClockNotTrusted"}
	var told *xrpc.Error
	if err := c.create("bob"); !errors.Is(err, refused) || !errors.As(err, &told) || told.RetryAfter(time.Now()) == 0 {
		t.Errorf("a new account: %v", err)
	}
	// The session is of another time; the password is good.
	alice, err := c.login(t, "alice.test", "password of alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.note("x"); !errors.Is(err, refused) {
		t.Errorf("a record: %v", err)
	}
	if _, err := alice.refresh(c.url); err != nil {
		t.Errorf("what needs no signature: %v", err)
	}
	if !strings.Contains(c.log.String(), "level=ERROR msg=\"the clock is wrong") || !strings.Contains(c.log.String(), "ahead of "+plc) {
		t.Errorf("the log is\n%s", c.log)
	}
	if v := c.metric("pds_clock_trusted"); v != "0" {
		t.Errorf("pds_clock_trusted is %q", v)
	}
	if v := c.metric("pds_clock_refusals_total"); v == "" || v == "0" {
		t.Errorf("pds_clock_refusals_total is %q", v)
	}
	if v := c.metric("pds_clock_offset_seconds"); !strings.HasPrefix(v, "71") && !strings.HasPrefix(v, "72") {
		t.Errorf("pds_clock_offset_seconds is %q", v)
	}
	clock.set(0)
	if err := c.create("bob"); err != nil {
		t.Errorf("when the clock is right: %v", err)
	}
	if v := c.metric("pds_clock_trusted"); v != "1" {
		t.Errorf("pds_clock_trusted is %q", v)
	}
	// The first maintenance would have trimmed the log to one hour.
	cursor := int64(0)
	for frame, err := range (&stream.Consumer{URL: c.url + subscribeRepos, Cursor: &cursor}).Frames(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m, err := commit.DecodeIdentity(frame.Payload); frame.Kind != commit.KindIdentity || err != nil || m.Handle != "alice.test" {
			t.Errorf("the log begins with %s: events were deleted by the wrong clock", frame.Kind)
		}
		break
	}
}

// A server has signed with a clock that was two hours ahead, as its operator had it. Started with
// the right clock, it signs for others as if nothing had been, says in its log, its metrics and to
// check which account is affected, and what check says helps.
func TestAClockThatWasAhead(t *testing.T) {
	dir, plc := t.TempDir(), directoryInTheNetwork(t)
	clock := &shifted{by: 2 * time.Hour}
	env := map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_DID_PLC_URL": plc, "PDS_CLOCK_CHECK": "false"}
	c := startClocked(t, clock, env)
	c.register("alice")
	if !strings.Contains(c.log.String(), "level=ERROR msg=\"the clock is wrong") {
		t.Errorf("the log is\n%s", c.log)
	}
	c.stop()

	clock.set(0)
	delete(env, "PDS_CLOCK_CHECK")
	c = startClocked(t, clock, env)
	alice, err := c.login(t, "alice.test", "password of alice")
	if err != nil {
		t.Fatal(err)
	}
	ahead := func(u *user) time.Duration { return time.Until(latest(t, u).Time()) }
	bob := c.register("bob")
	if d := ahead(bob); d > time.Minute {
		t.Errorf("a new account is %s ahead", d)
	}
	if err := alice.note("x"); err != nil {
		t.Fatal(err)
	}
	if d := ahead(alice); d < 119*time.Minute {
		t.Errorf("the revision of alice went back to one %s ahead", d)
	}
	if err := bob.note("x"); err != nil {
		t.Fatal(err)
	}
	if d := ahead(bob); d > time.Minute {
		t.Errorf("bob is %s ahead", d)
	}
	if v := c.metric("pds_accounts_ahead"); v != "1" {
		t.Errorf("pds_accounts_ahead is %q", v)
	}
	for _, want := range []string{"the clock is right now and was ahead once", "the revisions of accounts lie in the future"} {
		if !strings.Contains(c.log.String(), want) {
			t.Errorf("the log is\n%s", c.log)
		}
	}
	c.stop()

	o := newOperator(t, dir, "PDS_DID_PLC_URL="+plc)
	o.fails(3, "AHEAD     "+string(alice.DID), "check")
	o.fails(3, "pds resync -rewind", "check")
	o.ok(nil, "check", "bob.test")
	// A backup of such a server is a good one.
	o.ok(nil, "backup", filepath.Join(t.TempDir(), "backup"))
	var out struct{ Accounts int }
	if o.ok(&out, "resync", "alice.test"); out.Accounts != 1 {
		t.Errorf("%+v", out)
	}
	o.fails(3, "AHEAD     "+string(alice.DID), "check")
	if o.ok(&out, "resync", "-rewind"); out.Accounts != 1 {
		t.Errorf("%+v", out)
	}
	if stdout, _, code := o.run("check"); code != 0 || !strings.Contains(stdout, "All is well") {
		t.Errorf("check: %d %s", code, stdout)
	}
	if o.ok(&out, "resync", "-rewind"); out.Accounts != 0 {
		t.Errorf("once more: %+v", out)
	}

	c = startClocked(t, clock, env)
	if alice, err = c.login(t, "alice.test", "password of alice"); err != nil {
		t.Fatal(err)
	}
	if err := alice.note("y"); err != nil {
		t.Fatal(err)
	}
	if d := ahead(alice); d > time.Minute {
		t.Errorf("alice is %s ahead", d)
	}
	// A relay that has ignored what was ahead takes what comes now.
	v := commit.Verifier{}
	st, cursor := commit.State{}, int64(0)
	var seen []string
	for frame, err := range (&stream.Consumer{URL: c.url + subscribeRepos, Cursor: &cursor}).Frames(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		switch frame.Kind {
		case commit.KindCommit:
			m, _ := commit.DecodeEvent(frame.Payload)
			if m.Repo != alice.DID {
				continue
			}
			st, _, err = v.Commit(t.Context(), st, m)
		case commit.KindSync:
			m, _ := commit.DecodeSync(frame.Payload)
			if m.DID != alice.DID {
				continue
			}
			st, err = v.Sync(t.Context(), st, m)
		default:
			continue
		}
		switch {
		case err == nil:
			seen = append(seen, frame.Kind)
		case !errors.Is(err, commit.ErrFuture):
			t.Errorf("%s: %v", frame.Kind, err)
		}
		if st.Rev == latest(t, alice) {
			break
		}
	}
	if diff := cmp.Diff([]string{"#sync", "#commit"}, seen); diff != "" {
		t.Error(diff)
	}
}

// Without anybody to ask, an event from the future is reason enough to sign nothing, until the
// operator says otherwise.
func TestALogFromTheFuture(t *testing.T) {
	dir := t.TempDir()
	clock := &shifted{by: 2 * time.Hour}
	env := map[string]string{"PDS_DATA_DIRECTORY": dir} // with a directory in the process
	c := startClocked(t, clock, env)
	c.register("alice")
	c.stop()
	clock.set(0)
	c = startClocked(t, clock, env)
	if err := c.create("bob"); !errors.Is(err, &xrpc.Error{Status: 503, Name: "ClockNotTrusted"}) {
		t.Errorf("a new account: %v", err)
	}
	clock.set(2*time.Hour + time.Minute)
	if err := c.create("bob"); err != nil {
		t.Errorf("when the time has come: %v", err)
	}
	c.stop()
	clock.set(0)
	env["PDS_CLOCK_CHECK"] = "false"
	c = startClocked(t, clock, env)
	if err := c.create("carol"); err != nil {
		t.Errorf("as the operator says: %v", err)
	}
}

// What was made by a clock that was ahead is not good for longer: access tokens and tokens sent by
// mail. Nobody is locked out either: refresh tokens, passwords and rate limits go on.
func TestTokensOfAClockThatWasAhead(t *testing.T) {
	mail := filepath.Join(t.TempDir(), "mail.jsonl")
	clock := &shifted{by: 2 * time.Hour}
	c := startClocked(t, clock, map[string]string{
		"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_CLOCK_CHECK": "false", "PDS_EMAIL_SINK_FILE": mail, "PDS_RATE_LIMITS_ENABLED": "true",
	})
	alice := c.register("alice")
	alice.call(t, "com.atproto.server.requestPasswordReset", map[string]any{"email": "alice@example.com"}, nil)
	token := (&sandbox{c.process, mail}).token(t, "alice@example.com")
	for i := range 30 {
		if _, err := c.login(t, "bob.test", fmt.Sprint(i)); err == nil {
			t.Fatal("a login of nobody")
		}
	}
	if _, err := c.login(t, "bob.test", "x"); !errors.Is(err, &xrpc.Error{Status: 429}) {
		t.Errorf("the limit of logins: %v", err)
	}

	clock.set(0)
	if err := alice.note("x"); !errors.Is(err, &xrpc.Error{Status: 400, Name: "ExpiredToken"}) {
		t.Errorf("an access token from the future: %v", err)
	}
	reset := func(token string) error {
		return c.anonymous().Procedure(t.Context(), "com.atproto.server.resetPassword", map[string]string{"token": token, "password": "another"}, nil)
	}
	if err := reset(token); !errors.Is(err, &xrpc.Error{Name: "ExpiredToken"}) {
		t.Errorf("a mail token from the future: %v", err)
	}
	next, err := alice.refresh(c.url)
	if err != nil {
		t.Fatalf("a refresh token from the future: %v", err)
	}
	next.Client = &xrpc.Client{Host: c.url, Authorize: xrpc.Bearer(next.AccessJWT)}
	if err := next.note("x"); err != nil {
		t.Errorf("its successor: %v", err)
	}
	if _, err := c.login(t, "bob.test", "x"); errors.Is(err, &xrpc.Error{Status: 429}) {
		t.Errorf("a limit of the future: %v", err)
	}
}

// The restore of a backup that was made while the clock was ahead brings the accounts back to the
// present.
func TestRestoreOfRevisionsAhead(t *testing.T) {
	root, plc := t.TempDir(), directoryInTheNetwork(t)
	dir, backup := filepath.Join(root, "data"), filepath.Join(root, "backup")
	clock := &shifted{by: 2 * time.Hour}
	c := startClocked(t, clock, map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_DID_PLC_URL": plc, "PDS_CLOCK_CHECK": "false"})
	c.register("alice")
	c.stop()
	newOperator(t, dir, "PDS_DID_PLC_URL="+plc).ok(nil, "backup", backup)

	for name, tt := range map[string]struct {
		env   []string
		code  int
		check int
	}{
		"the directory agrees with the clock": {[]string{"PDS_DID_PLC_URL=" + plc}, 0, 0},
		"nobody says what time it is":         {nil, 1, 0},
		"nobody says, and the operator does":  {[]string{"PDS_CLOCK_CHECK=false"}, 0, 3},
	} {
		restored := filepath.Join(root, strings.ReplaceAll(name, " ", "-"))
		o := newOperator(t, restored, tt.env...)
		if stdout, stderr, code := o.run("restore", backup); code != tt.code {
			t.Fatalf("%s: restore: %d %s%s", name, code, stdout, stderr)
		}
		if _, err := os.Stat(filepath.Join(restored, "pds.sqlite")); tt.code != 0 {
			if err == nil {
				t.Errorf("%s: it was restored", name)
			}
			continue
		}
		if stdout, _, code := o.run("check"); code != tt.check {
			t.Errorf("%s: check: %d %s", name, code, stdout)
		}
	}
}

// All events have the time of the server's clock, those of accounts and identities too: their times
// decide how long they are kept.
func TestTimesOfEvents(t *testing.T) {
	for _, ahead := range []time.Duration{-48 * time.Hour, 2 * time.Hour} {
		clock := &shifted{}
		clock.set(ahead)
		c := startClocked(t, clock, map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_CLOCK_CHECK": "false"})
		alice, bob := c.register("alice"), c.register("bob") // of whose events only the last stays
		alice.call(t, "com.atproto.identity.updateHandle", map[string]any{"handle": "alicia.test"}, nil)
		alice.call(t, "com.atproto.server.deactivateAccount", map[string]any{}, nil)
		admin := (&sandbox{c.process, ""}).admin()
		if err := admin.Procedure(t.Context(), "com.atproto.admin.deleteAccount", map[string]any{"did": bob.DID}, nil); err != nil {
			t.Fatal(err)
		}
		cursor, seen := int64(0), map[string]int{}
		for frame, err := range (&stream.Consumer{URL: c.url + subscribeRepos, Cursor: &cursor}).Frames(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			var at time.Time
			last := false
			switch frame.Kind {
			case commit.KindIdentity:
				m, err := commit.DecodeIdentity(frame.Payload)
				if err != nil {
					t.Fatal(err)
				}
				at = m.Time
			case commit.KindAccount:
				m, err := commit.DecodeAccount(frame.Payload)
				if err != nil {
					t.Fatal(err)
				}
				at, last = m.Time, m.Status == "deleted"
			default:
				continue
			}
			seen[frame.Kind]++
			if off := at.Sub(clock.now()).Abs(); off > time.Minute {
				t.Errorf("a clock that is %s ahead: %s is %s off", ahead, frame.Kind, off)
			}
			if last {
				break
			}
		}
		if seen[commit.KindIdentity] < 2 || seen[commit.KindAccount] < 3 {
			t.Errorf("events %v", seen)
		}
		c.stop()
	}
}
