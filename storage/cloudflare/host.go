//go:build js

package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall/js"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// Host is the Durable Object in which the program runs.
type Host struct {
	// IdleBody is how long a large request body may stall, unless the handler sets a deadline by
	// http.ResponseController. 0: a minute. Set it before Serve.
	IdleBody time.Duration
	// GuardTime is the time after which Guard calls the functions of OnAlarm. 0: a minute. Set it
	// before Serve.
	GuardTime time.Duration
	// BucketTime bounds a call of R2, of up to 5 MiB. 0: a minute. Reads of an object have the
	// timeout IdleBody. Set it before Bucket is used.
	BucketTime time.Duration

	object js.Value // what the shim gives us; see its host

	transact, grow, waitFor js.Value

	// transfer is held while bytes cross, and by objects while they use what they have collected;
	// never while others' functions run.
	transfer sync.Mutex
	io       js.Value // bytes whose number both sides know
	room     int      // length of io

	// exclusive is held while a transaction runs, and by what must not be undone with it. It is
	// taken before transfer.
	exclusive sync.Mutex

	waking sync.Mutex // held while functions of OnAlarm are called

	// mu guards these.
	mu      sync.Mutex
	tables  map[string]*Object
	waiting map[int]chan<- settled
	lastID  int
	onAlarm []func(context.Context) (time.Time, error)
	sockets *Sockets
	alarmAt time.Time // when the functions of OnAlarm are to be called; zero: not
	guards  int       // that are not done
	guardAt time.Time // when they are to be called for the sake of those
	setAt   time.Time // when the platform calls; zero: it does not
	answer  Call
}

// settled is how a promise ended.
type settled struct {
	value js.Value
	ok    bool
}

// ErrNoObject: the program was not started by the shim.
var ErrNoObject = errors.New("cloudflare: not in a Durable Object")

// Here returns the object in which the program runs. Call it once, before main waits for anything.
func Here() (*Host, error) {
	o := js.Global().Get("pdskitHost")
	if !o.Truthy() {
		return nil, ErrNoObject
	}
	h := &Host{
		object: o, io: o.Get("io"), waiting: make(map[int]chan<- settled), tables: make(map[string]*Object),
		transact: o.Get("transact"), grow: o.Get("grow"), waitFor: o.Get("wait"),
	}
	h.room = h.io.Length()
	o.Call("onSettled", js.FuncOf(func(_ js.Value, args []js.Value) any {
		id := args[0].Int()
		h.mu.Lock()
		c := h.waiting[id]
		delete(h.waiting, id)
		h.mu.Unlock()
		c <- settled{args[2], args[1].Bool()}
		return nil
	}))
	return h, nil
}

// Env returns a variable or a secret of the Worker, or "".
func (h *Host) Env(name string) string {
	if v := h.object.Get("env").Get(name); v.Type() == js.TypeString {
		return v.String()
	}
	return ""
}

// Value returns the object's ctx ("ctx") or its bindings ("env"), for what this package does not
// support.
func (h *Host) Value(name string) js.Value { return h.object.Get(name) }

// Wait waits until a promise is settled, and returns its value, or the reason of its rejection as
// an error. If the context ends first, it returns the context's error. Do not call it within a
// transaction of the object: the promise could not be settled before the transaction returns, and
// the program would exit.
func (h *Host) Wait(ctx context.Context, promise js.Value) (js.Value, error) {
	c := make(chan settled, 1)
	h.mu.Lock()
	h.lastID++
	id := h.lastID
	h.waiting[id] = c
	h.mu.Unlock()
	h.waitFor.Invoke(promise, id)
	select {
	case s := <-c:
		if !s.ok {
			return js.Undefined(), fail(js.Error{Value: s.value})
		}
		return s.value, nil
	case <-ctx.Done():
		return js.Undefined(), ctx.Err()
	}
}

// try calls JavaScript, and returns as an error what it throws.
func try(call func() js.Value) (v js.Value, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case js.Error:
			err = fail(r)
		default:
			panic(r)
		}
	}()
	return call(), nil
}

// fail gives what was thrown the meaning that the contract of package storage has for it.
func fail(thrown js.Error) error {
	text := thrown.Value.Call("toString").String()
	err := fmt.Errorf("cloudflare: %s", text)
	switch {
	case strings.Contains(text, "SQLITE_FULL"), strings.Contains(text, "exceeded its storage"):
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	case strings.Contains(text, "SQLITE_CORRUPT"), strings.Contains(text, "SQLITE_NOTADB"):
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	case strings.Contains(text, "SQLITE_TOOBIG"):
		return fmt.Errorf("%w: %w", durable.ErrTooLarge, err)
	}
	return err
}

