package limit

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Error says that there is no room for a request.
type Error struct {
	// What is the name of the class or gate.
	What string
	// Own is set if the client's own network holds too much. Otherwise all networks together do.
	Own bool
	// RetryAfter is when to retry.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Own {
		return fmt.Sprintf("limit: %s: too many requests from this network", e.What)
	}
	return fmt.Sprintf("limit: %s: too many requests", e.What)
}

// Status returns the status code of the response: 429 or 503.
func (e *Error) Status() int {
	if e.Own {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// Header returns the header of the response, with Retry-After.
func (e *Error) Header() http.Header {
	seconds := max(1, int64((e.RetryAfter+time.Second-1)/time.Second))
	return http.Header{"Retry-After": {strconv.FormatInt(seconds, 10)}}
}

// Message returns the text for the response.
func (e *Error) Message() string {
	if e.Own {
		return "Too many requests at a time from this network"
	}
	return "The server is busy"
}

// retryAfter is what refused clients are told, if nothing else is known.
const retryAfter = 5 * time.Second
