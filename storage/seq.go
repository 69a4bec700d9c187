package storage

import "time"

// maxSeqFloor is the greatest number that the time alone leads to, in the year 2112. Consumers
// written in JavaScript cannot count beyond 2^53, and numbers never go back.
const maxSeqFloor = 1 << 52

// NextSeq returns the sequence number that follows last at a time: at least the time in
// microseconds, so that a store restored from a backup goes on beyond what its readers have seen.
// After a clock that was ahead, numbers stay ahead of the time and count up by one until it has
// caught up, which harms no reader. A time after the year 2111 is none: the number is then last+1.
func NextSeq(last int64, now time.Time) int64 {
	next := last + 1
	if floor := now.UnixMicro(); floor <= maxSeqFloor && now.Year() < 2112 {
		next = max(next, floor)
	}
	return next
}
