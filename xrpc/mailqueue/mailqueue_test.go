package mailqueue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/storage/storagetest"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
)

var _ = testenv.CheapPasswords()

const (
	alice   = syntax.DID("did:web:alice.example")
	address = "alice@example.com"
)

// world is what outlives processes: a store, the time, and a mail server.
type world struct {
	testing.TB
	ctx   context.Context
	store storage.Store

	mu   sync.Mutex
	time time.Time
	sent []server.Mail
	fail error
}

func newWorld(tb testing.TB) *world {
	w := &world{TB: tb, ctx: context.Background(), time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.store = memory.New(memory.Config{Now: w.now})
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// Send is the mail server: world is a server.Mailer.
func (w *world) Send(_ context.Context, m server.Mail) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.sent = append(w.sent, m)
	return nil
}

// refuse makes the mail server fail, or not.
func (w *world) refuse(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// config is that of a process.
func (w *world) config() mailqueue.Config {
	box, err := sealed.New(bytes.Repeat([]byte{7}, sealed.KeySize))
	w.ok(err)
	return mailqueue.Config{Store: w.store, Box: box, Mailer: w, Now: w.now}
}

func (w *world) open(cfg mailqueue.Config) *mailqueue.Queue {
	w.Helper()
	q, err := mailqueue.New(cfg)
	w.ok(err)
	return q
}

// finish lets a process end, which sends what is due.
func (w *world) finish(q *mailqueue.Queue) { q.Close(w.ctx) }

// got are the subjects of what has arrived since the last call.
func (w *world) got() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, m := range w.sent {
		list = append(list, m.Subject)
	}
	w.sent = nil
	return strings.Join(list, " ")
}

func (w *world) expect(want string) {
	w.Helper()
	if got := w.got(); got != want {
		w.Errorf("arrived: %q, not %q", got, want)
	}
}

func (w *world) letters(q *mailqueue.Queue) (list []mailqueue.Letter) {
	w.Helper()
	for l, err := range q.Letters(w.ctx) {
		w.ok(err)
		list = append(list, l)
	}
	return list
}

func note(subject string) server.Mail {
	return server.Mail{Kind: server.Plain, To: address, DID: alice, Subject: subject, Text: "text of " + subject}
}

func token(subject string) server.Mail {
	m := note(subject)
	m.Kind, m.Token, m.Text = server.ResetPassword, "ABCDE-FGHIJ", "Enter ABCDE-FGHIJ"
	return m
}

var errDown = errors.New("the mail server is down")

// Mail that the server does not take is tried again by whoever opens the store, with the same ID, and
// arrives once.
func TestMailServerIsDown(t *testing.T) {
	w := newWorld(t)
	w.refuse(errDown)
	q := w.open(w.config())
	w.ok(q.Send(w.ctx, note("one")))
	w.finish(q)
	list := w.letters(q)
	if len(list) != 1 || list[0].State != queue.Waiting || list[0].Tries != 1 || list[0].Error != errDown.Error() || list[0].To != address || list[0].Kind != server.Plain {
		t.Fatalf("%+v", list)
	}
	st, err := q.Stats(w.ctx)
	if w.ok(err); st.Waiting != 1 || st.Failed != 1 || st.Sent != 0 {
		t.Errorf("%+v", st)
	}
	for range 8 { // an hour or so
		w.wait(8 * time.Minute)
		w.finish(w.open(w.config()))
	}
	w.refuse(nil)
	w.finish(w.open(w.config())) // its back-off has not ended
	w.expect("")
	w.wait(30 * time.Minute)
	w.finish(w.open(w.config()))
	w.mu.Lock()
	if len(w.sent) != 1 || w.sent[0].ID != list[0].ID {
		t.Errorf("%+v", w.sent)
	}
	w.mu.Unlock()
	w.expect("one")
	w.wait(24 * time.Hour)
	w.finish(w.open(w.config()))
	w.expect("")
}

// Mail is given up when its recipient is refused for good, and when it is too old. An operator sends it
// again, or drops it; a token that is void is not sent again.
func TestDeadMail(t *testing.T) {
	w := newWorld(t)
	q := w.open(w.config())
	w.refuse(fmt.Errorf("mail: %w", &textproto.Error{Code: 550, Msg: "no such user"}))
	w.ok(q.Send(w.ctx, note("refused")))
	w.finish(q)
	w.refuse(errDown)
	w.wait(time.Second)
	q = w.open(w.config())
	w.ok(q.Send(w.ctx, token("reset")))
	w.finish(q)
	w.wait(16 * time.Minute)
	q = w.open(w.config())
	w.ok(q.Send(w.ctx, note("waits")))
	w.finish(q)
	q = w.open(w.config())
	list := w.letters(q)
	if len(list) != 3 || list[0].State != queue.Buried || list[1].State != queue.Buried || list[2].State != queue.Waiting ||
		!strings.Contains(list[0].Error, "no such user") || !strings.Contains(list[1].Error, "in time: "+errDown.Error()) {
		t.Fatalf("%+v", list)
	}
	if text := fmt.Sprintf("%+v", list); strings.Contains(text, "ABCDE") {
		t.Errorf("a list shows a token: %s", text)
	}
	if st, err := q.Stats(w.ctx); err != nil || st.Dead != 2 || st.Waiting != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	w.refuse(nil)
	if err := q.Retry(w.ctx, list[1].ID); !errors.Is(err, mailqueue.ErrExpired) {
		t.Error(err)
	}
	for _, err := range []error{q.Retry(w.ctx, "none"), q.Drop(w.ctx, "none")} {
		if !errors.Is(err, storage.ErrNotFound) {
			t.Error(err)
		}
	}
	w.ok(q.Drop(w.ctx, list[1].ID))
	w.ok(q.Retry(w.ctx, list[0].ID))
	w.ok(q.Retry(w.ctx, list[2].ID))
	w.finish(q)
	got := strings.Fields(w.got())
	if len(got) != 2 || !strings.Contains(fmt.Sprint(got), "refused") || !strings.Contains(fmt.Sprint(got), "waits") {
		t.Errorf("arrived: %q", got)
	}
	if list := w.letters(q); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
}

// Nobody who reads the store, or a backup of it, finds a token or an address; what another key has
// sealed is not sent, and is shown as what cannot be opened.
func TestMailIsSealed(t *testing.T) {
	w := newWorld(t)
	said := "no mailbox <" + address + "> for ABCDE-FGHIJ " + strings.Repeat("x", 2000)
	w.refuse(fmt.Errorf("mail: %w", &textproto.Error{Code: 450, Msg: said}))
	q := w.open(w.config())
	w.ok(q.Send(w.ctx, token("reset")))
	w.finish(q)
	if list := w.letters(q); len(list) != 1 || !strings.Contains(list[0].Error, "no mailbox <"+address+"> for …") {
		t.Errorf("the operator is not told what the mail server has said: %+v", list)
	}
	w.ok(w.store.KV.Read(w.ctx, func(r storage.KVReader) error {
		n := 0
		for pair, err := range r.Keys(w.ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			n++
			for _, secret := range []string{"ABCDE", address, "reset"} {
				if strings.Contains(pair.Key, secret) || bytes.Contains(pair.Value, []byte(secret)) {
					t.Errorf("%q is in %s = %s", secret, pair.Key, pair.Value)
				}
			}
		}
		if n == 0 {
			t.Error("nothing is kept")
		}
		return nil
	}))
	w.refuse(nil)
	cfg := w.config()
	var err error
	cfg.Box, err = sealed.New(bytes.Repeat([]byte{8}, sealed.KeySize))
	w.ok(err)
	w.wait(time.Minute)
	q = w.open(cfg)
	w.finish(q)
	w.expect("")
	if list := w.letters(q); len(list) != 1 || list[0].State != queue.Buried || list[0].To != "" || !strings.Contains(list[0].Error, "cannot be opened") {
		t.Errorf("%+v", list)
	}
}

// A token that is void by the time the mail server is back is not sent, as when a second one was asked
// for.
func TestVoidTokens(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Void = func(_ context.Context, m server.Mail) (bool, error) { return m.Subject == "first", nil }
	q := w.open(cfg)
	w.ok(q.Send(w.ctx, token("first")))
	w.ok(q.Send(w.ctx, token("second")))
	w.finish(q)
	w.expect("second")
	if list := w.letters(q); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
}

// A flood of requests is refused when there are as many messages as there may be; what owners must hear of
// is kept all the same.
func TestFloodOfRequests(t *testing.T) {
	w := newWorld(t)
	w.refuse(errDown)
	cfg := w.config()
	cfg.Room = 50
	q := w.open(cfg)
	n := 0
	for ; n < 1000 && q.HasRoom(w.ctx, 1) == nil; n++ {
		w.ok(q.Send(w.ctx, token("reset")))
	}
	if n != 50 {
		t.Errorf("%d messages", n)
	}
	for _, n := range []int{0, 1} {
		if err := q.HasRoom(w.ctx, n); !errors.Is(err, queue.ErrNoRoom) {
			t.Errorf("room for %d: %v", n, err)
		}
	}
	w.ok(q.Send(w.ctx, note("your password was changed")))
	w.finish(q)
}

// Dead messages take no more than half of the room, so that who has mail refused cannot keep others from
// getting theirs; and a queue that is full at a restart sends what it has, and then takes what changes have
// left in accounts.
func TestDeadMailLeavesRoom(t *testing.T) {
	w := newWorld(t)
	w.refuse(&textproto.Error{Code: 550, Msg: "no such user"})
	cfg := w.config()
	cfg.Room = 20
	q := w.open(cfg)
	for range 40 {
		w.ok(q.Send(w.ctx, note("welcome")))
		w.ok(q.Turn(w.ctx))
		w.wait(time.Second)
	}
	w.finish(q)
	q = w.open(cfg)
	w.ok(q.Turn(w.ctx))
	if n := len(w.letters(q)); n > 10 {
		t.Errorf("%d dead messages are kept", n)
	}
	if err := q.HasRoom(w.ctx, 10); err != nil {
		t.Error(err)
	}
	w.refuse(errDown)
	for range 40 {
		w.ok(q.Send(w.ctx, note("later")))
	}
	end, err := q.Announce(w.ctx, alice)
	w.ok(err)
	w.finish(q)
	w.refuse(nil)
	w.wait(time.Hour)
	w.ok(w.open(cfg).Turn(w.ctx))
	if n := len(strings.Fields(w.got())); n != 40 {
		t.Errorf("%d messages arrived", n)
	}
	end()
}

// Two processes send each message once.
func TestTwoProcesses(t *testing.T) {
	w := newWorld(t)
	w.store = memory.New(memory.Config{})
	ctx, cancel := context.WithCancel(w.ctx)
	var all sync.WaitGroup
	var list []*mailqueue.Queue
	for range 2 {
		cfg := w.config()
		cfg.Now = time.Now
		q := w.open(cfg)
		list = append(list, q)
		all.Go(func() { _ = q.Run(ctx) })
	}
	const total = 200
	for i := range total {
		w.ok(list[i%2].Send(w.ctx, note(fmt.Sprint(i))))
	}
	for end := time.Now().Add(30 * time.Second); len(w.letters(list[0])) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not all were sent")
		}
	}
	cancel()
	all.Wait()
	if got := strings.Fields(w.got()); len(got) != total {
		t.Errorf("%d messages arrived", len(got))
	}
}

