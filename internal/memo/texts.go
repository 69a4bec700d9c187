package memo

import "sync"

// Texts remembers what texts stand for, by the texts themselves. It is safe for concurrent use.
type Texts[V any] struct {
	max, maxBytes int
	mu            sync.RWMutex
	m             map[string]V
}

// NewTexts returns one that forgets everything when it has max values and another one comes. It
// does not remember texts of more than maxBytes.
func NewTexts[V any](max, maxBytes int) *Texts[V] {
	return &Texts[V]{max: max, maxBytes: maxBytes, m: make(map[string]V)}
}

// Of returns the value of a text: the one that is remembered, or that parse returns. Values are
// shared, so there must be nothing in them that anybody changes. Errors are not remembered.
func (t *Texts[V]) Of(text []byte, parse func([]byte) (V, error)) (V, error) {
	t.mu.RLock()
	v, ok := t.m[string(text)]
	t.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := parse(text)
	if err != nil || len(text) > t.maxBytes {
		return v, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.m) >= t.max {
		clear(t.m)
	}
	t.m[string(text)] = v
	return v, nil
}

// Has reports whether a text is remembered.
func (t *Texts[V]) Has(text []byte) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.m[string(text)]
	return ok
}
