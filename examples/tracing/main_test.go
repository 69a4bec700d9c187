package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pdskit/pdskit/xrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestSpans(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	server := open(sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)).Tracer("test"))
	server.Methods.With("com.atproto.sync.listRepos", func(rt xrpc.Route) xrpc.Route {
		rt.Handler = rt.Handler.Wrap(func(http.ResponseWriter, *xrpc.Request, func(http.ResponseWriter, *xrpc.Request) error) error {
			return errors.New("the store is gone")
		})
		return rt
	})
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	for i, c := range []struct {
		method string
		status int
		code   codes.Code
	}{
		{"com.atproto.server.describeServer", http.StatusOK, codes.Unset},
		{"com.atproto.server.getSession", http.StatusUnauthorized, codes.Unset},
		{"com.atproto.sync.listRepos", http.StatusInternalServerError, codes.Error},
	} {
		r := httptest.NewRequest("GET", "/xrpc/"+c.method, nil)
		r.Header.Set("Traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
		server.ServeHTTP(httptest.NewRecorder(), r)
		ended := spans.Ended()
		if len(ended) != i+1 {
			t.Fatalf("%s: %d spans", c.method, len(ended))
		}
		s := ended[i]
		got := attribute.NewSet(s.Attributes()...)
		method, _ := got.Value("rpc.method")
		status, _ := got.Value("http.response.status_code")
		if method.AsString() != c.method || int(status.AsInt64()) != c.status || s.Status().Code != c.code || s.Parent().TraceID().String() != parent {
			t.Errorf("%s: %v, %v, parent %s", c.method, s.Attributes(), s.Status(), s.Parent().TraceID())
		}
	}
}
