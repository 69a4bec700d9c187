package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage/bucket"
)

func TestMemory(t *testing.T) { Run(t, func(testing.TB) bucket.Bucket { return new(Memory) }) }

// hooks is a bucket of which some methods are other ones.
type hooks struct {
	bucket.Bucket
	put  func(ctx context.Context, name string, body io.Reader, size int64) error
	get  func(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	del  func(ctx context.Context, names ...string) error
	list func(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error]
}

func (h hooks) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	if h.put != nil {
		return h.put(ctx, name, body, size)
	}
	return h.Bucket.Put(ctx, name, body, size)
}

func (h hooks) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if h.get != nil {
		return h.get(ctx, name, offset, length)
	}
	return h.Bucket.Get(ctx, name, offset, length)
}

func (h hooks) Delete(ctx context.Context, names ...string) error {
	if h.del != nil {
		return h.del(ctx, names...)
	}
	return h.Bucket.Delete(ctx, names...)
}

func (h hooks) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	if h.list != nil {
		return h.list(ctx, prefix, after)
	}
	return h.Bucket.List(ctx, prefix, after)
}

// recorder is a testing.TB whose failure is what is wanted.
type recorder struct {
	testing.TB
	mu  sync.Mutex
	log []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Every part of the contract has a bucket that breaks it, and its check notices.
func TestMutants(t *testing.T) {
	mutants := []struct {
		name string
		law  string
		h    func(m *Memory) hooks
	}{
		{"cuts long objects", "Put", func(m *Memory) hooks {
			return hooks{put: func(ctx context.Context, name string, body io.Reader, size int64) error {
				return m.Put(ctx, name, io.LimitReader(body, 5<<20), -1)
			}}
		}},
		{"takes an error for the end", "Broken", func(m *Memory) hooks {
			return hooks{put: func(ctx context.Context, name string, body io.Reader, size int64) error {
				b, err := io.ReadAll(body)
				if putErr := m.Put(ctx, name, strings.NewReader(string(b)), -1); putErr != nil {
					return putErr
				}
				return err
			}}
		}},
		{"does not look at the size", "Broken", func(m *Memory) hooks {
			return hooks{put: func(ctx context.Context, name string, body io.Reader, size int64) error {
				return m.Put(ctx, name, body, -1)
			}}
		}},
		{"reads to the end", "Ranges", func(m *Memory) hooks {
			return hooks{get: func(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
				return m.Get(ctx, name, offset, -1)
			}}
		}},
		{"reads missing objects as empty ones", "Missing", func(m *Memory) hooks {
			return hooks{get: func(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
				r, err := m.Get(ctx, name, offset, length)
				if errors.Is(err, bucket.ErrNoObject) {
					return io.NopCloser(strings.NewReader("")), nil
				}
				return r, err
			}}
		}},
		{"deletes one object", "Delete", func(m *Memory) hooks {
			return hooks{del: func(ctx context.Context, names ...string) error { return m.Delete(ctx, names[:min(1, len(names))]...) }}
		}},
		{"lists from after on", "List", func(m *Memory) hooks {
			return hooks{list: func(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
				return m.List(ctx, prefix, after[:max(0, len(after)-1)])
			}}
		}},
		{"lists in another order", "List", func(m *Memory) hooks {
			return hooks{list: func(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
				return func(yield func(bucket.Object, error) bool) {
					var all []bucket.Object
					for o := range m.List(ctx, prefix, after) {
						all = append(all, o)
					}
					slices.Reverse(all)
					for _, o := range all {
						if !yield(o, nil) {
							return
						}
					}
				}
			}}
		}},
		{"lists one page", "Pages", func(m *Memory) hooks {
			return hooks{list: func(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
				return func(yield func(bucket.Object, error) bool) {
					n := 0
					for o, err := range m.List(ctx, prefix, after) {
						if n++; n > 1000 || !yield(o, err) {
							return
						}
					}
				}
			}}
		}},
		{"deletes one page", "Pages", func(m *Memory) hooks {
			return hooks{del: func(ctx context.Context, names ...string) error {
				return m.Delete(ctx, names[:min(1000, len(names))]...)
			}}
		}},
		{"mixes uploads", "Concurrent", func(m *Memory) hooks {
			var mu sync.Mutex
			last := []byte{}
			return hooks{put: func(ctx context.Context, name string, body io.Reader, size int64) error {
				b, _ := io.ReadAll(body)
				mu.Lock()
				b, last = last, b
				mu.Unlock()
				return m.Put(ctx, name, strings.NewReader(string(b)), -1)
			}}
		}},
		{"does not heed the context", "Canceled", func(m *Memory) hooks {
			return hooks{del: func(ctx context.Context, names ...string) error {
				return m.Delete(context.WithoutCancel(ctx), names...)
			}}
		}},
	}
	caught := map[string]bool{}
	for _, mut := range mutants {
		t.Run(strings.ReplaceAll(mut.name, " ", "_"), func(t *testing.T) {
			m := new(Memory)
			h := mut.h(m)
			h.Bucket = m
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				for _, l := range laws() {
					if l.name == mut.law {
						l.check(&suite{TB: r, b: h, ctx: ctx, prefix: "test/"})
					}
				}
			}()
			<-done
			if len(r.log) == 0 {
				t.Errorf("check %s does not notice that the bucket %s", mut.law, mut.name)
				return
			}
			caught[mut.law] = true
		})
	}
	for _, l := range laws() {
		if !caught[l.name] {
			t.Errorf("no mutant breaks %s", l.name)
		}
	}
}
