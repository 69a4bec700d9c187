package crawl_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/crawl"
)

func TestOrders(t *testing.T) {
	run(t, nil, func(w *world) {
		w.wantAsked("+0s start")
		list := w.n.Status()
		if len(list) != 1 || list[0].Relay != relayAddr || list[0].Request.Reason != crawl.Start || list[0].AskedAt.IsZero() || !list[0].CheckedAt.IsZero() {
			t.Fatalf("%+v", list)
		}
		if _, err := w.n.Ask(w.t.Context(), relayAddr); !errors.Is(err, crawl.ErrTooSoon) {
			t.Error("at once:", err)
		}
		if _, err := w.n.Ask(w.t.Context(), "https://other.example.net"); !errors.Is(err, crawl.ErrNoRelay) {
			t.Error("another relay:", err)
		}
		if _, err := w.n.Look(w.t.Context(), "https://other.example.net"); !errors.Is(err, crawl.ErrNoRelay) {
			t.Error("another relay:", err)
		}
		w.at(time.Minute)
		w.write() // planned for +20m
		if w.n.Status()[0].Planned.IsZero() {
			t.Error("nothing is planned")
		}
		req, err := w.n.Ask(w.t.Context(), relayAddr)
		if err != nil || req.Err != nil || req.Reason != crawl.Ordered {
			t.Errorf("%+v, %v", req, err)
		}
		w.at(time.Hour - time.Minute)
		w.wantAsked("+1m0s ordered") // it has told of the write, so nothing else is left
		check, err := w.n.Look(w.t.Context(), relayAddr)
		if err != nil || check.Err != nil || check.Problem != crawl.None || *check.Status.Seq != 101 {
			t.Errorf("%+v, %v", check, err)
		}
		if _, err := w.n.Look(w.t.Context(), relayAddr); !errors.Is(err, crawl.ErrTooSoon) {
			t.Error("twice:", err)
		}
		if s := w.n.Status()[0]; s.Check.Newest != 101 || s.CheckedAt.IsZero() || !s.Planned.IsZero() {
			t.Errorf("%+v", s)
		}
		w.stop()
		time.Sleep(time.Second)
		if list := w.n.Status(); len(list) != 0 {
			t.Errorf("ended: %+v", list)
		}
		if _, err := w.n.Ask(w.t.Context(), relayAddr); !errors.Is(err, crawl.ErrNoRelay) {
			t.Error("ended:", err)
		}
	})
}

// An operator who insists does not talk to a relay that wants to be left alone.
func TestOrderToRelayThatRefuses(t *testing.T) {
	run(t, func(w *world) {
		w.crawl = func(r *http.Request) (*http.Response, error) {
			return answer(r, 429, `{"error":"RateLimitExceeded"}`, "Retry-After", "3600"), nil
		}
	}, func(w *world) {
		w.at(30 * time.Minute)
		if _, err := w.n.Ask(w.t.Context(), relayAddr); !errors.Is(err, crawl.ErrTooSoon) {
			t.Error(err)
		}
		w.at(2*time.Hour - time.Minute)
		w.wantAsked("+0s start RateLimitExceeded, again after 1h0m0s", "+1h0m0s start RateLimitExceeded, again after 1h0m0s")
	})
}
