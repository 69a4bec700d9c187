package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage/bucket"
)

// Run tests an implementation of bucket.Bucket. open returns a bucket. The bucket may have objects
// of earlier calls, whose names begin with other prefixes.
func Run(t *testing.T, open func(tb testing.TB) bucket.Bucket) {
	for _, l := range laws() {
		t.Run(l.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			l.check(&suite{TB: t, b: open(t), ctx: ctx, prefix: fmt.Sprintf("test-%x/", rand.Uint64())})
		})
	}
}

// law is a part of the contract.
type law struct {
	name  string
	check func(*suite)
}

func laws() []law {
	return []law{
		{"Put", putAndGet}, {"Broken", brokenBodies}, {"Ranges", ranges}, {"Missing", missing},
		{"Delete", deleteObjects}, {"List", list}, {"Pages", pages}, {"Concurrent", concurrent}, {"Canceled", canceled},
	}
}

// suite is a bucket under test.
type suite struct {
	testing.TB
	b      bucket.Bucket
	ctx    context.Context
	prefix string
}

func (s *suite) ok(err error, what string, args ...any) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

func (s *suite) put(name string, content []byte, size int64) {
	s.Helper()
	s.ok(s.b.Put(s.ctx, s.prefix+name, onlyReader{bytes.NewReader(content)}, size), "Put of %d bytes", len(content))
}

// onlyReader hides that a reader can seek, and reads in odd pieces.
type onlyReader struct{ r io.Reader }

func (r onlyReader) Read(b []byte) (int, error) { return r.r.Read(b[:min(len(b), 40_009)]) }

// has compares an object.
func (s *suite) has(name string, content []byte) {
	s.Helper()
	if len(content) == 0 { // a range must not be empty
		objects := s.list(name, "")
		if len(objects) != 1 || objects[0] != (bucket.Object{Name: name}) {
			s.Errorf("an empty object is listed as %v", objects)
		}
		return
	}
	r, err := s.b.Get(s.ctx, s.prefix+name, 0, -1)
	s.ok(err, "Get")
	got, err := io.ReadAll(r)
	s.ok(errors.Join(err, r.Close()), "read")
	if !bytes.Equal(got, content) {
		s.Errorf("object %s has %d other bytes than the %d that were put", name, len(got), len(content))
	}
}

// list are the objects, without the suite's prefix.
func (s *suite) list(prefix, after string) (all []bucket.Object) {
	s.Helper()
	if after != "" {
		after = s.prefix + after
	}
	for o, err := range s.b.List(s.ctx, s.prefix+prefix, after) {
		s.ok(err, "List")
		o.Name = strings.TrimPrefix(o.Name, s.prefix)
		all = append(all, o)
	}
	return all
}

func (s *suite) absent(name string) {
	s.Helper()
	r, err := s.b.Get(s.ctx, s.prefix+name, 0, -1)
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	if !errors.Is(err, bucket.ErrNoObject) {
		s.Errorf("Get of a missing object: %v", err)
	}
	if l := s.list(name, ""); len(l) > 0 {
		s.Errorf("a missing object is listed as %v", l)
	}
}

// random are bytes that differ in each call.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(rand.Uint32())})
	_, _ = r.Read(b)
	return b
}

func putAndGet(s *suite) {
	for _, n := range []int{0, 1, 70_000, 5<<20 - 1, 5 << 20, 11<<20 + 3} {
		for _, known := range []bool{true, false} {
			name, content, size := fmt.Sprintf("dir/%d-%v", n, known), random(n), int64(-1)
			if known {
				size = int64(n)
			}
			s.put(name, content, size)
			s.has(name, content)
			if l := s.list(name, ""); len(l) != 1 || l[0].Size != int64(n) {
				s.Errorf("an object of %d bytes is listed as %v", n, l)
			}
		}
	}
}

