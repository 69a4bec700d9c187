// Tracing shows the requests to a PDS as spans of OpenTelemetry.
//
//	go run ./examples/tracing
//	curl http://localhost:2591/xrpc/com.atproto.server.describeServer
//
// It writes the spans to standard output. Another exporter sends them to a collector. The library
// itself does not depend on OpenTelemetry: it has a hook, pds.Hooks.Trace.
package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/pds"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// requests returns a hook that makes a span of each request, below that of the client if it has
// sent one (W3C Trace Context).
func requests(tracer trace.Tracer) func(r *xrpc.Request) (end func(status int)) {
	return func(r *xrpc.Request) func(status int) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, "XRPC", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("rpc.system", "xrpc"), attribute.String("rpc.method", string(r.NSID)), attribute.String("xrpc.request_id", r.ID)))
		r.Request = r.WithContext(ctx) // what the method does is below the span
		return func(status int) {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
			if did := r.Principal.DID; did != "" {
				span.SetAttributes(attribute.String("atproto.did", string(did)))
			}
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, http.StatusText(status))
			}
			span.End()
		}
	}
}

// open makes a PDS in memory whose requests are traced.
func open(tracer trace.Tracer) *pds.Server {
	rotation := must(crypto.GenerateKey(crypto.K256))
	return must(pds.New(pds.Config{
		URL: "http://localhost:2591", Development: true, Store: memory.New(memory.Config{}),
		Secrets:   pds.Secrets{MasterKeys: [][]byte{make([]byte, 32)}, RotationKeys: []crypto.Signer{rotation}},
		Directory: must(plctest.New(plctest.Config{})).Client(),
		Hooks:     pds.Hooks{Trace: requests(tracer)},
	}))
}

func main() {
	spans := sdk.NewTracerProvider(sdk.WithBatcher(must(stdouttrace.New())))
	defer spans.Shutdown(context.Background())
	server := open(spans.Tracer("pds"))
	go server.Run(context.Background())
	fmt.Println(http.ListenAndServe("localhost:2591", server))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
