package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// inviteCodes serves one method.
func inviteCodes(ctx context.Context, r *xrpc.Request, in api.ServerCreateInviteCodeInput) (out api.ServerCreateInviteCodeOutput, err error) {
	if in.UseCount > 10 {
		return out, xrpc.InvalidRequest("An invite code has at most 10 uses")
	}
	out.Code = fmt.Sprintf("example-%d", in.UseCount)
	return out, nil
}

// A handler takes and returns the types of its method. A client has a function for the method.
func Example() {
	srv := &xrpc.Server{Catalog: lexicon.Builtin()}
	srv.Handle(xrpc.Route{NSID: api.ServerCreateInviteCodeNSID, Handler: xrpc.Procedure(inviteCodes)})
	web := httptest.NewServer(srv)
	defer web.Close()

	client := &xrpc.Client{Host: web.URL}
	out, err := api.ServerCreateInviteCode(context.Background(), client, api.ServerCreateInviteCodeInput{UseCount: 3})
	fmt.Println(out.Code, err)
	_, err = api.ServerCreateInviteCode(context.Background(), client, api.ServerCreateInviteCodeInput{UseCount: 11})
	fmt.Println(errors.Is(err, &xrpc.Error{Name: "InvalidRequest"}))
	// Output:
	// example-3 <nil>
	// true
}
