//go:build linux

package cloudflare_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
)

// The object ends before and after every call of its store in turn. What is stored is whole each time,
// an answer is only given for what is stored, and subscribers see exactly that.
func TestAborts(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	var seen []int64
	answered := 0
	for _, when := range []string{"before", "after"} {
		for n, done := 1, false; !done; n++ {
			if n > 100 {
				t.Fatal("createRecord makes more than 100 calls")
			}
			c := subscribe(t, s, lastOf(seen))
			status := createRecord(t, s, "X-Test-Abort", fmt.Sprint(when, " ", n))
			if done = status == 200; done {
				answered++
			} else if status != 500 {
				t.Errorf("%s call %d: status %d", when, n, status)
			}
			all := logged(t, s)
			if strings.TrimSpace(get(t, s, "/test/check")) != `"ok"` {
				t.Fatalf("%s call %d: the store is not whole", when, n)
			}
			if done {
				got, err := take(t, c, len(after(all, lastOf(seen))))
				same(t, "frames", got, after(all, lastOf(seen)))
				if err != nil {
					t.Error(err)
				}
				seen = append(seen, got...)
			} else {
				// Its sockets end with the object. Frames that came before are of the log.
				for {
					f, err := next(t, c)
					if err != nil {
						if errors.Is(err, context.DeadlineExceeded) {
							t.Fatal("the socket of an object that has ended stays open")
						}
						break
					}
					if seen = append(seen, f.Seq); !contains(all, f.Seq) {
						t.Errorf("%s call %d: frame %d is not in the log", when, n, f.Seq)
					}
				}
			}
			_ = c.CloseNow()
		}
	}
	if all := logged(t, s); len(all) < answered {
		t.Errorf("%d answers and %d events", answered, len(all))
	}
}

// The same with an account in one object and the directory with the log in another: before and after every
// call of the store and of the directory. Each record is in the log exactly once.
func TestDirectoryAborts(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create?object=account")
	answered, failed := 0, 0
	for _, when := range []string{"before", "after"} {
		for n, done := 1, false; !done; n++ {
			if n > 100 {
				t.Fatal("createRecord makes more than 100 calls")
			}
			status := createRecordAt(t, s, "?object=account", "X-Test-Abort", fmt.Sprint(when, " ", n))
			if done = status == 200; done {
				answered++
			} else if failed++; status != 500 {
				t.Errorf("%s call %d: status %d", when, n, status)
			}
			records := strings.Count(get(t, s, "/xrpc/com.atproto.repo.listRecords?object=account&limit=100&collection=com.example.note&repo=did:plc:ewvi7nxzyoun6zhxrhs64oiz"), `"uri"`)
			events := loggedAt(t, s, "?object=directory")
			// The first commit is an event too.
			if records+1 != len(events) || records < answered || records > answered+failed {
				t.Fatalf("%s call %d: %d records and %d events, after %d answers and %d failures", when, n, records, len(events), answered, failed)
			}
		}
	}
	if failed < 10 {
		t.Errorf("only %d calls failed", failed)
	}
}

// The directory is not told of a record that is committed, because it does not answer or the object ends.
// Nobody asks the object again: its alarm tells the directory.
func TestOwedIsDelivered(t *testing.T) {
	t.Parallel()
	s := startWorker(t, map[string]string{"GUARD": "1500"})
	get(t, s, "/test/create?object=account")
	for n, how := range []string{"owed", "owed aborted", "owed"} {
		if status := createRecordAt(t, s, "?object=account", "X-Test-Abort", how); status != 500 {
			t.Fatalf("status %d", status)
		}
		testenv.Until(t, "the directory is told", func() bool { return len(loggedAt(t, s, "?object=directory")) == n+2 })
	}
	// A change that was told leaves no alarm behind.
	if status := createRecordAt(t, s, "?object=account"); status != 200 {
		t.Fatalf("status %d", status)
	}
	if at := strings.TrimSpace(get(t, s, "/test/guard?object=account")); at != "null" {
		t.Errorf("the alarm is set: %s", at)
	}
}

func lastOf(seqs []int64) int64 {
	if len(seqs) == 0 {
		return 0
	}
	return seqs[len(seqs)-1]
}

func after(all []int64, seq int64) (list []int64) {
	for _, n := range all {
		if n > seq {
			list = append(list, n)
		}
	}
	return list
}

func contains(all []int64, seq int64) bool {
	for _, n := range all {
		if n == seq {
			return true
		}
	}
	return false
}

// A change that the object has made, and told its subscribers of, but which was not durable yet when it
// ended: neither an answer nor a frame leaves it unless it is stored.
func TestOutputGate(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	for range 5 {
		before := logged(t, s)
		c := subscribe(t, s, lastOf(before))
		if r, _ := do(t, s, "GET", "/test/gate", nil); r.StatusCode != 500 {
			t.Errorf("an answer of an object that has ended: %s", r.Status)
		}
		var frames []int64
		for {
			f, err := next(t, c)
			if err != nil {
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("the socket of an object that has ended stays open")
				}
				break
			}
			frames = append(frames, f.Seq)
		}
		if stored := after(logged(t, s), lastOf(before)); len(frames) > len(stored) {
			t.Errorf("frames %v of events that are not stored: %v", frames, stored)
		}
		get(t, s, "/test/check")
	}
}

// Rows that Cloudflare would refuse are never written, though workerd takes them.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	for _, n := range []int{1_899_000, 2_000_000, 5_000_000} {
		get(t, s, fmt.Sprint("/test/row?n=", n))
	}
	get(t, s, "/test/fill?n=190&size=10000") // one event of two megabytes
	for _, path := range []string{"/test/check", "/test/events"} {
		get(t, s, path)
	}
}
