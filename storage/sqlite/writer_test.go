package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

var errStep = errors.New("the step fails")

// Steps of one transaction: whichever of them fails, and whether or not they may run again, the
// others are committed, once, and nothing is left of those that fail.
func TestFailingStepInGroup(t *testing.T) {
	writes := func(key string) func(*conn) error {
		return func(c *conn) error {
			_, err := c.get(hostKeys, key, time.Now())
			if err == nil {
				return fmt.Errorf("%s is there already", key)
			}
			return c.set(hostKeys, key, []byte("value"), time.Time{})
		}
	}
	fails := func(key string) func(*conn) error {
		return func(c *conn) error { return errors.Join(writes(key)(c), errStep) }
	}
	early := func(*conn) error { return errStep }
	panics := func(key string) func(*conn) error {
		return func(c *conn) error {
			if err := writes(key)(c); err != nil {
				return err
			}
			panic(errStep)
		}
	}
	again := func(fn func(*conn) error) step { return step{fn: fn, retryable: true} }
	once := func(fn func(*conn) error) step { return step{fn: fn} }
	for name, steps := range map[string][]step{
		"all go well":                  {again(writes("0")), again(writes("1")), once(writes("2"))},
		"the last fails":               {again(writes("0")), again(writes("1")), again(fails("2"))},
		"the first fails":              {again(fails("0")), again(writes("1")), again(writes("2"))},
		"two fail":                     {again(writes("0")), again(fails("1")), again(writes("2")), again(fails("3"))},
		"one fails that did nothing":   {again(writes("0")), again(early), again(writes("2"))},
		"one panics":                   {again(writes("0")), again(panics("1")), again(writes("2"))},
		"one that runs once is there":  {again(writes("0")), once(writes("1")), again(fails("2"))},
		"one that runs once fails":     {again(writes("0")), once(fails("1")), again(writes("2"))},
		"one alone fails":              {again(writes("0")), {fn: fails("1"), exclusive: true}, again(writes("2"))},
		"one alone is between":         {again(writes("0")), {fn: writes("1"), exclusive: true}, again(fails("2"))},
		"one that runs once is before": {once(writes("0")), again(fails("1")), once(panics("2")), again(writes("3"))},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			w := &db.writer
			runs, errs := make([]int, len(steps)), make([]error, len(steps))
			after := make([]int, len(steps))
			w.turn <- struct{}{} // so that all wait for it, mostly in order
			var done sync.WaitGroup
			for i, s := range steps {
				fn := s.fn
				s.fn = func(c *conn) error {
					runs[i]++
					return fn(c)
				}
				s.after = func() { after[i]++ }
				done.Go(func() {
					defer func() {
						if p := recover(); p != nil {
							errs[i] = p.(error)
						}
					}()
					errs[i] = w.do(ctx, s)
				})
				for int(w.waiting.Load()) != i+1 {
					runtime.Gosched()
				}
			}
			<-w.turn
			done.Wait()
			for i, err := range errs {
				if most := 1 + map[bool]int{true: 1}[steps[i].retryable]; runs[i] < 1 || runs[i] > most {
					t.Errorf("step %d ran %d times", i, runs[i])
				}
				there := db.read(ctx, func(c *conn) error {
					_, err := c.get(hostKeys, fmt.Sprint(i), time.Now())
					return err
				}) == nil
				if err != nil && !errors.Is(err, errStep) || there != (err == nil) || after[i] != map[bool]int{true: 1}[there] {
					t.Errorf("step %d: %v; what it wrote is there: %v; it was told of the commit %d times", i, err, there, after[i])
				}
			}
		})
	}
}