// brokenBodies: an upload that breaks off stores nothing, and says why.
func brokenBodies(s *suite) {
	broken := errors.New("broken body")
	for _, n := range []int{0, 100, 6 << 20, 11 << 20} {
		for _, size := range []int64{-1, int64(n) + 1} {
			name := fmt.Sprintf("broken-%d-%d", n, size)
			body := io.MultiReader(onlyReader{bytes.NewReader(random(n))}, failing{broken})
			if err := s.b.Put(s.ctx, s.prefix+name, body, size); !errors.Is(err, broken) {
				s.Errorf("Put of a body that breaks off after %d bytes: %v", n, err)
			}
			s.absent(name)
		}
	}
	for _, size := range []int64{9, 11, 6 << 20} {
		name := fmt.Sprintf("size-%d", size)
		if err := s.b.Put(s.ctx, s.prefix+name, onlyReader{strings.NewReader("0123456789")}, size); err == nil {
			s.Errorf("a body of 10 bytes was taken for one of %d", size)
		}
		s.absent(name)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func ranges(s *suite) {
	content := random(6<<20 + 100)
	s.put("ranges", content, -1)
	n := int64(len(content))
	for _, r := range [][2]int64{{0, 1}, {0, n}, {0, -1}, {1, -1}, {n - 1, -1}, {n - 1, 1}, {5<<20 - 3, 6}, {70_000, 1 << 20}} {
		body, err := s.b.Get(s.ctx, s.prefix+"ranges", r[0], r[1])
		s.ok(err, "Get of %d bytes from %d", r[1], r[0])
		got, err := io.ReadAll(body)
		s.ok(errors.Join(err, body.Close()), "read of %d bytes from %d", r[1], r[0])
		want := content[r[0]:]
		if r[1] >= 0 {
			want = want[:r[1]]
		}
		if !bytes.Equal(got, want) {
			s.Errorf("%d bytes from %d are %d other bytes", r[1], r[0], len(got))
		}
	}
	body, err := s.b.Get(s.ctx, s.prefix+"ranges", 0, -1)
	s.ok(err, "Get")
	_, err = io.ReadFull(body, make([]byte, 10))
	s.ok(err, "read of 10 bytes")
	_ = body.Close() // before its end
	s.has("ranges", content)
}

func missing(s *suite) {
	s.put("there", []byte("there"), 5)
	s.absent("missing")
	s.absent("ther/e")
	r, err := s.b.Get(s.ctx, s.prefix+"missing", 5, 3)
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	if !errors.Is(err, bucket.ErrNoObject) {
		s.Errorf("Get of a range of a missing object: %v", err)
	}
	s.ok(s.b.Delete(s.ctx, s.prefix+"missing"), "Delete of a missing object")
	s.has("there", []byte("there"))
}

func deleteObjects(s *suite) {
	s.put("a", []byte("a"), 1)
	s.put("b", []byte("b"), 1)
	s.put("c", []byte("c"), 1)
	s.ok(s.b.Delete(s.ctx), "Delete of nothing")
	s.ok(s.b.Delete(s.ctx, s.prefix+"a", s.prefix+"missing", s.prefix+"c"), "Delete")
	s.absent("a")
	s.absent("c")
	s.has("b", []byte("b"))
	s.put("a", []byte("other"), -1)
	s.has("a", []byte("other"))
}

func list(s *suite) {
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("%c-%d", 'A'+i*3%26, i))
	}
	want = append(want, "dir/x", "dir/y", "dir-z", "dir0", "z")
	for _, n := range want {
		s.put(n, []byte(n), int64(len(n)))
	}
	slices.Sort(want)
	for _, prefix := range []string{"", "A", "dir", "dir/", "nothing"} {
		for _, after := range append([]string{"", "dir/", "dir/x0", "zz"}, want...) {
			var got, names []string
			for _, o := range s.list(prefix, after) {
				got = append(got, o.Name)
			}
			for _, n := range want {
				if strings.HasPrefix(n, prefix) && n > after {
					names = append(names, n)
				}
			}
			if !slices.Equal(got, names) {
				s.Errorf("List(%q, %q) yields %q, not %q", prefix, after, got, names)
			}
		}
	}
	for range s.b.List(s.ctx, s.prefix, "") {
		break
	}
}

// pages: a listing of more objects than fit into an answer.
func pages(s *suite) {
	const n = 1050
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("page/%05d", i))
	}
	s.inParallel(n, func(i int) error {
		return s.b.Put(s.ctx, s.prefix+names[i], strings.NewReader("x"), 1)
	})
	var got []string
	for _, o := range s.list("page/", "") {
		got = append(got, o.Name)
	}
	if !slices.Equal(got, names) {
		s.Errorf("List yields %d objects, not %d in their order", len(got), n)
	}
	full := make([]string, n)
	for i, name := range names {
		full[i] = s.prefix + name
	}
	s.ok(s.b.Delete(s.ctx, full...), "Delete of %d objects", n)
	if l := s.list("page/", ""); len(l) > 0 {
		s.Errorf("%d objects are still there", len(l))
	}
}

// inParallel runs fn n times, some at a time.
func (s *suite) inParallel(n int, fn func(i int) error) {
	s.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				errs[i] = fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	s.ok(errors.Join(errs...), "in parallel")
}

// concurrent: uploads and reads at the same time do not mix.
func concurrent(s *suite) {
	contents := make([][]byte, 16)
	for i := range contents {
		contents[i] = random(100_000 + i)
	}
	contents[3] = random(6 << 20)
	contents[5] = random(6<<20 + 1)
	s.inParallel(len(contents), func(i int) error {
		name := fmt.Sprint(s.prefix, "concurrent-", i)
		if err := s.b.Put(s.ctx, name, onlyReader{bytes.NewReader(contents[i])}, -1); err != nil {
			return err
		}
		r, err := s.b.Get(s.ctx, name, 0, -1)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, contents[i]) {
			err = fmt.Errorf("object %d has other bytes", i)
		}
		return errors.Join(err, r.Close())
	})
}

func canceled(s *suite) {
	s.put("there", []byte("there"), 5)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	check := func(method string, err error) {
		s.Helper()
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s after the context ended: %v", method, err)
		}
	}
	check("Put", s.b.Put(ctx, s.prefix+"new", strings.NewReader("x"), 1))
	r, err := s.b.Get(ctx, s.prefix+"there", 0, -1)
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	check("Get", err)
	check("Delete", s.b.Delete(ctx, s.prefix+"there"))
	for _, err = range s.b.List(ctx, s.prefix, "") {
		if err != nil {
			break
		}
	}
	check("List", err)

	ctx, cancel = context.WithCancel(s.ctx)
	n := 0
	check("a long Put", s.b.Put(ctx, s.prefix+"new", readerFunc(func(b []byte) (int, error) {
		if n += len(b); n > 6<<20 {
			cancel()
			return 0, ctx.Err()
		}
		return len(b), nil
	}), -1))
	cancel()
	s.absent("new")
	s.has("there", []byte("there"))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
