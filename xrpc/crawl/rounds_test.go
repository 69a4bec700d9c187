package crawl_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/xrpc/crawl"
)

// sleeper is a host that is woken for its rounds only, and loses its memory each time.
type sleeper struct {
	t     *testing.T
	log   *fakeLog
	now   time.Time
	start time.Time
	state []byte

	subscribers int
	crawl       func(r *http.Request) (*http.Response, error)
	seq         func() int64 // that the relay has seen
	asked       []string
	looks       int
}

func newSleeper(t *testing.T) *sleeper {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &sleeper{t: t, log: newLog(100), now: at, start: at, subscribers: 1}
	s.crawl = func(r *http.Request) (*http.Response, error) { return answer(r, 200, ""), nil }
	s.seq = func() int64 { return s.log.newest }
	return s
}

func (s *sleeper) notifier() *crawl.Notifier {
	return &crawl.Notifier{
		Hostname: host, Relays: []string{relayAddr}, Events: s.log, Now: func() time.Time { return s.now },
		Subscribers: func() int { return s.subscribers },
		HTTP: &http.Client{Transport: network(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return s.crawl(r)
			}
			s.looks++
			return answer(r, 200, fmt.Sprintf(`{"hostname":%q,"seq":%d,"status":"active"}`, host, s.seq())), nil
		})},
		Asked: func(r crawl.Request) {
			line := fmt.Sprintf("+%v %s", s.now.Sub(s.start), r.Reason)
			if r.Err != nil {
				line += " failed"
			}
			s.asked = append(s.asked, line)
		},
	}
}

// due is when a host that has just been woken wants to be woken next.
func (s *sleeper) due() time.Time { return s.notifier().Rounds(s.state).Due(s.log.newest) }

// until passes the time until so long after the start, and wakes the host whenever it wants to be.
func (s *sleeper) until(d time.Duration) (wakes int) {
	s.t.Helper()
	for end := s.start.Add(d); ; wakes++ {
		due := s.due()
		if due.IsZero() || due.After(end) {
			s.now = end
			return wakes
		}
		if wakes > 200 {
			s.t.Fatal("the host is woken without end")
		}
		if due.After(s.now) {
			s.now = due
		}
		r := s.notifier().Rounds(s.state)
		if err := r.Turn(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		s.state = r.State()
	}
}

func (s *sleeper) want(asked ...string) {
	s.t.Helper()
	if diff := cmp.Diff(asked, s.asked); diff != "" {
		s.t.Errorf("asked (-want +got):\n%s", diff)
	}
	s.asked = nil
}

// A host is told of like one that runs all the time, and then sleeps for good.
func TestRoundsSleepWhenAllIsTold(t *testing.T) {
	s := newSleeper(t)
	if n := s.until(24 * time.Hour); n != 1 || s.looks > 0 {
		t.Errorf("woken %d times, %d looks at the relay", n, s.looks)
	}
	s.want("+0s start")
	s.log.write(1, nil)
	s.until(25 * time.Hour)
	s.want("+24h0m0s written")
	s.log.write(1, nil)
	s.until(25*time.Hour + time.Minute)
	s.log.write(1, nil)
	s.until(25*time.Hour + 30*time.Minute)
	s.want("+25h0m0s written", "+25h20m0s written")
	if s.until(240 * time.Hour); s.looks == 0 {
		t.Error("nobody has looked whether the relay follows")
	}
	s.want()
	if due := s.due(); !due.IsZero() {
		t.Errorf("it is woken at %v, after days of silence", due)
	}
}

// A relay that never comes is asked now and then, and does not wake a silent host for ever.
func TestRoundsRelayThatNeverFollows(t *testing.T) {
	s := newSleeper(t)
	s.subscribers, s.seq = 0, func() int64 { return 3 }
	s.until(0)
	s.log.write(1, nil)
	if n := s.until(1000 * time.Hour); n > 12 {
		t.Errorf("woken %d times", n)
	}
	if due := s.due(); !due.IsZero() {
		t.Errorf("it is still woken at %v", due)
	}
	if len(s.asked) < 3 {
		t.Errorf("asked only %v", s.asked)
	}
}

func TestRoundsRelayFails(t *testing.T) {
	s := newSleeper(t)
	s.crawl = func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }
	s.until(1000 * time.Hour)
	s.want("+0s start failed", "+1m0s start failed", "+3m0s start failed", "+7m0s start failed", "+15m0s start failed", "+31m0s start failed")
	if due := s.due(); !due.IsZero() {
		t.Errorf("it is still woken at %v", due)
	}
}

// The last subscriber leaves, and the host goes to sleep before it has asked.
func TestRoundsSubscriberLeavesBeforeSleep(t *testing.T) {
	s := newSleeper(t)
	s.until(time.Hour)
	s.want("+0s start")
	r := s.notifier().Rounds(s.state)
	r.Left()
	s.subscribers, s.state = 0, r.State()
	s.until(2 * time.Hour)
	s.want("+1h0m30s unwatched")
}

// What a host has kept may be damaged, or of another version: it starts anew, and asks at most once
// too often.
func TestRoundsDamagedState(t *testing.T) {
	for _, state := range []string{"", "null", "{", `{"relays":{"` + relayAddr + `":{"gap":-5,"failed":99,"reason":"x"}}}`, `{"relays":[]}`, `{"Newest":1}`, "\xff"} {
		s := newSleeper(t)
		s.state = []byte(state)
		if n := s.until(time.Hour); n > 4 {
			t.Errorf("%q: woken %d times", state, n)
		}
	}
}

// A host without a single event is not a new one each time that it is woken.
func TestRoundsEmptyLog(t *testing.T) {
	s := newSleeper(t)
	s.log.newest = 0
	s.until(24 * time.Hour)
	s.want("+0s start")
	s.log.write(1, nil)
	s.until(24*time.Hour + time.Minute)
	s.want("+24h0m0s written")
}

func TestRoundsLogFails(t *testing.T) {
	s := newSleeper(t)
	fault := errors.New("no log")
	s.log.write(0, fault)
	if err := s.notifier().Rounds(nil).Turn(t.Context()); !errors.Is(err, fault) {
		t.Error(err)
	}
}
