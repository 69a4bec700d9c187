package sleep_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
)

func TestFor(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	tests := []struct {
		name  string
		until time.Duration // the context's end; 0: never, negative: it has ended
		d     time.Duration
		took  time.Duration
		err   error
	}{
		{"time", 0, time.Minute, time.Minute, nil},
		{"zero", 0, 0, 0, nil},
		{"negative", 0, -time.Hour, 0, nil},
		{"context first", time.Second, time.Minute, time.Second, context.DeadlineExceeded},
		{"context later", time.Hour, time.Minute, time.Minute, nil},
		{"ended", -1, time.Minute, 0, context.Canceled},
		{"ended, zero", -1, 0, 0, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, begin := t.Context(), time.Now()
				switch {
				case tt.until < 0:
					ctx = ended
				case tt.until > 0:
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.until)
					defer cancel()
				}
				if err := sleep.For(ctx, tt.d); !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Errorf("error %v, not %v", err, tt.err)
				}
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %v, not %v", took, tt.took)
				}
			})
		})
	}
}
