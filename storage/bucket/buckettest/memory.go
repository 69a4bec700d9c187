package buckettest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/storage/bucket"
)

// Memory is a bucket in memory. The zero value is empty. It is safe for concurrent use.
type Memory struct {
	mu  sync.Mutex
	all map[string][]byte
}

var _ bucket.Bucket = (*Memory)(nil)

// Put implements bucket.Bucket.
func (m *Memory) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := io.ReadAll(contextReader{ctx, body})
	if err != nil {
		return err
	}
	if size >= 0 && int64(len(b)) != size {
		return fmt.Errorf("buckettest: a body of %d bytes, not of %d", len(b), size)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = make(map[string][]byte)
	}
	m.all[name] = b
	return nil
}

// Get implements bucket.Bucket.
func (m *Memory) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.all[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", bucket.ErrNoObject, name)
	}
	if length == -1 {
		length = int64(len(b)) - offset
	}
	if offset < 0 || length <= 0 || offset+length > int64(len(b)) {
		return nil, fmt.Errorf("buckettest: %d bytes from %d of an object of %d", length, offset, len(b))
	}
	return io.NopCloser(contextReader{ctx, bytes.NewReader(b[offset : offset+length])}), nil
}

// Delete implements bucket.Bucket.
func (m *Memory) Delete(ctx context.Context, names ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range names {
		delete(m.all, n)
	}
	return nil
}

// List implements bucket.Bucket. It lists the objects that existed when it began.
func (m *Memory) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	return func(yield func(bucket.Object, error) bool) {
		for _, o := range m.objects() {
			if err := ctx.Err(); err != nil {
				yield(bucket.Object{}, err)
				return
			}
			if strings.HasPrefix(o.Name, prefix) && o.Name > after && !yield(o, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(bucket.Object{}, err)
		}
	}
}

// objects are all objects, in the order of their names.
func (m *Memory) objects() []bucket.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]bucket.Object, 0, len(m.all))
	for _, n := range slices.Sorted(maps.Keys(m.all)) {
		list = append(list, bucket.Object{Name: n, Size: int64(len(m.all[n]))})
	}
	return list
}

// Len returns the number of objects.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.all)
}

// contextReader fails when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
