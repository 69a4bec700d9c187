package xrpc_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
)

// An error whose status is none is a fault of the program: it is answered with status 500.
func TestErrorsWithoutAStatus(t *testing.T) {
	for status, want := range map[int]int{0: 400, -1: 500, 7: 500, 99: 500, 200: 500, 204: 500, 600: 500, 99999: 500, 400: 400, 599: 599} {
		rec := httptest.NewRecorder()
		if xrpc.WriteError(rec, &xrpc.Error{Status: status}); rec.Code != want {
			t.Errorf("status %d is answered with %d, want %d", status, rec.Code, want)
		}
	}
	rec := httptest.NewRecorder()
	if xrpc.WriteError(rec, (*xrpc.Error)(nil)); rec.Code != 500 {
		t.Errorf("a nil error is answered with %d", rec.Code)
	}
}

// A route whose function is nil is refused when it is registered.
func TestRoutesWithoutAFunction(t *testing.T) {
	for name, h := range map[string]xrpc.Handler{
		"no handler": {}, "Query": xrpc.Query[struct{}, struct{}](nil), "RawQuery": xrpc.RawQuery[struct{}](nil), "Any": xrpc.Any(nil),
		"Procedure": xrpc.Procedure[struct{}, struct{}](nil), "RawProcedure": xrpc.RawProcedure(nil), "Subscription": xrpc.Subscription(nil),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was registered", name)
				}
			}()
			new(xrpc.Server).Handle(xrpc.Route{NSID: "com.example.method", Handler: h})
		}()
	}
}

// Routes are registered before the first request: a map that changes under requests would end the
// process.
func TestRoutesAfterTheFirstRequest(t *testing.T) {
	rt := xrpc.Route{NSID: "com.example.method", Handler: xrpc.Query(func(context.Context, *xrpc.Request, struct{}) (xrpc.None, error) { return xrpc.None{}, nil })}
	for name, change := range map[string]func(*xrpc.Server){
		"Handle":  func(s *xrpc.Server) { other := rt; other.NSID = "com.example.other"; s.Handle(other) },
		"Replace": func(s *xrpc.Server) { s.Replace(rt) },
		"With":    func(s *xrpc.Server) { s.With(rt.NSID, func(rt xrpc.Route) xrpc.Route { return rt }) },
	} {
		s := new(xrpc.Server)
		s.Handle(rt)
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/xrpc/com.example.method", nil))
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, "after the first request") {
					t.Errorf("%s: %q", name, text)
				}
			}()
			change(s)
		}()
	}
}