// notices are those of tokens.
type notices struct{ *mailqueue.Queue }

func (n notices) Write(_ context.Context, step *repo.Step, x credential.Notice) error {
	m := token("reset")
	m.Token = x.Token.Token
	return n.Queue.Write(step, m)
}

// process opens a store with accounts.
func (w *world) process(store storage.Store) (*mailqueue.Queue, *credential.Store) {
	cfg := w.config()
	cfg.Store = store
	q := w.open(cfg)
	accounts := account.Open(repo.Config{Store: store, TempDir: w.TempDir(), Now: w.now}, cfg.Box)
	return q, credential.New(credential.Config{Accounts: accounts, Notices: notices{q}, Now: w.now})
}

// TestKill kills a process before and after every call of the store while it makes a token and sends it.
// The token arrives if, and only if, it was made; once, unless the process died when it had been sent.
func TestKill(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			w := newWorld(t)
			_, credentials := w.process(w.store)
			_, err := credentials.Accounts().Create(w.ctx, account.Account{DID: alice, Handle: "alice.example", Email: address}, key, repo.Batch{})
			w.ok(err)
			d := &storagetest.Death{At: at, After: after}
			q, dying := w.process(d.Faults().Wrap(w.store))
			made, _, err := dying.NewMailToken(w.ctx, account.Trusted(alice), credential.ForPasswordReset)
			w.finish(q)
			first := w.got()

			q, _ = w.process(w.store)
			w.wait(2 * time.Minute)
			ctx, cancel := context.WithCancel(w.ctx)
			done := make(chan error, 1)
			go func() { done <- q.Run(ctx) }()
			there := 0
			w.ok(w.store.Repos.View(w.ctx, alice, func(r storage.Reader) error {
				there = 0
				for pair, err := range r.Keys(w.ctx, storage.Prefix("mailtoken/")) {
					if err != nil {
						return err
					}
					there++
					if made == "" {
						made = string(pair.Value)
					}
				}
				return nil
			}))
			if err == nil && there != 1 {
				t.Errorf("a token was made, and is not there")
			}
			for end := time.Now().Add(20 * time.Second); there == 1; time.Sleep(time.Millisecond) {
				w.mu.Lock()
				n := len(w.sent)
				w.mu.Unlock()
				if n > 0 || first != "" && len(w.letters(q)) == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("killed at call %d, after it %v: the token did not arrive", at, after)
				}
			}
			cancel()
			w.ok(<-done)
			w.finish(q)
			second := w.got()
			switch n := len(strings.Fields(first + " " + second)); {
			case there == 0 && n > 0:
				t.Errorf("a token arrived that was not made")
			case n > 1 && first == "":
				t.Errorf("it arrived %d times", n)
			}
			if t.Failed() {
				t.Fatalf("killed at call %d, after it: %v", at, after)
			}
			if !d.Died() {
				if at < 12 {
					t.Errorf("only %d calls", at)
				}
				break
			}
		}
	}
}
