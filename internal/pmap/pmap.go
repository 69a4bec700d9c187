// Package pmap is a persistent ordered map with string keys: every change makes a new map that
// shares most of its nodes with the old one, which does not change. So a snapshot costs nothing,
// and readers need no lock.
package pmap

import (
	"hash/maphash"
	"iter"
)

// Map is an immutable map. The zero value is the empty map.
type Map[V any] struct {
	root *node[V]
	size int
}

// node is a node of a treap: a search tree by key, a heap by priority. Priorities
// are hashes of the keys, so the expected depth is logarithmic.
type node[V any] struct {
	key         string
	value       V
	priority    uint64
	left, right *node[V]
}

var seed = maphash.MakeSeed()

// Len returns the number of keys.
func (m Map[V]) Len() int { return m.size }

// Get returns the value of a key.
func (m Map[V]) Get(key string) (v V, ok bool) {
	for n := m.root; n != nil; {
		switch {
		case key < n.key:
			n = n.left
		case key > n.key:
			n = n.right
		default:
			return n.value, true
		}
	}
	return v, false
}

// Set returns the map with a key set to a value.
func (m Map[V]) Set(key string, v V) Map[V] {
	if _, ok := m.Get(key); !ok {
		m.size++
	}
	m.root = set(m.root, &node[V]{key: key, value: v, priority: maphash.String(seed, key)})
	return m
}

func set[V any](n, fresh *node[V]) *node[V] {
	switch {
	case n == nil:
		return fresh
	case fresh.key == n.key:
		c := *n
		c.value = fresh.value
		return &c
	case fresh.priority > n.priority:
		fresh.left, fresh.right = split(n, fresh.key)
		return fresh
	}
	c := *n
	if fresh.key < n.key {
		c.left = set(n.left, fresh)
	} else {
		c.right = set(n.right, fresh)
	}
	return &c
}

// split returns the nodes before and after a key, leaving out the key itself.
func split[V any](n *node[V], key string) (l, r *node[V]) {
	if n == nil {
		return nil, nil
	}
	c := *n
	switch {
	case n.key < key:
		c.right, r = split(n.right, key)
		return &c, r
	case n.key > key:
		l, c.left = split(n.left, key)
		return l, &c
	default:
		return n.left, n.right
	}
}

// Delete returns the map without a key.
func (m Map[V]) Delete(key string) Map[V] {
	if _, ok := m.Get(key); ok {
		m.root = remove(m.root, key)
		m.size--
	}
	return m
}

func remove[V any](n *node[V], key string) *node[V] {
	c := *n
	switch {
	case key < n.key:
		c.left = remove(n.left, key)
	case key > n.key:
		c.right = remove(n.right, key)
	default:
		return join(n.left, n.right)
	}
	return &c
}

func join[V any](l, r *node[V]) *node[V] {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.priority > r.priority:
		c := *l
		c.right = join(l.right, r)
		return &c
	default:
		c := *r
		c.left = join(l, r.left)
		return &c
	}
}

// Range yields the pairs with from ≤ key < to, in key order or backwards. An
// empty bound is none.
func (m Map[V]) Range(from, to string, reverse bool) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		var walk func(n *node[V]) bool
		walk = func(n *node[V]) bool {
			if n == nil {
				return true
			}
			inFrom, inTo := n.key >= from, to == "" || n.key < to
			first, second := n.left, n.right
			goFirst, goSecond := inFrom, inTo
			if reverse {
				first, second, goFirst, goSecond = second, first, goSecond, goFirst
			}
			return (!goFirst || walk(first)) && (!inFrom || !inTo || yield(n.key, n.value)) && (!goSecond || walk(second))
		}
		walk(m.root)
	}
}
