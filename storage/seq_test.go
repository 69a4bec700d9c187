package storage_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
)

func TestNextSeq(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ahead := now.Add(2 * time.Hour).UnixMicro()
	for _, tt := range []struct {
		name string
		last int64
		now  time.Time
		want int64
	}{
		{"the first", 0, now, now.UnixMicro()},
		{"after an older one", 5, now, now.UnixMicro()},
		{"in the same microsecond", now.UnixMicro(), now, now.UnixMicro() + 1},
		{"after a clock that was ahead", ahead, now, ahead + 1},
		{"a clock before 1970", 5, time.Unix(-1, 0), 6},
		{"the zero time", 0, time.Time{}, 1},
		{"a clock that JavaScript cannot follow", 5, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), 6},
		{"a clock beyond all numbers", 5, time.Date(400_000, 1, 1, 0, 0, 0, 0, time.UTC), 6},
	} {
		if got := storage.NextSeq(tt.last, tt.now); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
