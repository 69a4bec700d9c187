package queue_test

import (
	"context"
	"fmt"

	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/queue"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	store := memory.New(memory.Config{})
	q, err := queue.New(queue.Config{KV: store.KV, Name: "mail"})
	if err != nil {
		panic(err)
	}
	// Mails to one person arrive in their order.
	_, err = q.Send(ctx,
		queue.Message{Key: "alice", Body: []byte("Hello")},
		queue.Message{Key: "alice", Body: []byte("Goodbye")},
	)
	if err != nil {
		panic(err)
	}
	err = q.Consume(ctx, queue.Consumer{Handle: func(ctx context.Context, job *queue.Job) error {
		fmt.Printf("to %s: %s\n", job.Key, job.Body)
		if string(job.Body) == "Goodbye" {
			stop()
		}
		return nil
	}})
	fmt.Println(err)
	// Output:
	// to alice: Hello
	// to alice: Goodbye
	// <nil>
}
