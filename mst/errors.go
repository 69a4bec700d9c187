package mst

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// Faults of a tree, or of an operation on one. Errors wrap these; test with errors.Is.
var (
	ErrEncoding       = errors.New("not the canonical encoding of a node")
	ErrPrefix         = errors.New("key prefix is longer than the key before, or not as long as it could be")
	ErrOrder          = errors.New("keys are not in strictly ascending order")
	ErrHeight         = errors.New("key or node at the wrong height")
	ErrInvalidKey     = errors.New("invalid key")
	ErrLink           = errors.New("link is not a CIDv1 of a SHA-256 hash with an allowed codec")
	ErrHash           = errors.New("block does not match its CID")
	ErrEmptyNode      = errors.New("node without content")
	ErrTooManyEntries = errors.New("too many entries in one node")
	ErrTooLarge       = errors.New("tree exceeds a limit")
	ErrPartial        = errors.New("a needed node is missing")
	ErrKeyNotFound    = errors.New("key not found")
	ErrDuplicateKey   = errors.New("key given twice")
	ErrMismatch       = errors.New("tree does not have the value that an operation claims")
	ErrProof          = errors.New("blocks do not prove the claim")
)

// Errors of wrong use: a fault of the program.
var (
	errNilTree    = errors.New("mst: the tree is nil")
	errNilSource  = errors.New("mst: the Source is nil")
	errNilEntries = errors.New("mst: the iterator is nil")
)

// Error describes a fault in a node of a tree.
type Error struct {
	Node   cid.Cid // undefined: not known, or no node
	Offset int     // in the node's bytes
	Key    string  // if the fault is about a key
	Err    error   // one of the errors above, or what a Source returned
}

func (e *Error) Error() string {
	msg := "mst: "
	if e.Node.Defined() {
		msg += fmt.Sprintf("node %s, byte %d: ", e.Node, e.Offset)
	}
	if e.Key != "" {
		msg += fmt.Sprintf("key %.80q: ", e.Key)
	}
	return msg + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Limits bounds reading and writing. Zero fields mean the defaults.
type Limits struct {
	// Entries bounds the keys of one node when it is read. Default 8192.
	// Writers keep to MaxEntries.
	Entries int
	// NodeBytes bounds the bytes of one node. Default 1 MiB.
	NodeBytes int
	// Height bounds the height of the root. Default 128, the greatest height that a key can have.
	Height int
	// Nodes bounds the number of nodes that one Load reads. Default 64 Mi.
	Nodes int
}

// MaxEntries is the limit on the keys of one node for Apply and Build. (A wider node that somebody
// else wrote may be changed as long as it does not grow.) The number of keys in a node follows a
// geometric distribution: honest keys fill a node with 512 with a probability of (3/4)^512, some
// 10^-64. Without the limit, somebody who chooses keys by their hashes could make nodes that others
// refuse to read.
const MaxEntries = 512

// MaxKeyLen is the length of the longest key in bytes.
const MaxKeyLen = 1024

const maxHeight = 128

func (l Limits) withDefaults() Limits {
	if l.Entries == 0 {
		l.Entries = 8192
	}
	if l.NodeBytes == 0 {
		l.NodeBytes = 1 << 20
	}
	if l.Height == 0 || l.Height > maxHeight {
		l.Height = maxHeight
	}
	if l.Nodes == 0 {
		l.Nodes = 64 << 20
	}
	return l
}
