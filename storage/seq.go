package storage

import "time"

// maxSeqFloor is the greatest number that the time alone leads to, in the year 2112. Consumers
// written in JavaScript cannot count beyond 2^53, and numbers never go back.
const maxSeqFloor = 1 << 52

// NextSeq returns the sequence number that follows last: last+1, or the time in microseconds if
// that is greater. So a store restored from a backup continues beyond what its readers have seen.
// After the clock was ahead, numbers count up by one until the time has caught up, which harms no
// reader. A time after the year 2111 is not used: the number is then last+1.
func NextSeq(last int64, now time.Time) int64 {
	next := last + 1
	if floor := now.UnixMicro(); floor <= maxSeqFloor && now.Year() < 2112 {
		next = max(next, floor)
	}
	return next
}
