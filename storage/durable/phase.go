package durable

import (
	"fmt"
	"slices"
	"sync/atomic"
)

// phase is where an open object is in its life:
//
//	            ┌──────────────────────────────────────────┐
//	            ▼                                          │ opened again
//	opening ─▶ unknown ─▶ settled ─▶ owing               doubtful
//	   │        ▲ │ └────────▲────────▲ │ │                ▲
//	   │        │ └──────────┼────────┘ │ │                │
//	   │        │            └──────────┘ │                │
//	   │        └─────────────────────────┘                │
//	   │                  settled ── a commit has failed ──┘
//	   ▼
//	  gone ◀── closing ◀── unknown, doubtful, owing, settled
//
// The table transitions says when each change happens. While the object is open, only the holder of
// the turn changes its phase. In opening, closing and gone nobody holds the turn, and the phase
// changes with DB.mu held.
type phase uint32

const (
	opening  phase = iota // the store is being opened
	unknown               // it is open, but what is stored, or what the directory knows, has not been read
	settled               // all is known, and the directory knows of it: a change may begin
	owing                 // a change is in the object, and the directory may not know of it yet
	doubtful              // a commit has failed: only opening the store anew tells what is stored
	closing               // nobody uses it, and it is being closed
	gone                  // it is closed
)

var phaseNames = [...]string{"opening", "unknown", "settled", "owing", "doubtful", "closing", "gone"}

func (p phase) String() string { return phaseNames[p] }

// transitions lists all allowed changes of phase.
var transitions = map[phase][]phase{
	opening: {
		unknown, // the store is open
		gone,    // it could not be opened
	},
	unknown: {
		settled, // all was read
		owing,   // all was read, and there is an outbox that the directory does not know of
		closing,
	},
	settled: {
		owing,    // a change was committed that the directory has to be told of
		doubtful, // a commit has failed
		closing,
	},
	owing: {
		settled, // the outbox was delivered
		unknown, // the delivery has failed, and may have been carried out all the same
		closing,
	},
	doubtful: {
		unknown, // the store was opened again
		closing,
	},
	closing: {gone},
	gone:    {},
}

// phases is an object's phase.
type phases struct{ now atomic.Uint32 }

func (p *phases) is(is phase) bool { return phase(p.now.Load()) == is }

// to changes the phase. It panics if the change is not in the table, which would be a bug of this
// package.
func (p *phases) to(next phase) {
	if from := phase(p.now.Swap(uint32(next))); !slices.Contains(transitions[from], next) {
		panic(fmt.Sprintf("durable: an object goes from %v to %v", from, next))
	}
}
