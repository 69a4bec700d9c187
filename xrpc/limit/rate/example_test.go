package rate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
)

func Example() {
	// The limits of the official server, but for one.
	table := rate.Official()
	table.Methods["com.example.search"] = rate.Rule{By: rate.Network, Windows: []rate.Window{{Points: 2, Length: time.Minute}}}
	limits := rate.New(rate.Config{Table: table})

	srv := &xrpc.Server{Admit: limits.Admit, Limit: limits.Limit}
	srv.Handle(xrpc.Route{NSID: "com.example.search", Handler: xrpc.RawQuery(func(w http.ResponseWriter, r *xrpc.Request, _ struct{}) error {
		return xrpc.WriteJSON(w, http.StatusOK, struct{}{})
	})})

	// The server is behind a proxy on the same machine.
	handler := limit.PrivateNetworks().Handler(srv)
	for range 3 {
		r := httptest.NewRequest("GET", "/xrpc/com.example.search", nil)
		r.RemoteAddr = "127.0.0.1:1234"
		r.Header.Set("X-Forwarded-For", "192.0.2.7")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("RateLimit-Remaining"), "left")
	}
	// Output:
	// 200 1 left
	// 200 0 left
	// 429 0 left
}