// put copies bytes to io. The caller holds turn.
func (h *Host) put(b []byte) {
	if len(b) > h.room {
		h.io = h.grow.Invoke(len(b))
		h.room = h.io.Length()
	}
	js.CopyBytesToJS(h.io, b)
}

// take returns the first n bytes of io. The caller holds turn.
func (h *Host) take(n int) []byte {
	if n > h.room {
		h.io = h.object.Get("io")
		h.room = h.io.Length()
	}
	b := make([]byte, n)
	js.CopyBytesToGo(b, h.io)
	return b
}

// OnAlarm registers a function to be called when the object's alarm fires, and when Serve begins.
// It does the due work, and returns when it should be called next, or the zero time, as
// durable.Solo.FireAlarms does. After an error it is called again a minute later.
func (h *Host) OnAlarm(fn func(context.Context) (next time.Time, err error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onAlarm = append(h.onAlarm, fn)
}

// alarmRetry is when functions that failed are called again.
const alarmRetry = time.Minute

// SetAlarm schedules a call of the functions of OnAlarm at t, unless an earlier one is scheduled.
// It may be called within a transaction of the object.
func (h *Host) SetAlarm(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alarmAt.IsZero() || t.Before(h.alarmAt) {
		h.alarmAt = t
		h.arrange()
	}
}

// Guard schedules a call of the functions of OnAlarm in a minute, unless done is called first. So
// work that begins after Guard, and is interrupted by the end of the program, is continued even if
// no request arrives: see Objects. Do not call Guard within a transaction of the object.
func (h *Host) Guard() (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.guards++; h.guards == 1 {
		h.guardAt = h.guardFrom(time.Now())
	}
	h.arrange()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.guards--
		h.arrange()
	})
}

func (h *Host) guardFrom(now time.Time) time.Time {
	if h.GuardTime > 0 {
		return now.Add(h.GuardTime)
	}
	return now.Add(time.Minute)
}

// arrange tells the platform when to call, if that has changed. The caller holds mu.
func (h *Host) arrange() {
	at := h.alarmAt
	if h.guards > 0 && (at.IsZero() || h.guardAt.Before(at)) {
		at = h.guardAt
	}
	if at.Equal(h.setAt) {
		return
	}
	h.setAt = at
	ms := float64(-1) // none
	if !at.IsZero() {
		ms = float64(max(0, (at.UnixMicro()+999)/1000))
	}
	h.object.Call("setAlarm", ms)
}

// wake calls the functions of OnAlarm.
func (h *Host) wake(ctx context.Context) {
	h.waking.Lock()
	defer h.waking.Unlock()
	h.mu.Lock()
	wakes := h.onAlarm
	h.mu.Unlock()
	var next time.Time
	for _, fn := range wakes {
		at, err := fn(ctx)
		if err != nil {
			at = time.Now().Add(alarmRetry)
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() {
		h.SetAlarm(next)
	}
}

// loadAlarm learns when the platform calls, as an earlier program has set it.
func (h *Host) loadAlarm(ctx context.Context) {
	v, err := h.invoke(ctx, h.object.Get("ctx").Get("storage"), "getAlarm")
	if err != nil || v.Type() != js.TypeNumber {
		return
	}
	at := time.UnixMilli(int64(v.Float()))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.setAt.IsZero() {
		h.setAt = at
	}
	if h.alarmAt.IsZero() || at.Before(h.alarmAt) {
		h.alarmAt = at
	}
	h.arrange() // if another one was set over it
}

// alarm is called by the platform, once for an alarm that was set.
func (h *Host) alarm(_ js.Value, args []js.Value) any {
	done := args[0]
	h.mu.Lock()
	h.alarmAt, h.setAt = time.Time{}, time.Time{}
	if h.guards > 0 {
		h.guardAt = h.guardFrom(time.Now())
		h.arrange()
	}
	h.mu.Unlock()
	go func() {
		h.wake(context.Background())
		done.Invoke()
	}()
	return nil
}

// Serve serves the object's requests with a handler. It does not return. If main returns, or the
// program ends in another way, the object is aborted, and the next request starts a new program.
func (h *Host) Serve(handler http.Handler) {
	x := &exchanges{host: h, handler: handler, open: make(map[int]*exchange)}
	functions := map[string]any{
		"fetch":  js.FuncOf(x.fetch),
		"gone":   js.FuncOf(x.gone),
		"call":   js.FuncOf(h.call),
		"closed": js.FuncOf(h.closed),
		"alarm":  js.FuncOf(h.alarm),
	}
	h.loadAlarm(context.Background())
	go h.wake(context.Background())
	h.object.Call("ready", js.ValueOf(functions))
	select {}
}
