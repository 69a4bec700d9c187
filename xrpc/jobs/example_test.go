package jobs_test

import (
	"context"
	"fmt"
	"net/http/httptest"

	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/jobs"
)

func Example() {
	// On the server.
	thumbnails, err := queue.New(queue.Config{KV: memory.New(memory.Config{}).KV, Name: "thumbnails"})
	if err != nil {
		panic(err)
	}
	methods := &xrpc.Server{}
	methods.Handle(jobs.Routes(jobs.Config{Queues: []*queue.Queue{thumbnails}, Auth: jobs.Auth(admin, nil)})...)
	srv := httptest.NewServer(methods)
	defer srv.Close()

	// On another machine.
	client := &jobs.Client{XRPC: &xrpc.Client{Host: srv.URL, Authorize: password}, Queue: "thumbnails"}
	ctx, stop := context.WithCancel(context.Background())
	if _, err := client.Send(ctx, queue.Message{Body: []byte("picture 1")}); err != nil {
		panic(err)
	}
	err = queue.Consume(ctx, client, queue.Consumer{Handle: func(_ context.Context, job *queue.Job) error {
		fmt.Printf("%s\n", job.Body)
		stop()
		return nil
	}})
	if err != nil {
		panic(err)
	}
	// Output: picture 1
}
